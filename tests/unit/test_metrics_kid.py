"""The kernel distance against its definition, image by image."""

from __future__ import annotations

import math

import numpy as np
import pytest
from clouds import drawn, tables
from numpy.typing import NDArray

from palette_bench.core.errors import InputError, UsageError
from palette_bench.scoring.metrics import kid
from palette_bench.scoring.metrics.kid import cross_sums, kernel_distance, kid_subsets, self_mean, self_sums
from palette_bench.scoring.metrics.moments import Moments
from palette_bench.scoring.metrics.outcome import Reference, Tables

Table = NDArray[np.float64]


def k(x: Table, y: Table) -> float:
    return float((x @ y / len(x) + 1) ** 3)


def by_double_loop(one: Table, two: Table) -> tuple[float, Table]:
    """Return the distance and the influence of each row of `one`, minus its mean."""
    own = [sum(k(x, y) for j, y in enumerate(one) if j != i) / (len(one) - 1) for i, x in enumerate(one)]
    ref = [sum(k(x, y) for j, y in enumerate(two) if j != i) / (len(two) - 1) for i, x in enumerate(two)]
    cross = [sum(k(x, y) for y in two) / len(two) for x in one]
    influence = 2 * (np.array(own) - np.array(cross))
    return float(np.mean(own) + np.mean(ref) - 2 * np.mean(cross)), influence - influence.mean()


@pytest.mark.parametrize("block", [1, 4, 17, 1000])
def test_distance_and_error_equal_the_double_loop(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kid, "BLOCK", block)
    outputs, originals = drawn(1, 17, 5).astype(np.float32), drawn(2, 23, 5).astype(np.float32) + 0.25
    value, influence = by_double_loop(outputs.astype(float), originals.astype(float))
    found = kernel_distance(tables(outputs, originals))
    assert found.value == pytest.approx(value, rel=1e-12)
    assert found.interval is not None
    assert found.interval.se == pytest.approx(influence.std(ddof=1) / math.sqrt(17), rel=1e-12)
    assert found.interval.method == "ustat-v1"
    assert found.columns == {}


def test_leaving_one_image_out_moves_the_distance_by_its_influence() -> None:
    """-h_i / N but for N - 2 and N - 1 in place of N, which the algebra of a U-statistic gives exactly."""
    outputs, originals = drawn(1, 120, 4), drawn(2, 150, 4)
    own, cross = self_sums(outputs) / 119, cross_sums(outputs, originals) / 150

    def value(rows: Table) -> float:
        return self_mean(rows) - 2 * float(cross_sums(rows, originals).mean()) / 150

    for i in (0, 57, 119):
        moved = value(np.delete(outputs, i, axis=0)) - value(outputs)
        expected = -2 * (own[i] - own.mean()) / 118 + 2 * (cross[i] - cross.mean()) / 119
        assert moved == pytest.approx(expected, rel=1e-9)


def test_a_cached_term_of_the_reference_changes_nothing() -> None:
    outputs, originals = drawn(1, 30, 5).astype(np.float32), drawn(2, 40, 5).astype(np.float32)
    plain = Reference.of("originals", originals)
    cached = Reference(plain.id, plain.n, originals, plain.moments, self_mean(originals))
    assert kernel_distance(Tables(outputs, originals, plain)) == kernel_distance(
        Tables(outputs, originals, cached)
    )


def test_clouds_of_one_law_are_at_distance_zero_on_average() -> None:
    values = [kernel_distance(tables(drawn_plain(i), drawn_plain(1000 + i))).value for i in range(200)]
    found = np.array(values, float)
    assert abs(found.mean()) < 3 * found.std(ddof=1) / math.sqrt(200)  # unbiased
    assert (found < 0).any()  # and so not bounded below


def drawn_plain(seed: int) -> Table:
    return np.random.default_rng(seed).normal(size=(20, 3))


def test_statistics_without_features_give_no_distance() -> None:
    outputs, others = drawn(1, 30, 5).astype(np.float32), drawn(2, 40, 5)
    imported = Reference("imported:0123456789ab", 40, None, Moments.of(others))
    found = kernel_distance(Tables(outputs, outputs, imported))
    assert (found.value, found.interval, found.notes) == (None, None, ("needs-features",))


@pytest.mark.parametrize(("n", "m"), [(1, 10), (10, 1)])
def test_one_image_gives_no_distance(n: int, m: int) -> None:
    found = kernel_distance(tables(drawn(1, n, 3), drawn(2, m, 3)))
    assert (found.value, found.interval, found.notes) == (None, None, ("n<2",))


def test_features_of_other_widths_are_refused() -> None:
    outputs = drawn(1, 9, 3).astype(np.float32)
    with pytest.raises(InputError, match=r"\(9, 3\) and \(9, 4\)"):
        kernel_distance(Tables(outputs, outputs, Reference.of("originals", drawn(2, 9, 4))))


def test_one_subset_of_everything_is_the_distance() -> None:
    one, two = drawn(1, 30, 5), drawn(2, 30, 5)
    mean, sd = kid_subsets(one, two, subsets=3, size=30)
    assert mean == pytest.approx(by_double_loop(one, two)[0], rel=1e-12)
    assert sd == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("size", [1, 26])
def test_subsets_that_cannot_be_drawn_are_refused_with_the_numbers(size: int) -> None:
    with pytest.raises(UsageError, match=f"subsets of {size} images from 30 and 25"):
        kid_subsets(drawn(1, 30, 5), drawn(2, 25, 5), size=size)
