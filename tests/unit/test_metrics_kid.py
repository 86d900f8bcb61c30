"""The kernel distance against its definition, image by image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from clouds import drawn, tables
from numpy.typing import NDArray

from palette_bench.core.errors import InputError, UsageError
from palette_bench.core.intervals import Interval, influence_se
from palette_bench.scoring.metrics import mmd
from palette_bench.scoring.metrics.kid import kernel, kernel_distance, kid_subsets, self_mean
from palette_bench.scoring.metrics.metric import FeatureTables, ReferenceSet
from palette_bench.scoring.metrics.moments import Moments

Table = NDArray[np.float64]


def k(x: Table, y: Table) -> float:
    return float((x @ y / len(x) + 1) ** 3)


def by_double_loop(one: Table, two: Table) -> tuple[float, Table]:
    """Return the distance and the influence of each row of `one`; the reference is fixed."""
    own = [sum(k(x, y) for j, y in enumerate(one) if j != i) / (len(one) - 1) for i, x in enumerate(one)]
    ref = [sum(k(x, y) for j, y in enumerate(two) if j != i) / (len(two) - 1) for i, x in enumerate(two)]
    cross = [sum(k(x, y) for y in two) / len(two) for x in one]
    influence = 2 * (np.array(own) - np.array(cross))
    return float(np.mean(own) + np.mean(ref) - 2 * np.mean(cross)), influence


def by_pairs(outputs: Table, originals: Table) -> tuple[float, Table]:
    """Return the paired distance and the influence of each pair: no pair meets itself."""
    n = len(outputs)
    gaps = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                within = k(outputs[i], outputs[j]) + k(originals[i], originals[j])
                gaps[i, j] = within - k(outputs[i], originals[j]) - k(outputs[j], originals[i])
    return float(gaps.sum() / (n * (n - 1))), 2 * gaps.sum(axis=1) / (n - 1)


@pytest.mark.parametrize("block", [2, 4, 18, 1000])
def test_distance_and_influence_equal_the_double_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mmd, "BLOCK", block)
    outputs, originals = drawn(1, 17, 5), drawn(2, 23, 5) + 0.25
    value, influence = by_double_loop(outputs, originals)
    found = kernel_distance(outputs, originals)
    assert found.value == pytest.approx(value, rel=1e-12)
    assert found.influence is not None
    assert found.influence.whole == pytest.approx(influence, rel=1e-12)
    assert found.se == influence_se(found.influence.whole, found.influence.halves)
    assert found.interval is not None
    assert found.interval.method == "ustat-v2"


@pytest.mark.parametrize("n", [2, 3])
def test_two_and_three_images_have_a_distance_too(n: int) -> None:
    outputs, originals = drawn(1, n, 5), drawn(2, n, 5) + 0.25
    assert kernel_distance(outputs, originals).value == pytest.approx(by_double_loop(outputs, originals)[0])
    paired = kernel_distance(outputs, originals, paired=True).value
    assert paired == pytest.approx(by_pairs(outputs, originals)[0])


@pytest.mark.parametrize("block", [2, 4, 18, 1000])
def test_paired_distance_and_influence_equal_the_double_loop(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mmd, "BLOCK", block)
    originals = drawn(1, 17, 5)
    outputs = 0.8 * originals + 0.2 * drawn(2, 17, 5)
    value, influence = by_pairs(outputs, originals)
    found = kernel_distance(outputs, originals, paired=True)
    assert found.value == pytest.approx(value, rel=1e-12)
    assert found.influence is not None
    assert found.influence.whole == pytest.approx(influence, rel=1e-11)
    assert found.interval is not None
    assert (found.interval.method, found.low, found.high) == (
        "paired-ustat-v1",
        found.interval.low,
        found.interval.high,
    )


@pytest.mark.parametrize("paired", [True, False])
def test_halves_hold_the_influence_among_images_of_ones_parity(paired: bool) -> None:
    outputs, originals = drawn(1, 31, 4), drawn(2, 31, 4)
    found = kernel_distance(outputs, originals, paired=paired).influence
    assert found is not None
    assert found.halves is not None
    for half in (slice(0, None, 2), slice(1, None, 2)):
        alone = kernel_distance(outputs[half], originals[half] if paired else originals, paired=paired)
        assert alone.influence is not None
        assert found.halves[half] == pytest.approx(alone.influence.whole, rel=1e-11)


def test_leaving_a_pair_out_moves_the_distance_by_its_influence() -> None:
    """U without i is U + 2 (U - h_i / 2) / (N - 2), exactly: this is what a jackknife reads."""
    originals = drawn(1, 60, 4)
    outputs = 0.8 * originals + 0.3 * drawn(2, 60, 4)
    found = kernel_distance(outputs, originals, paired=True)
    assert found.value is not None
    assert found.influence is not None
    for i in (0, 31, 59):
        without = kernel_distance(*(np.delete(side, i, axis=0) for side in (outputs, originals)), paired=True)
        expected = found.value + 2 * (found.value - found.influence.whole[i] / 2) / 58
        assert without.value == pytest.approx(expected, rel=1e-9)


def test_originals_beside_themselves_are_at_distance_zero_exactly() -> None:
    features = drawn(1, 24, 6)
    found = kernel(tables(features, features.copy(), paired=True))
    assert found.value == 0.0
    assert found.interval == Interval(0.0, 0.0, 0.0, "paired-ustat-v1")
    assert kernel(tables(features, features)).value < 0.0  # taken for other images it is biased


def test_a_cached_term_of_the_reference_changes_nothing() -> None:
    outputs, originals = drawn(1, 30, 5).astype(np.float32), drawn(2, 40, 5).astype(np.float32)
    plain = ReferenceSet.of("originals", originals)
    cached = ReferenceSet(plain.id, plain.n, originals, plain.moments, self_mean(originals))
    found = [kernel(FeatureTables(outputs, originals, reference)) for reference in (plain, cached)]
    assert (found[0].value, found[0].interval) == (found[1].value, found[1].interval)
    assert set(found[0].columns) == {"kid_influence", "kid_influence_halves"}


def test_clouds_of_one_law_are_at_distance_zero_on_average() -> None:
    values = [kernel(tables(drawn_plain(i), drawn_plain(1000 + i))).value for i in range(200)]
    found = np.array(values, float)
    assert abs(found.mean()) < 3 * found.std(ddof=1) / math.sqrt(200)  # unbiased
    assert (found < 0).any()  # and so not bounded below


def drawn_plain(seed: int) -> Table:
    return np.random.default_rng(seed).normal(size=(20, 3))


def test_statistics_without_features_give_no_distance() -> None:
    outputs, others = drawn(1, 30, 5).astype(np.float32), drawn(2, 40, 5)
    imported = ReferenceSet("imported:0123456789ab", 40, None, Moments.of(others))
    found = kernel(FeatureTables(outputs, outputs, imported))
    assert (found.value, found.interval, found.notes) == (None, None, ("needs-features",))


@pytest.mark.parametrize(("n", "m"), [(1, 10), (10, 1)])
def test_one_image_gives_no_distance(n: int, m: int) -> None:
    found = kernel(tables(drawn(1, n, 3), drawn(2, m, 3)))
    assert (found.value, found.interval, found.notes) == (None, None, ("n<2",))


def test_features_of_other_widths_are_refused() -> None:
    outputs = drawn(1, 9, 3).astype(np.float32)
    with pytest.raises(InputError, match=r"\(9, 3\) and \(9, 4\)"):
        kernel(FeatureTables(outputs, outputs, ReferenceSet.of("originals", drawn(2, 9, 4))))


def test_sides_that_do_not_pair_are_refused() -> None:
    with pytest.raises(InputError, match="9 outputs and 8 originals"):
        kernel_distance(drawn(1, 9, 3), drawn(2, 8, 3), paired=True)


def test_one_subset_of_everything_is_the_distance() -> None:
    one, two = drawn(1, 30, 5), drawn(2, 30, 5)
    mean, sd = kid_subsets(one, two, subsets=3, size=30)
    assert mean == pytest.approx(by_double_loop(one, two)[0], rel=1e-12)
    assert sd == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("size", [1, 26])
def test_subsets_that_cannot_be_drawn_are_refused_with_the_numbers(size: int) -> None:
    with pytest.raises(UsageError, match=f"subsets of {size} images from 30 and 25"):
        kid_subsets(drawn(1, 30, 5), drawn(2, 25, 5), size=size)
