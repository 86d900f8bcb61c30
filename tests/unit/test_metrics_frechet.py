"""The Fréchet distance: dispatch, moments, influence, and every edge of small or odd input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clouds import drawn, tables
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from palette_bench import frechet_distance
from palette_bench.core.errors import InputError
from palette_bench.core.intervals import Interval, influence_se
from palette_bench.scoring.metrics.frechet import frechet
from palette_bench.scoring.metrics.metric import FeatureTables, ReferenceSet
from palette_bench.scoring.metrics.moments import BLOCK, Moments, frechet_influence, most_influential

Table = NDArray[np.float64]


def ill_conditioned(seed: int, n: int, d: int, decades: float) -> Table:
    """Return features whose covariance spans `decades` powers of ten."""
    draw = np.random.default_rng(seed)
    basis = np.linalg.qr(draw.normal(size=(d, d)))[0]
    return draw.normal(size=(n, d)) * np.logspace(0, -decades / 2, d) @ basis


# dispatch


def test_features_and_their_moments_are_at_one_distance() -> None:
    one, two = drawn(1, 300, 20), drawn(2, 400, 20) + 0.3
    value = frechet_distance(one, two).value
    assert frechet_distance(Moments.of(one), two).value == value
    assert frechet_distance(one, Moments.of(two)).value == value
    assert frechet_distance(Moments.of(one), Moments.of(two)).value == value


def test_few_features_against_moments_take_rows_and_cholesky() -> None:
    few, many = drawn(1, 10, 24), drawn(2, 500, 24)
    found = frechet_distance(few, Moments.of(many))
    assert (found.method, found.closing, found.rank) == (("rows", "chol"), "svdvals", (9, 24))
    assert found.value == pytest.approx(frechet_distance(Moments.of(few), many).value, rel=1e-10)


def test_a_bound_that_is_too_large_takes_singular_values() -> None:
    # a small distance of huge, ill-conditioned clouds: roots of the smallest eigenvalues drown in rounding
    features = 1e4 * ill_conditioned(1, 400, 60, 11)
    found = frechet_distance(features + 0.5, features)
    assert found.method == ("chol", "chol")
    assert found.closing == "svdvals"
    assert found.value == pytest.approx(60 * 0.5**2, rel=1e-6)
    assert found.bound is not None
    assert found.bound <= 1e-5 * max(1.0, found.value or 0.0)


def test_the_bound_holds_between_the_two_forms() -> None:
    one, two = ill_conditioned(3, 400, 60, 8), ill_conditioned(4, 400, 60, 8)
    fast = frechet_distance(one, two)
    left, right = (Moments.of(t).factor for t in (one, two))
    assert left is not None
    assert right is not None
    slow = np.linalg.svd(left @ right.T, compute_uv=False).sum()
    gap = one.mean(axis=0) - two.mean(axis=0)
    traces = one.var(axis=0, ddof=1).sum() + two.var(axis=0, ddof=1).sum()
    assert fast.closing == "eigvalsh"
    assert fast.bound is not None
    assert fast.value == pytest.approx(gap @ gap + traces - 2 * slow, abs=2 * fast.bound + 1e-12)


def test_a_dead_channel_is_no_obstacle() -> None:
    features = drawn(8, 100, 6)
    features[:, 2] = 0.0
    found = frechet_distance(features + 1.0, features)
    assert found.value == pytest.approx(6.0, abs=1e-9)
    assert (found.method, found.rank) == (("qr", "qr"), (5, 5))


def test_two_equal_channels_do_not_pass_for_two() -> None:
    features = drawn(8, 100, 6)
    features[:, 4] = features[:, 1]
    assert Moments.of(features).factor is None
    assert frechet_distance(features + 1.0, features).rank == (5, 5)
    alone = frechet_distance(Moments.of(features + 1.0), Moments.of(features))
    assert (alone.method, alone.rank) == (("eigh", "eigh"), (5, 5))
    assert alone.value == pytest.approx(6.0, abs=1e-7)


@pytest.mark.parametrize("seed", range(20))
def test_a_channel_that_is_a_sum_of_others_is_not_taken_for_rounding(seed: int) -> None:
    # in exact arithmetic the last pivot is 0; in half of these cases rounding leaves it above
    features = drawn(seed, 100, 6)
    features[:, 5] = features[:, :5].sum(axis=1)
    assert Moments.of(features).factor is None
    assert frechet_distance(features + 1.0, features).rank == (5, 5)


def test_statistics_that_are_no_covariance_give_no_distance() -> None:
    wrong = Moments(50, np.zeros(2), np.diag([9.0, -6.0]))  # 3 + 2 - 2 * 3 = -1
    found = frechet_distance(wrong, Moments(50, np.zeros(2), np.eye(2)))
    assert found.value is None
    assert "numerical-failure" in found.notes


def test_constant_features_on_one_side_leave_the_other_trace() -> None:
    flat, features = np.ones((40, 8)), drawn(6, 40, 8)
    found = frechet_distance(flat, features)
    gap = np.ones(8) - features.mean(axis=0)
    assert found.value == pytest.approx(gap @ gap + features.var(axis=0, ddof=1).sum(), rel=1e-12)
    assert found.rank == (0, 8)
    assert frechet_distance(flat, flat).value == 0.0
    assert frechet_distance(Moments.of(flat), Moments.of(features)).value == pytest.approx(found.value)


@pytest.mark.parametrize("n", [3, 60])
def test_two_constant_clouds_differ_by_their_means(n: int) -> None:
    found = frechet_distance(np.zeros((n, 8)), np.full((n, 8), 2.0))
    assert (found.value, found.rank) == (32.0, (0, 0))


def test_the_order_of_rows_does_not_matter_and_sides_may_swap() -> None:
    one, two = drawn(4, 90, 20), drawn(5, 60, 20)
    value = frechet_distance(one, two).value
    shuffled = one[np.random.default_rng(0).permutation(90)]
    assert frechet_distance(shuffled, two).value == pytest.approx(value, rel=1e-12)
    assert frechet_distance(two, one).value == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("n", "notes"),
    [
        (1, ("n<2", "rank-deficient", "small-n")),
        (2, ("rank-deficient", "small-n")),
        (4, ("rank-deficient", "small-n")),
        (5, ("small-n",)),
        (2048, ()),
    ],
)
def test_the_size_of_the_smaller_side_is_noted(n: int, notes: tuple[str, ...]) -> None:
    found = frechet_distance(drawn(9, n, 4), drawn(10, 3000, 4))
    assert found.notes == notes
    assert (found.value is None) == (n == 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_their_row(value: float) -> None:
    features = drawn(11, 10, 4)
    features[9, 3] = value
    with pytest.raises(InputError, match="reference: 1 of 10 rows are not finite, first 9"):
        frechet_distance(drawn(11, 10, 4), features)
    with pytest.raises(InputError, match="outputs: 1 of 10"):
        frechet(FeatureTables(features, features, ReferenceSet.of("originals", drawn(1, 9, 4))))


def test_features_of_other_widths_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(4, 3\) and \(4, 5\)"):
        frechet_distance(np.zeros((4, 3)), np.zeros((4, 5)))


# moments


@pytest.mark.parametrize("n", [1, 2, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_moments_equal_numpys(n: int) -> None:
    features = drawn(n, n, 7) + 1e3  # far from zero: sums of raw squares would lose ten digits
    found = Moments.of(features)
    assert found.n == n
    assert found.mean == pytest.approx(features.mean(axis=0), rel=1e-14)
    expected = np.cov(features.T) if n > 1 else np.zeros((7, 7))
    assert found.covariance == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert np.array_equal(found.covariance, found.covariance.T)


@pytest.mark.parametrize("n", [5, 400])
def test_moments_survive_their_arrays_bit_for_bit(n: int) -> None:
    moments = Moments.of(drawn(1, n, 9))
    found = Moments.from_arrays(moments.to_arrays())
    assert found.equals(moments)
    assert ("factor" in moments.to_arrays()) == (n > 9)
    other = Moments.of(drawn(2, 400, 9))
    assert frechet_distance(found, other) == frechet_distance(moments, other)


def test_moments_of_another_program_are_checked() -> None:
    good = {"n": np.array([50.0]), "mean": np.zeros(3), "covariance": np.eye(3)}
    assert Moments.from_arrays(good).n == 50
    broken = np.eye(3)
    broken[1, 2] = np.nan
    skew = np.eye(3)
    skew[0, 1] = 0.1
    for change, message in (
        ({"mean": np.zeros(4)}, r"\(4,\) and \(3, 3\)"),
        ({"covariance": broken}, r"covariance: 1 values are not finite, first at \(1, 2\)"),
        ({"covariance": skew}, "not symmetric: entries differ by up to 0.1"),
        ({"n": np.array([0.0])}, "number of rows"),
        ({"n": np.array([np.nan])}, "number of rows"),
    ):
        with pytest.raises(InputError, match=message):
            Moments.from_arrays({**good, **change})


@given(st.permutations(range(40)), st.booleans())
def test_arrival_order_and_memory_layout_change_no_bit(order: list[int], fortran: bool) -> None:
    features, reference = drawn(1, 40, 6).astype(np.float32), drawn(2, 50, 6).astype(np.float32)
    arrived = {f"id{i:02}": features[i] for i in order}
    table = np.stack([arrived[name] for name in sorted(arrived)])
    table = np.asfortranarray(table) if fortran else table
    assert Moments.of(table).equals(Moments.of(features))
    assert frechet_distance(table, reference) == frechet_distance(features, reference)


# influence


def test_influence_is_the_change_with_the_weight_of_one_image() -> None:
    """Central difference: image i gets the weight (1 - e)/N + e, the others (1 - e)/N, e = +-1e-4."""
    features, reference = drawn(1, 200, 12), Moments.of(drawn(2, 500, 12) + 0.2)
    moments = Moments.of(features)
    found = frechet_influence(features, moments, reference)
    assert found is not None
    n = len(features)
    spread = moments.covariance * (n - 1) / n

    def moved(i: int, e: float) -> float:
        x = features[i] - moments.mean
        covariance = ((1 - e) * spread + e * (1 - e) * np.outer(x, x)) * n / (n - 1)
        value = frechet_distance(Moments(n, moments.mean + e * x, covariance), reference).value
        assert value is not None
        return value

    slopes = np.array([(moved(i, 1e-4) - moved(i, -1e-4)) / 2e-4 for i in range(n)])
    assert found == pytest.approx(slopes, abs=1e-4 * float(np.abs(slopes).max()))
    assert found.sum() == pytest.approx(0.0, abs=1e-9)


def test_influence_against_a_singular_reference() -> None:
    features, few = drawn(1, 200, 12), drawn(2, 6, 12)
    found = frechet(tables(features, few))
    assert found.interval is not None  # the outputs vary, the reference is fixed
    assert found.notes == ("rank-deficient", "small-n")
    assert np.isfinite(found.columns["fid_influence"]).all()


def test_the_interval_is_built_from_the_column() -> None:
    found = frechet(tables(drawn(1, 300, 10) + 0.5, drawn(2, 300, 10)))
    column = found.columns["fid_influence"]
    assert found.interval is not None
    assert found.value is not None
    assert found.interval.method == "influence-v2"
    assert found.interval.se == influence_se(column, found.columns["fid_influence_halves"])
    assert found.interval.high - found.value == pytest.approx(1.959963984540054 * found.interval.se)
    assert found.params["method"] == ["chol", "chol"]
    assert found.params["rank"] == [10, 10]
    assert found.params["reference"] == "originals"
    assert found.params["bound"] < 1e-9


@pytest.mark.parametrize("n", [1, 2, 10])
def test_no_standard_error_up_to_the_dimension(n: int) -> None:
    found = frechet(tables(drawn(1, n, 10), drawn(2, 300, 10)))
    assert (found.interval, found.columns) == (None, {})
    assert "rank-deficient" in found.notes
    assert (found.value is None) == (n < 2)


def test_no_standard_error_of_a_singular_covariance() -> None:
    features = drawn(1, 300, 10)
    features[:, 3] = 0.25
    found = frechet(tables(features, drawn(2, 300, 10)))
    assert found.value is not None
    assert (found.interval, found.notes) == (None, ("small-n", "rank-deficient"))


def test_imported_statistics_serve_as_well_as_features() -> None:
    outputs, others = drawn(1, 300, 10).astype(np.float32), drawn(2, 400, 10).astype(np.float32)
    with_features = frechet(FeatureTables(outputs, outputs, ReferenceSet.of("originals", others)))
    imported = ReferenceSet("imported:0123456789ab", 400, None, Moments.of(others))
    without = frechet(FeatureTables(outputs, outputs, imported))
    assert (without.value, without.interval) == (with_features.value, with_features.interval)
    assert without.params["reference"] == "imported:0123456789ab"


def test_the_original_row_is_zero_and_certain() -> None:
    features = drawn(1, 300, 10)
    found = frechet(tables(features, features, paired=True))
    assert found.value == 0.0
    assert found.interval == Interval(0.0, 0.0, 0.0, "paired-influence-v1")
    assert not found.columns["fid_influence"].any()


def test_influence_of_a_pair_is_the_change_with_the_weight_of_both_its_images() -> None:
    """Central difference, as above, of outputs and originals together."""
    originals = drawn(2, 200, 8)
    outputs = 0.7 * originals + 0.2 * drawn(3, 200, 8)
    found = frechet_distance(outputs, originals, paired=True).influence
    assert found is not None
    sides = [(side, Moments.of(side)) for side in (outputs, originals)]

    def reweighted(rows: NDArray[np.float64], moments: Moments, i: int, e: float) -> Moments:
        x, n = rows[i] - moments.mean, moments.n
        spread = moments.covariance * (n - 1) / n
        covariance = ((1 - e) * spread + e * (1 - e) * np.outer(x, x)) * n / (n - 1)
        return Moments(n, moments.mean + e * x, covariance)

    def moved(i: int, e: float) -> float:
        value = frechet_distance(*(reweighted(rows, moments, i, e) for rows, moments in sides)).value
        assert value is not None
        return value

    slopes = np.array([(moved(i, 1e-4) - moved(i, -1e-4)) / 2e-4 for i in range(200)])
    assert found.whole == pytest.approx(slopes - slopes.mean(), abs=1e-4 * float(np.abs(slopes).max()))


def test_against_a_fixed_reference_influence_is_what_leaving_an_image_out_changes() -> None:
    """To the second order; the first alone misses several per cent of the spread at N = 6 D."""
    outputs, reference = 0.5 * drawn(1, 144, 24), Moments.of(drawn(2, 3000, 24))
    moments = Moments.of(outputs)
    whole = frechet_distance(moments, reference).value
    without = [
        frechet_distance(Moments.of(np.delete(outputs, i, axis=0)), reference).value for i in range(144)
    ]
    left_out = 143 * (np.array([whole] * 144, float) - np.array(without, float))
    left_out -= left_out.mean()
    first = frechet_influence(outputs, moments, reference)
    second = frechet_influence(outputs, moments, reference, second_order=True)
    assert first is not None
    assert second is not None
    assert second.std() / left_out.std() == pytest.approx(1.0, abs=0.01)
    assert first.std() / left_out.std() < 0.95
    assert np.corrcoef(second, left_out)[0, 1] > 0.999


def test_halves_hold_the_influence_among_images_of_ones_parity() -> None:
    originals = drawn(2, 120, 6)
    outputs = 0.7 * originals + 0.2 * drawn(3, 120, 6)
    found = frechet_distance(outputs, originals, paired=True).influence
    assert found is not None
    assert found.halves is not None
    for half in (slice(0, None, 2), slice(1, None, 2)):
        alone = frechet_distance(outputs[half], originals[half], paired=True).influence
        assert alone is not None
        assert np.array_equal(found.halves[half], alone.whole)


def test_halves_without_a_definite_covariance_are_left_out_and_said() -> None:
    originals = drawn(2, 15, 10)
    found = frechet(tables(0.9 * originals, originals, paired=True))
    assert found.interval is not None
    assert set(found.columns) == {"fid_influence"}
    assert {"few-images", "wide-interval"} <= set(found.notes)


def test_a_distance_of_independent_clouds_of_one_law_is_noted_as_near_zero() -> None:
    found = frechet(tables(np.random.default_rng(1).normal(size=(400, 8)), drawn_plain(400, 8), paired=True))
    assert "near-zero" in found.notes


def drawn_plain(n: int, d: int) -> NDArray[np.float64]:
    return np.random.default_rng(2).normal(size=(n, d))


@pytest.mark.parametrize(
    ("outputs", "reference", "message"),
    [
        (drawn(1, 20, 4), drawn(2, 21, 4), "20 outputs and 21 originals"),
        (Moments.of(drawn(1, 20, 4)), drawn(2, 20, 4), "needs the features of both sides"),
    ],
)
def test_what_does_not_pair_is_refused(outputs: Any, reference: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        frechet_distance(outputs, reference, paired=True)


def test_the_images_that_move_fid_most_come_first_with_their_sign() -> None:
    influence = np.array([0.5, -2.0, 0.1, 2.0, 0.5])
    assert most_influential(["a", "c", "d", "b", "e"], influence, 3) == [("b", 2.0), ("c", -2.0), ("a", 0.5)]
    assert len(most_influential(["a"], [1.0], 20)) == 1


def test_an_outlier_is_named_first() -> None:
    features = drawn(1, 300, 10)
    features[123] += 8.0
    column = frechet(tables(features, drawn(1, 300, 10))).columns["fid_influence"]
    name, moved = most_influential([f"id{i}" for i in range(300)], column, 1)[0]
    assert name == "id123"
    assert moved > 0
