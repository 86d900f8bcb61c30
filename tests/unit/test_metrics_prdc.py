"""Precision, recall, density and coverage: closed forms, clouds by hand, the jackknife by brute force."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from clouds import drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from palette_bench.scoring.metrics import FEATURE_METRICS, neighbours
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome, ReferenceSet
from palette_bench.scoring.metrics.neighbours import clouds_of, nearest
from palette_bench.scoring.metrics.prdc import manifolds

NAMES = ("precision", "recall", "density", "coverage")
Rows = NDArray[np.float32]


def scored(outputs: NDArray[Any], reference: NDArray[Any], paired: bool = False) -> dict[str, MetricOutcome]:
    one, two = outputs.astype(np.float32), reference.astype(np.float32)
    tables = FeatureTables(one, two, ReferenceSet.of("originals", two, paired=paired))
    return {name: FEATURE_METRICS[name].score(tables) for name in NAMES}


def values(outputs: NDArray[Any], reference: NDArray[Any]) -> list[float | None]:
    return [found.value for found in scored(outputs, reference).values()]


def pair(seed: int, n: int, d: int, shift: float = 0.3) -> tuple[Rows, Rows]:
    draw = np.random.default_rng(seed)
    reference = draw.normal(size=(n, d)).astype(np.float32)
    outputs = (0.7 * reference + 0.5 * draw.normal(size=(n, d)) + shift).astype(np.float32)
    return outputs, reference


def by_definition(outputs: Rows, reference: Rows) -> list[float]:
    """Return the four numbers from whole float64 distance matrices."""
    one, two = outputs.astype(np.float64), reference.astype(np.float64)
    cross = cdist(one, two)
    of_one, of_two = np.sort(cdist(one, one), axis=1), np.sort(cdist(two, two), axis=1)  # column 0: itself
    balls = cross < of_two[:, 5]
    inside = cross <= of_two[:, 3], cross <= of_one[:, 3, None]
    shares = inside[0].any(axis=1).mean(), inside[1].any(axis=0).mean()
    return [*map(float, shares), float(balls.sum(axis=1).mean() / 5), float(balls.any(axis=0).mean())]


def test_equal_clouds_are_all_precise_recalled_and_covered() -> None:
    # without its edge, a ball of five neighbours holds its centre and four of them: density 5 / 5
    cloud = drawn(1, 300, 7)
    assert values(cloud, cloud) == [1.0, 1.0, 1.0, 1.0]


def test_clouds_far_apart_share_nothing() -> None:
    cloud = drawn(1, 300, 7)
    assert values(cloud, cloud + 1e3) == [0.0, 0.0, 0.0, 0.0]


def test_outputs_at_one_reference_row_are_precise_and_cover_little() -> None:
    # on a line of integers every ball (k = 5, no edge) about r reaches to 3, and holds the rows within 2
    reference = np.arange(100.0)[:, None]
    found = values(np.full((50, 1), 50.4) + 1e-3 * np.arange(50)[:, None], reference)
    # balls about 48..53 hold them: r - 50.4 in (-3, 3)
    assert found == [1.0, 0.0, pytest.approx(6 / 5), pytest.approx(6 / 100)]


@pytest.mark.parametrize(("n", "d"), [(20, 1), (150, 3), (400, 40), (2100, 16)])
def test_the_four_numbers_are_those_of_whole_distance_matrices(n: int, d: int) -> None:
    outputs, reference = pair(n, n, d)
    assert values(outputs, reference[: n - 5]) == pytest.approx(by_definition(outputs, reference[: n - 5]))


@pytest.mark.parametrize("far", [0.0, 1e4, 1e6])
def test_float32_products_decide_nothing_that_they_cannot(far: float) -> None:
    """Far from zero, float32 distances are mostly rounding; the counts are still those of float64."""
    outputs, reference = pair(5, 250, 6)
    outputs, reference = outputs + np.float32(far), reference + np.float32(far)
    reference[:20] = outputs[:20]  # distances that tie exactly with radii
    assert values(outputs, reference) == pytest.approx(by_definition(outputs, reference), abs=1e-12)
    spread = np.float32(1e3) * (np.arange(250, dtype=np.float32) % 2)[:, None]  # two clusters far apart
    assert values(outputs + spread, reference + spread) == pytest.approx(
        by_definition(outputs + spread, reference + spread), abs=1e-12
    )


@pytest.mark.parametrize("scale", [1e-25, 1e-3, 1e25])
def test_no_scale_overflows_or_vanishes(scale: float) -> None:
    outputs, reference = pair(6, 120, 4)
    small = outputs * np.float32(scale), reference * np.float32(scale)
    assert values(*small) == pytest.approx(by_definition(outputs, reference), abs=0.02)


@pytest.mark.parametrize("block", [7, 64, 1000])
def test_the_size_of_blocks_changes_no_bit(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, reference = pair(2, 130, 5)
    expected = scored(outputs, reference, paired=True)
    monkeypatch.setattr(neighbours, "BLOCK", block)
    assert scored(outputs, reference, paired=True) == expected


@given(order=st.permutations(range(40)), seed=st.integers(0, 5))
@settings(deadline=None, derandomize=True, max_examples=30)
def test_the_order_of_rows_changes_no_value(order: list[int], seed: int) -> None:
    outputs, reference = pair(seed, 40, 3)
    assert values(outputs[order], reference) == values(outputs, reference)
    assert values(outputs, reference[order]) == values(outputs, reference)


@given(st.lists(st.integers(-3, 3), min_size=8, max_size=40))
@settings(deadline=None, derandomize=True, max_examples=50)
def test_nearest_rows_of_many_ties_are_the_sorted_ones(points: list[int]) -> None:
    rows = np.array(points, np.float32)[:, None]
    (cloud,) = clouds_of(rows)
    found, gaps = nearest(cloud, 4), cdist(rows, rows, "sqeuclidean")
    np.fill_diagonal(gaps, np.inf)
    order = np.argsort(gaps, axis=1, kind="stable")[:, :4]
    assert found.rows.tolist() == order.tolist()
    assert found.squared.tolist() == np.take_along_axis(gaps, order, axis=1).tolist()


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("d", "shift"), [(1, 0.1), (2, 0.6), (5, 0.3), (30, 0.2)])
def test_leaving_out_one_image_equals_scoring_without_it(paired: bool, d: int, shift: float) -> None:
    n = 60
    outputs, reference = pair(d, n, d, shift)
    found = manifolds(outputs, reference, paired)
    own = [None, None]
    if found.own is not None:
        own = [found.own <= s.neighbours.squared[:, 2] for s in (found.precision, found.recall)]
    without = np.array(
        [
            by_definition(np.delete(outputs, i, 0), np.delete(reference, i, 0) if paired else reference)
            for i in range(n)
        ]
    )
    assert found.recall.without(own[1]) == pytest.approx(without[:, 1])
    assert found.balls.coverage_without() == pytest.approx(without[:, 3])
    if paired:
        assert found.precision.without(own[0]) == pytest.approx(without[:, 0])
        assert found.balls.density_without() == pytest.approx(without[:, 2])


def test_a_jackknife_interval_says_that_it_is_wide_and_a_saturated_share_has_none() -> None:
    outputs, reference = pair(3, 400, 3, shift=1.0)
    found = scored(outputs, reference)
    assert found["recall"].notes == found["coverage"].notes == ("conservative-interval",)
    assert found["precision"].interval is not None
    assert found["precision"].interval.method == "wilson-v1"
    near = scored(reference, reference)
    assert [near[name].interval for name in ("recall", "coverage")] == [None, None]
    assert near["recall"].notes == ("saturated",)


def test_few_images_and_bare_statistics_have_no_value() -> None:
    outputs, reference = pair(3, 6, 3)
    assert {found.notes for found in scored(outputs, reference).values()} == {("too-few-images",)}
    bare = ReferenceSet("imported:0", 6, None, ReferenceSet.of("", reference).moments)
    found = FEATURE_METRICS["coverage"].score(FeatureTables(outputs, reference, bare))
    assert (found.value, found.notes) == (None, ("needs-features",))


def test_four_metrics_of_the_same_tables_search_neighbours_once(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, reference = pair(3, 50, 3)
    tables = FeatureTables(outputs, reference, ReferenceSet.of("originals", reference))
    FEATURE_METRICS["precision"].score(tables)
    monkeypatch.setattr("palette_bench.scoring.metrics.prdc.manifolds", None)
    assert all(FEATURE_METRICS[name].score(tables).value is not None for name in NAMES)
