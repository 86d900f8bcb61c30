"""Paired tests against SciPy and by hand, and Holm's correction."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from palette_bench.core.errors import InputError
from palette_bench.core.significance import holm, mcnemar, paired_t, z_of_influence, z_of_log_mean


def hits(both: int, only: int, other: int, neither: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return two columns with the given counts of images right for both, one, the other, none."""
    first = [1] * (both + only) + [0] * (other + neither)
    second = [1] * both + [0] * only + [1] * other + [0] * neither
    return np.array(first), np.array(second)


@pytest.mark.parametrize("n", [2, 3, 40, 5_000])
def test_paired_t_equals_scipy(n: int) -> None:
    draw = np.random.default_rng(n)
    one, two = draw.normal(1.0, 2.0, n), draw.normal(1.1, 2.0, n)
    expected = stats.ttest_rel(one, two)
    found = paired_t(one, two)
    assert found is not None
    assert found.p == pytest.approx(expected.pvalue, rel=1e-12)
    assert found.delta / found.se == pytest.approx(expected.statistic, rel=1e-12)
    assert (found.n, found.test) == (n, "paired-t")


@pytest.mark.parametrize(("only", "other"), [(0, 1), (3, 9), (9, 3), (5, 5), (40, 61), (700, 601)])
def test_mcnemar_equals_the_binomial_test(only: int, other: int) -> None:
    found = mcnemar(*hits(20, only, other, 7))
    expected = stats.binomtest(only, only + other, 0.5).pvalue
    assert found is not None
    assert found.p == pytest.approx(expected, rel=1e-12)
    assert found.delta == pytest.approx(100 * (only - other) / (27 + only + other))


def test_mcnemar_by_hand() -> None:
    # 1 against 5 of 6: P(X <= 1) = (1 + 6) / 64, two-sided 14/64; only disagreements count
    found = mcnemar(*hits(100, 5, 1, 50))
    assert found is not None
    assert found.p == pytest.approx(14 / 64, rel=1e-12)
    gap = np.array([1.0] * 5 + [-1.0] + [0.0] * 150)
    assert found.se == pytest.approx(100 * gap.std(ddof=1) / math.sqrt(156), rel=1e-12)
    assert found.test == "mcnemar-exact"


def test_z_of_influence_by_hand() -> None:
    # h_A - h_B is +-2 with sd 2 sqrt(100/99); 0.5 apart: z = 0.5 / (sd / 10)
    one, two = np.tile([1.0, -1.0], 50), np.tile([-1.0, 1.0], 50)
    found = z_of_influence(12.0, 11.5, one, two)
    se = 2 * math.sqrt(100 / 99) / 10
    assert found is not None
    assert (found.delta, found.n, found.test) == (0.5, 100, "z-influence")
    assert found.se == pytest.approx(se, rel=1e-12)
    assert found.p == pytest.approx(2 * stats.norm.sf(0.5 / se), rel=1e-12)


def test_z_of_log_mean_is_on_the_log_scale() -> None:
    draw = np.random.default_rng(3)
    one, two = draw.normal(3.0, 0.4, 200), draw.normal(2.9, 0.4, 200)
    found = z_of_log_mean(one, two)
    assert found is not None
    assert found.delta == pytest.approx(math.log(math.exp(one.mean()) / math.exp(two.mean())), rel=1e-12)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(found.delta) / found.se), rel=1e-12)
    assert found.test == "z-log-influence"


def test_equal_systems_do_not_differ() -> None:
    column = np.random.default_rng(1).normal(size=30)
    right = (column > 0).astype(np.int64)
    for found in (
        paired_t(column, column),
        z_of_influence(3.0, 3.0, column, column),
        z_of_log_mean(column, column),
        mcnemar(right, right),
    ):
        assert found is not None
        assert (found.delta, found.se, found.p) == (0.0, 0.0, 1.0)


def test_the_same_difference_everywhere_is_beyond_doubt() -> None:
    column = np.arange(10.0)
    found = paired_t(column + 1, column)
    assert found is not None
    assert (found.delta, found.p) == (1.0, 0.0)


def test_swapping_the_systems_turns_the_sign_only() -> None:
    draw = np.random.default_rng(2)
    one, two = draw.normal(size=50), draw.normal(size=50)
    forth, back = paired_t(one, two), paired_t(two, one)
    assert forth is not None
    assert back is not None
    assert (forth.delta, forth.se, forth.p) == (-back.delta, back.se, back.p)


def test_one_image_compares_nothing() -> None:
    one = np.array([1.0])
    assert paired_t(one, one) is None
    assert z_of_influence(1.0, 2.0, one, one) is None
    assert z_of_log_mean(one, one) is None
    assert mcnemar(np.array([1]), np.array([0])) is None


def test_columns_that_cannot_be_paired_are_refused() -> None:
    with pytest.raises(InputError, match=r"one length: \(3,\) and \(4,\)"):
        paired_t(np.zeros(3), np.zeros(4))
    with pytest.raises(InputError, match="1 of 2 paired values are not finite"):
        z_of_log_mean(np.array([1.0, np.nan]), np.zeros(2))
    with pytest.raises(InputError, match="0 and 1"):
        mcnemar(np.array([0, 2]), np.array([0, 1]))


# Holm


def test_holm_by_hand() -> None:
    # sorted .01 .02 .03 .04, times 4, 3, 2, 1: .04 .06 .06 .04, made monotone
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]) == [1.0, 1.0]
    assert holm([0.3]) == [0.3]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_corrects_upwards_keeps_the_order_and_stays_below_bonferroni(p_values: list[float]) -> None:
    found = holm(p_values)
    for p, corrected in zip(p_values, found, strict=True):
        assert p <= corrected <= min(1.0, len(p_values) * p)
    pairs = sorted(zip(p_values, found, strict=True))
    assert [corrected for _, corrected in pairs] == sorted(corrected for _, corrected in pairs)
