"""A report's card beside others: whose difference, its interval, Holm's p, and what cannot be compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cards import make_card, make_scores, make_table, sha, write_card
from scipy import stats

from palette_bench.board.compare import rivals
from palette_bench.board.record import VerifiedCard
from palette_bench.board.report import write_report
from palette_bench.core.errors import IncomparableError

IDS = [f"p{at}" for at in range(40)]
KEY = "perceptual_distance"


def test_the_difference_is_this_card_minus_the_other_with_its_t_interval() -> None:
    ours, theirs = make_table(IDS, 12.0, seed=1), make_table(IDS, 20.0, seed=2)
    card = make_card(ours, scores=make_scores(40, level=12.0))
    other = make_card(theirs, "copy-input", scores=make_scores(40, level=20.0))
    found = rivals(VerifiedCard(card, ours), [VerifiedCard(other, theirs)], [KEY])[0]
    test = stats.ttest_rel(ours[KEY], theirs[KEY])
    reach = test.confidence_interval(0.95)
    assert found.role == "floor"
    gap = found.gaps[0]
    assert gap is not None
    assert gap.value == "20.0"
    low, high = (f"\N{MINUS SIGN}{abs(x):.2f}" for x in (reach.low, reach.high))
    assert (gap.delta, gap.reach) == ("\N{MINUS SIGN}8.00", f"{low} to {high}")
    assert gap.verdict == "differs, p < 0.001"


def test_p_is_corrected_over_the_column_and_equal_cards_are_not_told_apart() -> None:
    ours = make_table(IDS, 12.0, seed=1)
    near = ours.assign(perceptual_distance=ours[KEY] + np.random.default_rng(3).normal(0.35, 1.0, 40))
    near_level = float(near[KEY].mean())
    card, twin = make_card(ours, scores=make_scores(40)), make_card(ours, "twin", scores=make_scores(40))
    other = make_card(near, "near", scores=make_scores(40, level=near_level))
    p = stats.ttest_rel(ours[KEY], near[KEY]).pvalue
    assert 0.001 < p < 0.5
    mine, others = VerifiedCard(card, ours), [VerifiedCard(other, near), VerifiedCard(twin, ours)]
    alone = rivals(mine, others[:1], [KEY])[0].gaps[0]
    both = [r.gaps[0] for r in rivals(mine, others, [KEY])]
    assert alone is not None
    assert alone.verdict.endswith(f"p = {p:.3f}")
    assert both[0] is not None
    assert both[0].verdict.endswith(f"p = {min(1, 2 * p):.3f}")
    assert both[1] is not None
    assert both[1].verdict == "not told apart, p = 1.000"


def test_a_metric_the_other_lacks_is_a_dash_and_an_unusable_column_says_why() -> None:
    ours = make_table(IDS)
    scores = make_scores(40)
    bare = make_card(ours, "bare", scores={"psnr": scores["psnr"]})
    card = make_card(ours, scores=scores)
    others = [VerifiedCard(bare, ours), VerifiedCard(card, ours.assign(top1=0.5))]
    gaps = rivals(VerifiedCard(card, ours), others, [KEY, "classification_agreement"])
    assert gaps[0].gaps == (None, None)
    told = gaps[1].gaps[1]
    assert told is not None
    assert told.delta == "not tested"


def test_cards_of_another_set_are_refused_and_anchors_are_on_the_page(tmp_path: Path) -> None:
    card = write_card(tmp_path)
    floor = write_card(tmp_path, "copy-input", seed=3, scores=make_scores(30, 14.0))
    write_report(card, tmp_path / "r.html", against=[floor])
    text = (tmp_path / "r.html").read_text()
    assert "Beside others" in text
    assert "<small>floor</small>" in text
    foreign = write_card(tmp_path, "foreign", fingerprints={"set": sha("another")})
    with pytest.raises(IncomparableError, match="PB602"):
        write_report(card, tmp_path / "s.html", against=[foreign])
    assert not (tmp_path / "s.html").exists()
