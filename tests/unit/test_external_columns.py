"""Numbers of other programs on cards: of exactly the card's images, with interval and test, never ranked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cards import write_card
from scipy import stats

from palette_bench.board.compare import compare
from palette_bench.board.compare_page import write_comparison
from palette_bench.board.leaderboard import Leaderboard
from palette_bench.board.record import add_card, read_proven, read_record
from palette_bench.board.report import write_report
from palette_bench.board.site import build_site
from palette_bench.core.errors import RecordError, UsageError
from palette_bench.core.types import Direction
from palette_bench.scoring.external import ExternalColumn, add_column
from palette_bench.scoring.scorecard import Scorecard, read_scorecard

MUSIQ = ExternalColumn("musiq", "pyiqa 0.1.13", "higher")
KEY = "external:musiq@pyiqa 0.1.13"
IDS = [f"photo-{i:03d}" for i in range(30)]


def values_file(path: Path, seed: int = 0, ids: list[str] = IDS) -> Path:
    values = np.random.default_rng(seed).normal(50 + seed, 1, len(ids))
    pd.DataFrame({"image_id": ids, "value": values}).to_csv(path, index=False)
    return path


def widened(folder: Path, slug: str, seed: int, column: ExternalColumn = MUSIQ) -> Path:
    card = write_card(folder, slug, seed=seed)
    add_column(card, values_file(folder / f"{slug}.csv", seed), column, folder / f"{slug}-wide.json")
    return folder / f"{slug}-wide.json"


def test_the_mean_has_students_interval_and_the_card_proves_itself(tmp_path: Path) -> None:
    path = widened(tmp_path, "painter", 3)
    card, table = read_proven(path)
    given = pd.read_csv(tmp_path / "painter.csv")["value"]
    score = card.scores[KEY]
    expected = stats.t.interval(0.95, len(given) - 1, given.mean(), stats.sem(given))
    assert score.value == pytest.approx(given.mean(), rel=1e-12)
    assert (score.low, score.high) == pytest.approx(expected, rel=1e-9)
    assert table[KEY].tolist() == given.tolist()
    parent = read_scorecard(tmp_path / "painter.json")
    assert card.parents == (parent.content_sha256,)
    assert card.supersedes(parent)
    assert {k: v for k, v in card.scores.items() if k != KEY} == parent.scores


def test_rows_in_any_order_and_file_names_give_the_same_column(tmp_path: Path) -> None:
    card = write_card(tmp_path)
    values = values_file(tmp_path / "values.csv")
    rows = values.read_text().splitlines()
    shuffled = [rows[0], *(row.replace(",", ".png,") for row in reversed(rows[1:]))]
    (tmp_path / "shuffled.csv").write_text("\n".join(shuffled))
    found = [
        add_column(card, file, MUSIQ, tmp_path / f"{file.stem}.json").scores[KEY].value
        for file in (values, tmp_path / "shuffled.csv")
    ]
    assert found[0] == found[1]


def refused(tmp_path: Path, text: str) -> dict[str, tuple[str, ...]]:
    card = write_card(tmp_path, n=3)
    (tmp_path / "values.csv").write_text(text)
    with pytest.raises(RecordError) as caught:
        add_column(card, tmp_path / "values.csv", MUSIQ, tmp_path / "wide.json")
    assert not (tmp_path / "wide.json").exists()
    return {p.code: p.ids for p in caught.value.problems}


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    text = "image_id,value\nphoto-000,1\nphoto-000,2\nphoto-001,nan\nother,x\n"
    assert refused(tmp_path, text) == {
        "PB201": ("photo-002",),
        "PB202": ("other",),
        "PB203": ("photo-000",),
        "PB403": ("line 4", "line 5"),
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("id,value\nphoto-000,1\n", {"PB510": ("image_id",)}),
        ("image_id,value,value\nphoto-000,1,2\n", {"PB510": ("value",)}),
        ("", {"PB401": ()}),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, text: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert refused(tmp_path, text) == expected


def test_a_column_is_added_once(tmp_path: Path) -> None:
    path = widened(tmp_path, "painter", 0)
    with pytest.raises(RecordError, match="PB404"):
        add_column(path, tmp_path / "painter.csv", MUSIQ, tmp_path / "twice.json")
    other = ExternalColumn("musiq", "pyiqa 0.2.0", "higher")
    card = add_column(path, tmp_path / "painter.csv", other, tmp_path / "both.json")
    assert len(card.external) == 2


@pytest.mark.parametrize(("name", "source"), [("", "a 1"), ("MUSIQ", "a 1"), ("musiq", ""), ("musiq", "a@b")])
def test_names_are_parts_of_a_key(name: str, source: str) -> None:
    with pytest.raises(UsageError):
        ExternalColumn(name, source, "lower")


def test_two_cards_are_compared_by_scipys_paired_t_test(tmp_path: Path) -> None:
    one, other = (read_proven(widened(tmp_path, slug, seed)) for slug, seed in (("a-one", 0), ("b-two", 1)))
    (found,) = (m for m in compare(one, other).metrics if m.metric == KEY)
    expected = stats.ttest_rel(one.table[KEY], other.table[KEY])
    reach = expected.confidence_interval()
    assert found.test == "paired-t"
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((reach.low, reach.high), rel=1e-9)


@pytest.mark.parametrize(
    ("direction", "verdict"),
    [("higher", "B Two is better"), ("lower", "A One is better"), ("none", "told apart")],
)
def test_the_comparison_names_the_better_side_that_the_cards_state(
    tmp_path: Path, direction: Direction, verdict: str
) -> None:
    column = ExternalColumn("musiq", "pyiqa 0.1.13", direction)
    paths = [widened(tmp_path, slug, seed, column) for slug, seed in (("a-one", 0), ("b-two", 9))]
    write_comparison(*paths, tmp_path / "pair.html")
    row = (tmp_path / "pair.html").read_text().partition("musiq by pyiqa 0.1.13")[2].partition("</tr>")[0]
    assert f"<td>{verdict}<small>" in row


def test_cards_that_state_different_sides_are_not_tested(tmp_path: Path) -> None:
    one = read_proven(widened(tmp_path, "a-one", 0))
    other = read_proven(widened(tmp_path, "b-two", 1, ExternalColumn("musiq", "pyiqa 0.1.13", "lower")))
    (found,) = (m for m in compare(one, other).metrics if m.metric == KEY)
    assert (found.p, found.reason) == (None, "the cards state different better sides")


def test_a_report_shows_it_apart_and_beside_others(tmp_path: Path) -> None:
    paths = [widened(tmp_path, slug, seed) for slug, seed in (("a-one", 0), ("b-two", 9))]
    write_report(paths[0], tmp_path / "report.html", against=paths[1:])
    text = (tmp_path / "report.html").read_text()
    assert "Numbers of other programs, shown and never ranked" in text
    rivals = text.partition('class="rivals"')[2].partition("</table>")[0]
    assert "musiq by pyiqa 0.1.13" in rivals
    assert "differs, p &lt; 0.001" in rivals


def test_a_board_shows_the_widened_card_and_ranks_as_without_it(tmp_path: Path) -> None:
    record, plain = tmp_path / "record", tmp_path / "plain"
    for slug, seed in (("a-one", 0), ("b-two", 9)):
        wide = widened(tmp_path, slug, seed)
        add_card(tmp_path / f"{slug}.json", plain)
        for path in (tmp_path / f"{slug}.json", wide):
            add_card(path, record)
    assert len(read_record(record).cards) == 2
    for folder in (record, plain):
        build_site(folder, tmp_path / f"{folder.name}-site")
    (board,), (without,) = (
        Leaderboard.read(tmp_path / f"{folder.name}-site" / "leaderboard.json").boards
        for folder in (record, plain)
    )
    assert board.metrics == without.metrics
    assert [(r.slug, r.rank) for r in board.rows] == [(r.slug, r.rank) for r in without.rows]
    text = (tmp_path / "record-site" / board.page).read_text()
    assert "musiq by pyiqa 0.1.13" in text
    assert "higher is better, never ranked" in text


def test_a_card_with_a_foreign_score_does_not_supersede(tmp_path: Path) -> None:
    parent = read_scorecard(write_card(tmp_path))
    fields = {"parents": (parent.content_sha256,), "scores": parent.scores | {"psnr2": parent.scores["psnr"]}}
    card: Scorecard = parent.model_copy(update=fields)
    assert not card.supersedes(parent)
