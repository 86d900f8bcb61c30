"""Closed-form intervals against SciPy and hand values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from palette_bench.core.intervals import influence_se, linear, log_linear, log_mean, mean_t, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 12), (9, 12), (7601, 10_000), (10, 10)])
def test_wilson_equals_scipy(successes: int, n: int) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
    found = wilson(successes, n)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


def test_wilson_of_half_by_hand() -> None:
    # centre 1/2; half width z sqrt(1/(4n) + z^2/(4n^2)) / (1 + z^2/n) with n = 4
    z = 1.959963984540054
    half = z * math.sqrt(1 / 16 + z * z / 64) / (1 + z * z / 4)
    found = wilson(2, 4)
    assert (found.low, found.high) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)
    assert found.se == pytest.approx(0.25)


@pytest.mark.parametrize("n", [2, 3, 40, 5_000])
def test_mean_t_equals_scipy(n: int) -> None:
    values = np.random.default_rng(n).normal(3.0, 2.0, n)
    low, high = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    found = mean_t(values)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-12)


def test_log_mean_is_the_exponential_of_a_normal_interval() -> None:
    values = np.array([0.0, 1.0, 2.0])  # mean 1, sd 1, se 1/sqrt 3
    reach = 1.959963984540054 / math.sqrt(3)
    found = log_mean(values)
    assert found is not None
    assert (found.low, found.high) == pytest.approx((math.exp(1 - reach), math.exp(1 + reach)), rel=1e-12)
    assert found.se == pytest.approx(math.e / math.sqrt(3), rel=1e-12)


def test_linear_reaches_two_standard_errors_about_a_value_that_is_no_mean() -> None:
    influence = np.array([-1.0, 0.0, 1.0])  # sd 1, se 1/sqrt 3
    reach = 1.959963984540054 / math.sqrt(3)
    found = linear(12.5, influence, "influence-v1")
    assert found is not None
    assert (found.low, found.high) == pytest.approx((12.5 - reach, 12.5 + reach), abs=1e-12)
    assert found.method == "influence-v1"
    shifted = linear(12.5, influence + 7.0, "influence-v1")
    assert shifted is not None
    assert shifted.se == pytest.approx(found.se, abs=1e-15)


def test_a_log_interval_is_the_linear_one_of_the_logarithm() -> None:
    influence = np.random.default_rng(1).normal(size=50)
    found, plain = log_linear(0.2, influence, "x"), linear(0.2, influence, "x")
    assert found is not None
    assert plain is not None
    assert found.se == plain.se
    ends = (
        math.log(0.2) - 1.959963984540054 * plain.se / 0.2,
        math.log(0.2) + 1.959963984540054 * plain.se / 0.2,
    )
    assert (math.log(found.low), math.log(found.high)) == pytest.approx(ends)
    for value in (0.0, -1e-12, 1e-9):  # no logarithm, or one that says nothing
        assert log_linear(value, influence, "x") == linear(value, influence, "x")


def test_one_value_has_no_interval() -> None:
    assert linear(1.0, np.array([0.0]), "ustat-v2") is None
    assert mean_t(np.array([1.0])) is None
    assert log_mean(np.array([1.0])) is None


def test_what_images_do_only_together_is_counted_once() -> None:
    """h_i is twice the mean over j of f(i) + f(j) + g(i, j), where g has mean 0 given either image."""
    draw, n, runs = np.random.default_rng(5), 60, 300
    values, plain, corrected = [], [], []
    for _ in range(runs):
        x = draw.normal(size=(n, 3))
        pairs = 0.05 * (x[:, :1] + x[:, 0]) + x[:, 1:] @ x[:, 1:].T
        np.fill_diagonal(pairs, 0.0)
        whole = 2 * pairs.sum(axis=1) / (n - 1)
        halves = np.empty(n)
        for half in (slice(0, None, 2), slice(1, None, 2)):
            halves[half] = 2 * pairs[half, half].sum(axis=1) / (n // 2 - 1)
        values.append(pairs.sum() / (n * (n - 1)))
        plain.append(influence_se(whole))
        corrected.append(influence_se(whole, halves))
    spread = np.std(values, ddof=1)
    assert np.mean(corrected) / spread == pytest.approx(1.0, abs=0.1)
    assert np.mean(plain) / spread > 1.15


def test_halves_never_leave_less_than_the_root_of_half_nor_more_than_all() -> None:
    influence = np.random.default_rng(1).normal(size=20)
    plain = influence_se(influence)
    assert plain is not None
    assert influence_se(influence, 10 * influence) == pytest.approx(plain / math.sqrt(2))
    assert influence_se(influence, influence) == pytest.approx(plain, rel=0.05)
    assert influence_se(influence, 0 * influence) == plain
    assert influence_se(influence[:1]) is None
