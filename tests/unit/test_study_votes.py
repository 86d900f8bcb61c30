"""Votes: bad rows by line, exclusions one rule at a time, and what the numbers must be."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plans import frozen_study
from scipy import stats
from votes import NAMES, STUDY, crowd_of, session, simulated, vote

from palette_bench.core.errors import InputError, RecordError
from palette_bench.core.significance import holm
from palette_bench.study import statistics
from palette_bench.study.analysis import analyse
from palette_bench.study.exclusions import RATER_RULES, PlatformCounts, screen, side_p
from palette_bench.study.results import Flow
from palette_bench.study.statistics import (
    AnsweredTrials,
    image_rates,
    sides,
    slope,
    trials_of,
    variance_shares,
)
from palette_bench.study.two_way import Votes
from palette_bench.study.votes import Vote, rater_id, read_votes, write_votes

# files


def test_votes_survive_being_written_and_read_in_any_order(tmp_path: Path) -> None:
    votes = [*simulated(3), vote(rater=NAMES[9], choice="", rt_ms=None, shown_ms=None)]
    write_votes(tmp_path / "a.csv", votes)
    write_votes(tmp_path / "b.csv", reversed(votes))
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    found = read_votes(tmp_path / "a.csv", STUDY)
    assert {v.model_dump_json() for v in found} == {v.model_dump_json() for v in votes}
    unanswered = next(v for v in found if v.rater == NAMES[9])
    assert (unanswered.choice, unanswered.chose_model) == ("", None)


def edited(tmp_path: Path, line: int, column: str, text: str) -> list[tuple[str, str, tuple[str, ...]]]:
    """Return code, column and lines of the problems of votes with one cell replaced."""
    path = tmp_path / "votes.csv"
    write_votes(path, simulated(1))
    rows = [row.split(",") for row in path.read_text().splitlines()]
    rows[line - 1][rows[0].index(column)] = text
    path.write_text("\n".join(map(",".join, rows)) + "\n")
    with pytest.raises(RecordError) as caught:
        read_votes(path, STUDY)
    return [(p.code, p.where.removeprefix("votes.csv: "), p.ids) for p in caught.value.problems]


@pytest.mark.parametrize(
    ("column", "text", "code", "where"),
    [
        ("rt_ms", "fast", "PB501", "rt_ms"),
        ("rt_ms", "-5", "PB501", "rt_ms"),
        ("choice", "X", "PB501", "choice"),
        ("decoded", "2", "PB501", "decoded"),
        ("dpr", "nan", "PB501", "dpr"),
        ("rater", "Bob", "PB501", "rater"),
        ("day", "yesterday", "PB501", "day"),
        ("source", "mturk", "PB501", "source"),
        ("chose_model", "", "PB501", "row"),
        ("study_id", "st_000000000000", "PB502", "study_id"),
        ("image_id", "elsewhere", "PB502", "image_id"),
        ("method", "nobody", "PB502", "method"),
        ("trial", "999", "PB502", "trial"),
        ("trial", "11", "PB503", "trial"),
    ],
)
def test_a_bad_row_is_named_by_its_line(
    tmp_path: Path, column: str, text: str, code: str, where: str
) -> None:
    assert edited(tmp_path, 14, column, text) == [(code, where, ("line 14",))]


def test_missing_columns_are_named_unknown_ones_ignored_and_equal_rows_count_once(tmp_path: Path) -> None:
    path = tmp_path / "votes.csv"
    write_votes(path, simulated(1))
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([f"{lines[0]},note", *(f"{row},x" for row in lines[1:]), f"{lines[1]},y"]) + "\n\n"
    )
    assert len(read_votes(path, STUDY)) == STUDY.trials
    path.write_text("\n".join(row.rpartition(",")[0] for row in lines) + "\n")
    with pytest.raises(RecordError, match=r"PB510[\s\S]*a column day"):
        read_votes(path, STUDY)
    path.write_bytes(b"\xff\xfe,")
    with pytest.raises(RecordError, match="PB401"):
        read_votes(path, STUDY)


def test_a_vote_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="chose_model must be 1"):
        vote(choice="R", chose_model=0)


def test_rater_ids_are_keyed_and_short() -> None:
    assert rater_id("a" * 64, "W1") == rater_id("a" * 64, "W1") != rater_id("b" * 64, "W1")
    assert len(rater_id("a" * 64, "W1")) == 16


# exclusions: one synthetic rater per rule


def adds_up(flow: Flow) -> bool:
    return flow.started == sum(flow.excluded.values()) + flow.analysed and flow.trials_shown == (
        flow.trials_unanswered
        + sum(flow.trials_invalid.values())
        + flow.trials_of_excluded
        + flow.trials_analysed
    )


def spoiled(rule: str) -> list[Vote]:
    """Return the session of a rater who breaks one rule."""
    own = session(20)
    match rule:
        case "repeated session":
            return [*own, vote(rater=NAMES[20], session="again", trial=20)]
        case "catch trials":
            wrong = {v.trial: v for v in own if v.kind == "catch"}
            fooled = list(wrong)[:2]
            return [
                vote(**(v.model_dump() | {"choice": "RL"[v.trial % 2], "chose_model": 1}))
                if v.trial in fooled
                else v
                for v in own
            ]
        case "too fast":
            return session(20, rt_ms=249)
        case "one side":
            return [
                vote(**(v.model_dump() | {"choice": "L", "chose_model": int(v.real_side == "R")}))
                if v.kind == "test"
                else v
                for v in own
            ]
        case _:
            cut = STUDY.practice + STUDY.catch + 9  # 31 of 40 trials count, under 80 %
            return [v.model_copy(update={"focus_lost": int(v.trial < cut)}) for v in own]


@pytest.mark.parametrize("rule", RATER_RULES)
def test_each_rule_excludes_its_rater_and_nobody_else(rule: str) -> None:
    found = screen([*simulated(), *spoiled(rule)], STUDY)
    assert [(e.rater, e.reasons) for e in found.excluded] == [(NAMES[20], (rule,))]
    assert found.flow.excluded[rule] == 1  # type: ignore[index]  # a literal
    assert (found.flow.started, found.flow.analysed) == (9, 8)
    assert adds_up(found.flow)
    assert all(v.rater != NAMES[20] for v in found.kept)


def test_raters_just_inside_every_limit_stay() -> None:
    edge = session(20, rt_ms=250, shown_ms=3150)
    one_catch_wrong = next(v.trial for v in edge if v.kind == "catch")
    cut = STUDY.practice + STUDY.catch + 8  # 32 of 40 trials count: 80 %
    edge = [
        vote(**(v.model_dump() | {"choice": "RL"[v.trial % 2], "chose_model": 1}))
        if v.trial == one_catch_wrong
        else v.model_copy(update={"focus_lost": int(v.kind == "test" and v.trial < cut)})
        for v in edge
    ]
    edge[-1] = edge[-1].model_copy(update={"rt_ms": 1})  # one quick answer does not move the median
    found = screen(edge, STUDY)
    assert found.excluded == ()
    assert found.flow.trials_invalid["focus lost"] == 8


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"decoded": 0}, "not decoded"),
        ({"shown_ms": 3151}, "timing"),
        ({"shown_ms": 2849}, "timing"),
        ({"shown_ms": None}, "timing"),
        ({"focus_lost": 1}, "focus lost"),
    ],
)
def test_a_spoiled_trial_leaves_alone(change: dict[str, int | None], reason: str) -> None:
    votes = simulated()
    at = next(i for i, v in enumerate(votes) if v.kind == "test")
    votes[at] = votes[at].model_copy(update=change)
    found = screen(votes, STUDY, PlatformCounts(invited=30, consented=20, withdrawn=1))
    assert found.flow.trials_invalid[reason] == 1  # type: ignore[index]  # a literal
    assert found.flow.trials_analysed == 8 * STUDY.test_trials - 1
    assert (found.flow.invited, found.flow.consented, found.flow.withdrawn) == (30, 20, 1)
    assert adds_up(found.flow)


def test_unanswered_trials_are_counted_and_never_zero() -> None:
    votes = simulated(rate=1.0)
    blank = {"choice": "", "chose_model": None, "rt_ms": None, "shown_ms": None}
    votes = [v.model_copy(update=blank) if v.kind == "test" and v.trial % 20 == 11 else v for v in votes]
    found = analyse(STUDY, votes).analysis
    assert found.flow.trials_unanswered == sum(m.unanswered for m in found.methods) == 8 * 2
    assert [m.rate.value for m in found.methods] == [100, 100]
    assert adds_up(found.flow)


def test_a_rater_with_several_faults_is_counted_once_under_the_first() -> None:
    votes = [*simulated(), *session(20, rt_ms=1, focus_lost=1)]
    found = screen(votes, STUDY)
    assert found.excluded[0].reasons == ("too fast", "too few valid")
    assert sum(found.flow.excluded.values()) == 1


def test_an_attentive_guesser_and_an_honest_rater_pass_as_promised() -> None:
    assert stats.binom.sf(6, 8, 0.5) == pytest.approx(0.035, abs=5e-4)
    assert stats.binom.sf(6, 8, 0.97) == pytest.approx(0.978, abs=5e-4)


@given(left=st.integers(0, 60), right=st.integers(0, 60))
def test_the_side_test_is_the_exact_binomial(left: int, right: int) -> None:
    n = left + right
    expected = stats.binomtest(left, n, 0.5).pvalue if n else 1.0
    assert side_p(left, n) == pytest.approx(expected, abs=1e-12)


# analysis


def test_both_results_are_given_and_rows_in_any_order_say_the_same() -> None:
    votes = [*simulated(rate=0.3), *[v for n in range(20, 23) for v in session(n, 1.0, rt_ms=50)]]
    found = analyse(STUDY, votes).analysis
    assert found == analyse(STUDY, list(reversed(votes))).analysis
    for method in found.methods:
        assert method.rate.n == 8 * 20
        assert method.before.n == 11 * 20
        assert method.before.chosen == method.rate.chosen + 60
        assert method.rate.value == pytest.approx(100 * method.rate.chosen / 160)
    assert found.digest() == found.content_sha256


def test_swapping_left_and_right_everywhere_changes_only_the_side_rates() -> None:
    votes = simulated(rate=0.4)
    turn = {"L": "R", "R": "L"}
    swapped = [v.model_copy(update={"real_side": turn[v.real_side], "choice": turn[v.choice]}) for v in votes]
    here, there = analyse(STUDY, votes).analysis, analyse(STUDY, swapped).analysis
    for one, other in zip(here.methods, there.methods, strict=True):
        assert one.rate == other.rate
        assert one.sides is not None
        assert other.sides is not None
        assert one.sides.original_left == other.sides.original_right
        assert one.sides.d_prime == pytest.approx(other.sides.d_prime)
        assert one.sides.chose_left == pytest.approx(100 - other.sides.chose_left)
    assert here.pairs == there.pairs


def test_before_the_stop_rule_nobody_looks_unless_the_result_says_so() -> None:
    votes = simulated(7)
    with pytest.raises(InputError, match=r"PB508[\s\S]*8 raters[\s\S]*7"):
        analyse(STUDY, votes)
    assert analyse(STUDY, votes, peek=True).analysis.peeked
    assert not analyse(STUDY, simulated(8), peek=True).analysis.peeked
    with pytest.raises(InputError, match="PB501"):
        analyse(STUDY, [], peek=True)


def test_too_few_raters_or_images_give_counts_only() -> None:
    few = frozen_study(images=60, raters=4, trials_per_method=20)
    found = analyse(few, simulated(4, study=few)).analysis
    assert [m.rate.value for m in found.methods] == [None, None]
    assert found.methods[0].rate.n == 80
    assert [p.code for p in found.problems] == ["PB506"]
    assert found.pairs == ()


def test_a_small_study_and_simulated_votes_say_so() -> None:
    found = analyse(STUDY, [v.model_copy(update={"source": "simulated"}) for v in simulated()]).analysis
    assert found.simulated
    assert [p.code for p in found.problems] == ["PB507"]
    assert found.notices[0].startswith("A small study: 8 raters")


def test_pairs_carry_holms_correction() -> None:
    study = frozen_study(4, images=100, raters=8, trials_per_method=25)
    rates = {slug: 0.2 + 0.15 * at for at, slug in enumerate(study.slugs)}
    votes = crowd_of(study, rates)
    found = analyse(study, votes).analysis
    assert len(found.pairs) == 6
    assert [p.p_holm for p in found.pairs] == pytest.approx(holm([p.p for p in found.pairs]))
    for pair in found.pairs:
        assert pair.low < pair.delta < pair.high
        assert (pair.p < 0.05) == (not pair.low <= 0 <= pair.high)


def trials(chosen: list[int], left: list[int], raters: list[int] | None = None) -> AnsweredTrials:
    n = len(chosen)
    codes = np.array(raters if raters is not None else range(n))
    return AnsweredTrials(Votes(np.array(chosen), codes, np.arange(n)), np.array(left), np.arange(n))


def test_d_prime_by_hand() -> None:
    # original left: 8 of 10 choose left; original right: 3 of 10 choose left
    chosen = [0] * 8 + [1] * 2 + [1] * 3 + [0] * 7
    found = sides(trials(chosen, [1] * 10 + [0] * 10))
    assert found.original_left == pytest.approx(20)
    assert found.original_right == pytest.approx(30)
    assert found.chose_left == pytest.approx(55)
    assert found.d_prime == pytest.approx((stats.norm.ppf(0.8) - stats.norm.ppf(0.3)) / math.sqrt(2))


def test_d_prime_is_free_of_a_side_habit_and_finite_at_the_ends() -> None:
    habit = sides(trials([0] * 10 + [1] * 10, [1] * 10 + [0] * 10))  # always left
    assert habit.chose_left == 100
    assert habit.d_prime == pytest.approx(0)
    sharp = sides(trials([0] * 20, [1] * 10 + [0] * 10))  # always right
    assert sharp.d_prime == pytest.approx(2 * stats.norm.ppf(0.95) / math.sqrt(2))


def test_variance_shares_find_what_the_votes_were_made_of() -> None:
    draws = np.random.default_rng(5)
    raters, images = 150, 150
    score = draws.normal(0, 0.5, raters)[:, None] + draws.normal(0, 0.8, images)
    chosen = (draws.random((raters, images)) < 1 / (1 + np.exp(-score))).astype(np.int64)
    who, what = np.indices(chosen.shape)
    found = variance_shares(Votes(chosen.ravel(), who.ravel(), what.ravel()))
    assert found is not None
    assert found.raters == pytest.approx(0.044, abs=0.015)
    assert found.images == pytest.approx(0.114, abs=0.03)
    assert found.raters + found.images + found.rest == pytest.approx(1)
    assert variance_shares(Votes(np.ones(4, np.int64), np.arange(4), np.arange(4))) is None


def test_the_slope_is_found_within_raters() -> None:
    draws = np.random.default_rng(6)
    order = np.tile(np.arange(100), 200)
    who = np.repeat(np.arange(200), 100)
    base = draws.normal(0.6, 0.1, 200)[who]
    chosen = (draws.random(20_000) < base - 0.002 * order).astype(np.int64)
    found = slope(AnsweredTrials(Votes(chosen, who, order), order % 2, order), STUDY)
    assert found is not None
    assert found.per_ten_trials == pytest.approx(-2.0, abs=0.35)
    assert found.low < -2.0 < found.high


def test_images_are_counted_and_extremes_need_five_votes() -> None:
    ids = [f"i{n}" for n in range(6)]
    images = np.repeat(np.arange(5), [6, 5, 5, 4, 7])
    chosen = np.concatenate([np.arange(n) < k for n, k in ((6, 6), (5, 0), (5, 2), (4, 4), (7, 6))])
    rates = image_rates(Votes(chosen.astype(np.int64), images, images), "painter", ids)
    assert [(r.image_id, r.votes, r.chosen) for r in rates][:2] == [("i0", 6, 6), ("i1", 5, 0)]
    most, least = statistics.extremes(rates)
    assert [r.image_id for r in most] == ["i0", "i4"]
    assert [r.image_id for r in least] == ["i1", "i2"]


def test_equivalence_needs_the_narrow_interval_inside_the_margin() -> None:
    study = frozen_study(1, images=400, raters=150, trials_per_method=100)
    raters = {name: at for at, name in enumerate(NAMES)}
    images = {i: at for at, i in enumerate(study.image_ids)}

    def verdict(rate: float, count: int) -> tuple[str, str]:
        votes = [v for n in range(count) for v in session(n, rate, study)]
        found = statistics.equivalence(trials_of(votes, "method-0", raters, images).votes, study)
        return found.verdict, found.beyond

    assert verdict(0.5, 60)[0] == "indistinguishable"
    assert verdict(0.5, 6) == ("undecided", "")
    assert verdict(0.3, 20) == ("below", "below")
    assert verdict(0.7, 20) == ("above", "above")
