"""Fool rates on cards, reports and boards: added, never edited; ranked by their study's own tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cards import make_card, make_table, write_card
from plans import frozen_study
from votes import crowd_of

from palette_bench.board.leaderboard import Leaderboard, assemble
from palette_bench.board.record import add_card, read_record
from palette_bench.board.report import write_report
from palette_bench.board.site import build_site
from palette_bench.core.errors import IncomparableError, RecordError
from palette_bench.scoring.scorecard import Scorecard, read_scorecard, write_scorecard
from palette_bench.study.analysis import analyse
from palette_bench.study.plan import Studied, Study
from palette_bench.study.results import Analysis
from palette_bench.study.scorecards import read_parents, write_cards

KEY = "fool_rate@3s"
RATES = {"painter": 0.46, "copier": 0.20, "smudger": 0.44}


def study_of(cards: dict[str, Scorecard]) -> Study:
    """Return the plan of a study of these very outputs."""
    first = next(iter(cards.values()))
    base = frozen_study(len(cards), images=150, raters=30, trials_per_method=40)
    methods = tuple(
        Studied(slug=slug, version=c.method.version, outputs=c.fingerprints.outputs)
        for slug, c in cards.items()
    )
    target = base.target.model_copy(update={"set": first.fingerprints.set})
    return base.model_copy(update={"methods": methods, "target": target})


@pytest.fixture
def old(tmp_path: Path) -> dict[str, Path]:
    """Cards of three methods, as scored."""
    return {slug: write_card(tmp_path / "old", slug, seed=at) for at, slug in enumerate(RATES)}


def analysed(old: dict[str, Path], source: str = "serve") -> Analysis:
    study = study_of({slug: read_scorecard(path) for slug, path in old.items()})
    return analyse(study, crowd_of(study, RATES, source=source)).analysis


def extend(old: dict[str, Path], out: Path, source: str = "serve") -> dict[str, Path]:
    found = analysed(old, source)
    paths = write_cards(read_parents(list(old.values()), found), found, out)
    return {path.stem: path for path in paths}


def board_of(record: Path) -> Leaderboard:
    return assemble(read_record(record))


def test_a_new_card_carries_the_rate_and_its_parent_and_the_old_one_stays(
    old: dict[str, Path], tmp_path: Path
) -> None:
    before = old["painter"].read_bytes()
    found = analysed(old)
    card = read_scorecard(extend(old, tmp_path / "new")["painter"])
    assert old["painter"].read_bytes() == before
    parent = read_scorecard(old["painter"])
    assert card.parents == (parent.content_sha256,)
    assert card.supersedes(parent)
    score, result = card.scores[KEY], found.methods[0].rate
    assert (score.value, score.low, score.high, score.n) == (result.value, result.low, result.high, result.n)
    assert (score.direction, score.unit, score.interval) == ("higher", "%", "twoway-wilson-v1")
    assert score.params["study"] == found.study
    assert set(score.params) >= {"display_ms", "raters", "images", "trials", "excluded"}


def test_cards_of_other_outputs_sets_or_methods_are_refused_together(
    old: dict[str, Path], tmp_path: Path
) -> None:
    found = analysed(old)
    strange = write_card(tmp_path, "stranger")
    other = write_card(tmp_path, "painter", seed=9)
    with pytest.raises(IncomparableError) as caught:
        read_parents([strange, other], found)
    assert [p.where for p in caught.value.problems] == ["stranger.json: method", "painter.json: outputs"]
    assert {p.code for p in caught.value.problems} == {"PB602"}


def test_a_board_shows_ranks_and_tells_apart_by_the_studys_tests(
    old: dict[str, Path], tmp_path: Path
) -> None:
    record = tmp_path / "record"
    for path in (*old.values(), *extend(old, tmp_path / "new").values()):
        add_card(path, record)
    board = board_of(record).boards[0]
    assert len(board.rows) == 3, "each method once, with its study"
    assert board.metrics[-1] == KEY
    ranks = {row.slug: row.rank[KEY] for row in board.rows}
    assert ranks == {"painter": (1, 2), "smudger": (1, 2), "copier": (3, 3)}
    build_site(record, tmp_path / "site")
    page = (tmp_path / "site" / board.page).read_text()
    assert "Fool rate, 3s" in page
    assert "the study that both were part of" in page


def test_methods_of_different_studies_are_not_told_apart(old: dict[str, Path], tmp_path: Path) -> None:
    record = tmp_path / "record"
    for slug in ("painter", "copier"):
        one = {slug: old[slug]}
        add_card(extend(one, tmp_path / slug)[slug], record)
    ranks = {row.slug: row.rank[KEY] for row in board_of(record).boards[0].rows}
    assert ranks == {"painter": (1, 2), "copier": (1, 2)}


def test_a_card_that_alone_claims_a_difference_wins_nothing(old: dict[str, Path], tmp_path: Path) -> None:
    record = tmp_path / "record"
    new = extend(old, tmp_path / "new")
    card = read_scorecard(new["smudger"])
    score = card.scores[KEY]
    rival = read_scorecard(old["painter"]).fingerprints.outputs
    claim = score.params["differences"] | {rival: {"delta": 30.0, "se": 1.0, "p": 1e-9, "n": 2400}}
    forged = score.model_copy(update={"value": 76.0, "params": score.params | {"differences": claim}})
    card.model_copy(update={"scores": card.scores | {KEY: forged}}).signed().write(new["smudger"])
    for path in new.values():
        add_card(path, record)
    ranks = {row.slug: row.rank[KEY] for row in board_of(record).boards[0].rows}
    assert ranks["smudger"] == (1, 2)
    assert ranks["painter"] == (1, 2)


@pytest.mark.parametrize("claim", ["all", {"x": 1}, {"0" * 64: {"delta": 1.0, "se": -1.0, "p": 0.1, "n": 9}}])
def test_differences_that_are_no_tests_bar_the_rate(
    old: dict[str, Path], tmp_path: Path, claim: object
) -> None:
    new = extend({"painter": old["painter"]}, tmp_path / "new")["painter"]
    card = read_scorecard(new)
    score = card.scores[KEY]
    forged = score.model_copy(update={"params": score.params | {"differences": claim}})
    card.model_copy(update={"scores": card.scores | {KEY: forged}}).signed().write(new)
    add_card(new, tmp_path / "record")
    (row,) = board_of(tmp_path / "record").boards[0].rows
    assert "differences that are no tests (PB408)" in row.no_rank[KEY]


def test_simulated_votes_never_rank(old: dict[str, Path], tmp_path: Path) -> None:
    record = tmp_path / "record"
    for path in extend(old, tmp_path / "new", "simulated").values():
        add_card(path, record)
    board = board_of(record).boards[0]
    assert board.rows == ()
    assert {(u.code, u.reason) for u in board.unranked} == {("PB507", "its votes are simulated (PB507)")}


def test_a_look_before_the_end_bars_the_rate_and_nothing_else(old: dict[str, Path], tmp_path: Path) -> None:
    study = study_of({slug: read_scorecard(path) for slug, path in old.items()})
    votes = crowd_of(study, RATES)
    last = max(v.rater for v in votes)
    early = analyse(study, [v for v in votes if v.rater != last], peek=True).analysis
    record = tmp_path / "record"
    for path in write_cards(read_parents(list(old.values()), early), early, tmp_path / "new"):
        add_card(path, record)
    for row in board_of(record).boards[0].rows:
        assert "peeked (PB608)" in row.no_rank[KEY]
        assert "frechet_distance" in row.rank


def test_a_study_adds_and_never_changes_what_stood(old: dict[str, Path], tmp_path: Path) -> None:
    record = tmp_path / "record"
    add_card(old["painter"], record)
    new = extend(old, tmp_path / "new")["painter"]
    card = read_scorecard(new)
    better = card.scores["frechet_distance"].model_copy(update={"value": 0.1})
    changed = card.model_copy(update={"scores": card.scores | {"frechet_distance": better}}).signed()
    changed.write(new)
    with pytest.raises(RecordError, match="PB404"):
        add_card(new, record)
    table = make_table([f"photo-{i:03d}" for i in range(30)], seed=0)
    thief = make_card(table, "thief", parents=(read_scorecard(old["painter"]).content_sha256,))
    write_scorecard(thief, table, tmp_path / "thief.json")
    add_card(tmp_path / "thief.json", record)
    assert {row.slug for row in board_of(record).boards[0].rows} == {"painter", "thief"}


def test_the_report_has_a_section_for_the_study(old: dict[str, Path], tmp_path: Path) -> None:
    new = extend(old, tmp_path / "new")["painter"]
    write_report(new, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert '<section id="votes">' in page
    assert "1,200 trials of 30 raters" in page
    write_report(old["painter"], tmp_path / "plain.html")
    assert '<section id="votes">' not in (tmp_path / "plain.html").read_text()


def test_missing_rates_leave_a_row_without_that_rank_alone(old: dict[str, Path], tmp_path: Path) -> None:
    record = tmp_path / "record"
    for path in (old["smudger"], *(extend(old, tmp_path / "new")[s] for s in ("painter", "copier"))):
        add_card(path, record)
    rows = {row.slug: row for row in board_of(record).boards[0].rows}
    assert "missing" in rows["smudger"].no_rank[KEY]
    assert np.ptp([r.rank[KEY][0] for r in rows.values() if KEY in r.rank]) == 1
