"""The two-way interval: by brute force, by symmetry, by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from palette_bench.core.intervals import wilson
from palette_bench.study import two_way
from palette_bench.study.two_way import Votes


def crossed(
    raters: int, trials: int, images: int, logit: float = 0.0, seed: int = 0, sd: float = 0.8
) -> Votes:
    """Return votes of raters who each judge some of the images, with habits of raters and of images."""
    draws = np.random.default_rng(seed)
    shown = np.array([draws.permutation(images)[:trials] for _ in range(raters)])
    who = np.repeat(np.arange(raters), trials)
    score = logit + draws.normal(0, 0.5, raters)[who] + draws.normal(0, sd, images)[shown.ravel()]
    chosen = (draws.random(raters * trials) < 1 / (1 + np.exp(-score))).astype(np.int64)
    return Votes(chosen, who, shown.ravel())


def by_hand(chosen: list[float], raters: list[int], images: list[int]) -> tuple[float, float, float]:
    """Return V_R, V_I and V_0 from the definition: pairs of trials that share a rater, an image, or both."""
    n = len(chosen)
    r, j = len(set(raters)), len(set(images))
    pairs = [(s, t) for s in range(n) for t in range(n)]
    v_r = r / (r - 1) * sum(chosen[s] * chosen[t] for s, t in pairs if raters[s] == raters[t])
    v_i = j / (j - 1) * sum(chosen[s] * chosen[t] for s, t in pairs if images[s] == images[t])
    v_0 = sum(chosen[s] * chosen[t] for s, t in pairs if (raters[s], images[s]) == (raters[t], images[t]))
    return v_r, v_i, v_0


@pytest.mark.parametrize("seed", range(4))
def test_the_share_is_the_formula_by_brute_force(seed: int) -> None:
    votes = crossed(7, 9, 12, -0.4, seed)
    n, f = 63, votes.chosen.mean()
    v_r, v_i, v_0 = by_hand(list((votes.chosen - f) / n), list(votes.raters), list(votes.images))
    v = max(v_r + v_i - v_0, v_r, v_i)
    n_e = min(n, f * (1 - f) / v)
    q = stats.t.ppf(0.975, 6)
    middle = f + q**2 / (2 * n_e)
    half = q * math.sqrt(f * (1 - f) / n_e + q**2 / (4 * n_e**2))
    found = two_way.share(votes)
    assert (found.value, found.n, found.raters, found.images) == (pytest.approx(f), 63, 7, 12)
    assert found.se == pytest.approx(math.sqrt(v))
    assert found.effective == pytest.approx(n_e)
    assert (found.low, found.high) == pytest.approx(
        ((middle - half) / (1 + q**2 / n_e), (middle + half) / (1 + q**2 / n_e))
    )


def test_the_difference_is_the_formula_by_brute_force() -> None:
    one, other = crossed(6, 8, 10, 0.6, 1), crossed(6, 8, 10, -0.6, 2)
    parts = [
        *((one.chosen - one.chosen.mean()) / 48),
        *(-(other.chosen - other.chosen.mean()) / 48),
    ]
    v_r, v_i, v_0 = by_hand(parts, [*one.raters, *other.raters], [*one.images, *other.images])
    v = max(v_r + v_i - v_0, v_0)
    found = two_way.difference(one, other)
    assert found is not None
    assert found.delta == pytest.approx(one.chosen.mean() - other.chosen.mean())
    assert found.se == pytest.approx(math.sqrt(v))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(found.delta) / found.se, 5))


def test_a_method_does_not_differ_from_itself_and_swapping_turns_the_sign() -> None:
    one, other = crossed(10, 20, 50, seed=3), crossed(10, 20, 50, 1.0, seed=4)
    assert two_way.difference(one, one) is None
    there, back = two_way.difference(one, other), two_way.difference(other, one)
    assert there is not None
    assert back is not None
    assert (there.delta, there.se, there.p) == pytest.approx((-back.delta, back.se, back.p))


@pytest.mark.parametrize("seed", range(3))
def test_row_order_and_the_numbers_of_raters_and_images_do_not_matter(seed: int) -> None:
    votes = crossed(9, 15, 40, 0.3, seed)
    draws = np.random.default_rng(seed)
    order, names, ids = draws.permutation(135), draws.permutation(200)[:9], draws.permutation(300)[:40]
    moved = Votes(votes.chosen[order], names[votes.raters[order]], ids[votes.images[order]])
    found, expected = two_way.share(moved), two_way.share(votes)
    assert (found.low, found.high, found.se) == pytest.approx((expected.low, expected.high, expected.se))


def test_choosing_the_other_image_everywhere_mirrors_the_interval() -> None:
    votes = crossed(9, 15, 40, 0.8)
    found, mirrored = two_way.share(votes), two_way.share(Votes(1 - votes.chosen, votes.raters, votes.images))
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_one_vote_per_rater_and_image_comes_close_to_wilson() -> None:
    chosen = (np.arange(4000) % 10 < 3).astype(np.int64)
    alone = np.arange(4000)
    found, classic = two_way.share(Votes(chosen, alone, alone)), wilson(1200, 4000)
    assert found.design_effect == pytest.approx(1, abs=1e-3)
    assert (found.low, found.high) == pytest.approx((classic.low, classic.high), abs=1e-4)


@pytest.mark.parametrize("answer", [0, 1])
def test_votes_without_any_variation_count_as_the_smaller_of_raters_and_images(answer: int) -> None:
    votes = crossed(8, 10, 30)
    found = two_way.share(Votes(np.full(80, answer), votes.raters, votes.images))
    q2 = stats.t.ppf(0.975, 7) ** 2
    assert found.effective == 8
    assert found.high - found.low == pytest.approx(q2 / 8 / (1 + q2 / 8))
    assert answer in (found.low, found.high)


def test_copies_of_a_rater_do_not_narrow_the_interval_as_new_raters_would() -> None:
    votes = crossed(20, 20, 60)
    twice = Votes(*(np.concatenate([part, part]) for part in (votes.chosen, votes.raters, votes.images)))
    found, expected = two_way.share(twice), two_way.share(votes)
    assert found.high - found.low > 0.95 * (expected.high - expected.low)


@pytest.mark.slow
def test_the_interval_covers_the_truth_as_promised() -> None:
    draws = np.random.default_rng(0).normal(0, math.hypot(0.8, 0.5), 400_000)
    truth = float((1 / (1 + np.exp(0.1 - draws))).mean())
    runs = [two_way.share(crossed(50, 50, 100, -0.1, seed)) for seed in range(600)]
    assert 0.92 <= np.mean([run.low <= truth <= run.high for run in runs]) <= 0.98


@pytest.mark.slow
def test_the_difference_of_two_methods_covers_the_truth_as_promised() -> None:
    covered = []
    for seed in range(600):
        draws = np.random.default_rng(seed)
        who, rater_effect = np.repeat(np.arange(20), 60), draws.normal(0, 0.5, 20)
        shown = np.concatenate([draws.permutation(200)[:60] for _ in range(20)])
        first = np.tile(np.arange(60) < 30, 20)
        votes = []
        for mine in (first, ~first):
            score = -0.2 + rater_effect[who] + draws.normal(0, 0.8, 200)[shown]
            chosen = (draws.random(1200) < 1 / (1 + np.exp(-score))).astype(np.int64)
            votes.append(Votes(chosen[mine], who[mine], shown[mine]))
        found = two_way.difference(*votes)
        assert found is not None
        covered.append(found.p >= 0.05)  # the two methods are equally good
    assert 0.92 <= np.mean(covered) <= 0.98
