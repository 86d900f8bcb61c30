"""Two cards compared: differences and intervals against scipy, ids by hand, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cards import card_of, make_card, make_scores, make_table, sha, write_card
from common import RunCli
from scipy import stats
from submissions import copied, plausible, submit

from palette_bench.board.compare import SHOWN, CardPair, compare
from palette_bench.board.compare_page import write_comparison
from palette_bench.board.record import VerifiedCard
from palette_bench.core.errors import IncomparableError, UsageError
from palette_bench.core.significance import holm
from palette_bench.scoring.scorecard import read_scorecard, write_scorecard

IDS = [f"p{i:03d}" for i in range(60)]


def proven(
    slug: str, seed: int, level: float = 12.0, frechet: float = 3.1, **changes: object
) -> VerifiedCard:
    table = make_table(IDS, level, seed)
    scores = make_scores(len(IDS), frechet, level)
    share = 100 * table["top1"].mean()  # so that this metric is tested, too
    scores["classification_agreement"] = scores["classification_agreement"].model_copy(
        update={"value": share}
    )
    return VerifiedCard(make_card(table, slug, **({"scores": scores} | changes)).signed(), table)


def metric(pair: CardPair, name: str) -> object:
    return next(m for m in pair.metrics if m.metric == name)


def test_the_paired_t_and_its_interval_are_scipy_s() -> None:
    first, second = proven("aa", 0, 12.0), proven("bb", 1, 14.0)
    found = metric(compare(first, second), "perceptual_distance")
    values = [side.table.sort_values("image_id")["perceptual_distance"] for side in (first, second)]
    expected = stats.ttest_rel(*values)
    interval = expected.confidence_interval(0.95)
    assert found.delta == pytest.approx(-2.0)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(expected.pvalue)


def test_the_influence_test_is_a_z_test() -> None:
    first, second = proven("aa", 0, frechet=3.1), proven("bb", 1, frechet=4.1)
    found = metric(compare(first, second), "frechet_distance")
    gap = first.table["fid_influence"] - second.table["fid_influence"]
    se = gap.std(ddof=1) / np.sqrt(len(gap))
    assert found.delta == pytest.approx(-1.0)
    assert found.high - found.delta == pytest.approx(stats.norm.ppf(0.975) * se)
    assert found.p == pytest.approx(2 * stats.norm.sf(1.0 / se))


def test_p_is_corrected_for_the_metrics_of_the_page() -> None:
    pair = compare(proven("aa", 0, 12.0), proven("bb", 1, 14.0))
    assert len(pair.metrics) == 4
    assert [m.p_holm for m in pair.metrics] == holm([m.p for m in pair.metrics])


def test_swapping_the_cards_turns_signs_and_sides() -> None:
    first, second = proven("aa", 0), proven("bb", 1, 14.0, 5.0)
    one, other = compare(first, second), compare(second, first)
    for here, there in zip(one.metrics, other.metrics, strict=True):
        assert (here.delta, here.low, here.high) == pytest.approx((-there.delta, -there.high, -there.low))
        assert here.p_holm == there.p_holm
    assert [c.image_id for c in one.first_better] == [c.image_id for c in other.second_better]


def test_the_largest_changes_each_way_by_hand() -> None:
    first, second = proven("aa", 0), proven("bb", 1)
    pair = compare(first, second)
    a, b = (side.table.set_index("image_id")["perceptual_distance"] for side in (first, second))
    change = (b - a).sort_values()
    assert [c.image_id for c in pair.second_better] == list(change[change < 0].index[:SHOWN])
    assert [c.image_id for c in pair.first_better] == list(change[change > 0].index[::-1][:SHOWN])
    assert len(pair.first_better) == SHOWN
    assert {c.image_id for c in pair.first_better}.isdisjoint(c.image_id for c in pair.second_better)


def test_equal_outputs_under_two_names_part_nowhere() -> None:
    first, second = proven("aa", 0), proven("bb", 0)
    pair = compare(first, second)
    assert pair.first_better == pair.second_better == ()
    assert not any(m.differs for m in pair.metrics)


@pytest.mark.parametrize(
    ("fingerprints", "code"),
    [
        ({"protocol": sha("other")}, "PB601"),
        ({"set": sha("other")}, "PB602"),
        ({"extractors": {"smoke-random": sha("other")}}, "PB603"),
        ({"references": {"frechet_distance": sha("other")}}, "PB604"),
    ],
)
def test_other_fingerprints_are_refused_by_code(fingerprints: dict[str, object], code: str) -> None:
    with pytest.raises(IncomparableError, match=code):
        compare(proven("aa", 0), proven("bb", 1, fingerprints=fingerprints))


def test_one_card_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="the same card"):
        compare(proven("aa", 0), proven("aa", 0))


def test_an_incomplete_card_is_shown_and_not_tested() -> None:
    table = make_table(IDS[1:], seed=1)
    part = VerifiedCard(make_card(table, "bb", n_expected=60).signed(), table)
    pair = compare(proven("aa", 0), part)
    assert all(m.delta is None and "lists other images" in m.reason for m in pair.metrics)
    assert pair.pictures == 59


def test_marked_cards_are_compared_with_their_mark(tmp_path: Path) -> None:
    notes = ("random-weights",)
    paths = [
        write_card(tmp_path, slug, seed=at, scores=make_scores(30, notes=notes))
        for at, slug in enumerate(("aa", "bb"))
    ]
    pair = write_comparison(*paths, tmp_path / "pair.html")
    assert pair.first.watermarks == notes
    assert "These numbers come from random weights" in (tmp_path / "pair.html").read_text()


def test_panels_stand_side_by_side_where_both_submissions_are_given(
    smoke_sets: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    benchset = smoke_sets / "jpeg.qf5"
    subs = [submit(benchset, tmp_path / name, draw) for name, draw in (("a", plausible), ("b", copied))]
    cards = [
        card_of(sub, benchset, tmp_path / f"{at}.json", scores=make_scores(12, 3.0 + at))
        for at, sub in enumerate(subs)
    ]
    table = pd.read_csv(tmp_path / "1.images.csv.gz")
    moved = table.assign(perceptual_distance=table["perceptual_distance"] + [*[1.0] * 7, *[-1.0] * 5])
    write_scorecard(read_scorecard(cards[1]), moved, cards[1])
    done = run_cli(
        "report", *cards, "--set", benchset, "--submission", subs[0], "--submission", subs[1], "-o", "p.html"
    )
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "p.html").read_text()
    assert page.count('class="panels four"') == 12
    assert page.count("data:image/webp") == 4 * 12
    swapped = run_cli(
        "report", *cards, "--set", benchset, "--submission", subs[1], "--submission", subs[0], "-o", "q.html"
    )
    assert swapped.returncode == 3
    assert "PB602" in swapped.stderr


def test_the_command_writes_the_page_and_its_twin_or_nothing(run_cli: RunCli, tmp_path: Path) -> None:
    first, second = write_card(tmp_path, "aa"), write_card(tmp_path, "bb", seed=1)
    done = run_cli("report", first, second, "-o", "pair.html", "--json", "pair.json")
    assert (done.returncode, done.stdout) == (0, "pair.html\n"), done.stderr
    assert CardPair.read(tmp_path / "pair.json").second.slug == "bb"
    foreign = write_card(tmp_path, "cc", seed=2, fingerprints={"set": sha("other")})
    done = run_cli("report", first, foreign, "-o", "none.html")
    assert done.returncode == 3
    assert "PB602" in done.stderr
    assert not (tmp_path / "none.html").exists()
    for options in (("--set", tmp_path), ("--submission", tmp_path), ("--seed", 1), ("--format", "dir")):
        assert run_cli("report", first, second, *options, "-o", "none.html").returncode == 2
    assert run_cli("report", first, "--json", "x.json", "-o", "none.html").returncode == 2
