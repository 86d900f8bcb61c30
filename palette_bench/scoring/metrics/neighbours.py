"""Nearest neighbours of two feature clouds, and which points lie in whose ball.

Products run in float32, which is twice as fast. Each gives a lower and an upper bound of a squared distance;
what the bounds leave open is decided by the squared distance in float64. All counts therefore equal those of
float64 distances, whatever the BLAS, its threads and the blocks, and only sparse pairs are ever kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError
from palette_bench.scoring.metrics.metric import check_finite

BLOCK = 1000  # rows per block: 4 MB of products
_PAIRS = 2048  # exact distances at a time
_UNIT = 2.0**-24  # unit roundoff of float32
_TINY = 1e-30  # of the largest squared length: what may underflow

Indices: TypeAlias = NDArray[np.int64]
Values: TypeAlias = NDArray[np.float64]
_Candidates: TypeAlias = tuple[Indices, Indices, NDArray[np.float32]]  # row, other row, lower bound


@dataclass(frozen=True)
class Nearest:
    """The nearest other rows of each of N rows of one cloud, ties in the order of rows.

    Attributes:
        squared: (N, K) float64, squared distances, ascending.
        rows: (N, K), their rows.
    """

    squared: Values
    rows: Indices


class Cloud:
    """Rows with what bounds their distances: scaled float32 rows, and their squared lengths less a margin."""

    def __init__(self, rows: NDArray[np.floating[Any]], centre: Values, scale: float) -> None:
        self.rows = rows
        self.scale = scale
        moved = rows - centre
        moved /= scale
        lengths = np.einsum("nd,nd->n", moved, moved)
        self.scaled = moved.astype(np.float32)
        # |x|^2 + |y|^2 - 2 x.y is off by at most 2 D u |x||y| + 8 u (|x| + |y|)^2, which is less than
        # margin (|x|^2 + |y|^2)
        margin = (rows.shape[1] + 24) * _UNIT
        self.low = (lengths * (1 - margin) - _TINY).astype(np.float32)
        self.slack = lengths * (2 * margin) + 2 * _TINY  # between lower and upper bound

    def blocks(self) -> list[slice]:
        """Return slices of nearly equal size."""
        edges = np.linspace(0, len(self.rows), -(-len(self.rows) // BLOCK) + 1).astype(int)
        return [slice(int(a), int(b)) for a, b in pairwise(edges)]


def clouds_of(*tables: NDArray[np.floating[Any]]) -> list[Cloud]:
    """Return clouds with one centre and scale; both cancel rounding and change no comparison."""
    centre = tables[-1].mean(axis=0, dtype=np.float64)
    furthest = max(float(np.abs(table - centre).max()) for table in tables)
    return [Cloud(table, centre, furthest * np.sqrt(len(centre)) or 1.0) for table in tables]


def lower_bounds(one: Cloud, rows: slice, two: Cloud, columns: slice) -> NDArray[np.float32]:
    """Return (rows, columns) lower bounds of squared distances, in units of scale^2."""
    found = one.scaled[rows] @ two.scaled[columns].T
    found *= -2
    found += one.low[rows, None]
    found += two.low[columns]
    return np.asarray(found)


def exact(one: Cloud, rows: Indices, two: Cloud, columns: Indices) -> Values:
    """Return the squared distances of pairs of rows in float64."""
    found = np.empty(len(rows))
    for start in range(0, len(rows), _PAIRS):
        at = slice(start, start + _PAIRS)
        gap = one.rows[rows[at]].astype(np.float64) - two.rows[columns[at]]
        np.einsum("nd,nd->n", gap, gap, out=found[at])
    return found


def nearest(cloud: Cloud, k: int) -> Nearest:
    """Return the k nearest other rows of each of N > k rows.

    The K-th upper bound within a row's own block bounds its K-th distance; only pairs below that are kept.
    """
    blocks, reach = cloud.blocks(), np.empty(len(cloud.rows), np.float32)
    for block in blocks:
        bounds = lower_bounds(cloud, block, cloud, block)
        bounds += cloud.slack[block, None].astype(np.float32) + cloud.slack[block].astype(np.float32)
        np.fill_diagonal(bounds, np.inf)
        reach[block] = np.partition(bounds, k - 1, axis=1)[:, k - 1] * np.float32(1 + 8 * _UNIT)
    kept: list[list[_Candidates]] = [[] for _ in blocks]
    squared, rows = np.empty((len(reach), k)), np.empty((len(reach), k), np.int64)
    for i, one in enumerate(blocks):
        for j, two in enumerate(blocks[i:], start=i):
            bounds = lower_bounds(cloud, one, cloud, two)
            if i == j:
                np.fill_diagonal(bounds, np.inf)
            within = bounds <= reach[one, None]
            within |= bounds <= reach[two]
            at = np.flatnonzero(within)
            low = bounds.ravel()[at]
            first, second = np.divmod(at, bounds.shape[1])
            first, second = first + one.start, second + two.start
            for at_block, near, far in ((i, first, second), (j, second, first))[: 1 + (i != j)]:
                own = low <= reach[near]
                kept[at_block].append((near[own], far[own], low[own]))
        squared[one], rows[one] = _closest(cloud, kept[i], k)
        kept[i].clear()
    return Nearest(squared, rows)


def _closest(cloud: Cloud, kept: list[_Candidates], k: int) -> tuple[Values, Indices]:
    """Return squared distances and rows of the k closest of some candidates of each row, all of one block."""
    near, far = np.concatenate([part[0] for part in kept]), np.concatenate([part[1] for part in kept])
    low = np.concatenate([part[2] for part in kept])
    upper = low + cloud.slack[near] + cloud.slack[far]
    order = np.lexsort((upper, near))
    near, far, low, upper = near[order], far[order], low[order], upper[order]
    starts = np.searchsorted(near, np.unique(near))
    reach = np.repeat(upper[starts + k - 1], np.diff(starts, append=len(near)))
    close = low <= reach
    near, far = near[close], far[close]
    squared = exact(cloud, near, cloud, far)
    order = np.lexsort((far, squared, near))
    first = np.searchsorted(near[order], np.unique(near))
    chosen = order[first[:, None] + np.arange(k)]
    return squared[chosen], far[chosen]


@dataclass(frozen=True)
class ClosePairs:
    """Pairs of an output and a reference row, by their rows, with a squared distance that compares right."""

    outputs: Indices
    reference: Indices
    squared: Values


def close_pairs(
    outputs: Cloud, reference: Cloud, of_outputs: Values, of_reference: Values
) -> Iterator[ClosePairs]:
    """Yield, block by block, the pairs within the last of the radii of either side, and a few more.

    Args:
        outputs: N rows.
        reference: M rows.
        of_outputs: (N, R) squared radii of each output, ascending; the distances compare right with all.
        of_reference: (M, S) squared radii of each reference row, likewise.
    """
    scale = outputs.scale**2
    reach, far = (
        (radii[:, -1] / scale * (1 + 8 * _UNIT)).astype(np.float32) for radii in (of_outputs, of_reference)
    )
    for one in outputs.blocks():
        for two in reference.blocks():
            bounds = lower_bounds(outputs, one, reference, two)
            within = bounds <= reach[one, None]
            within |= bounds <= far[two]
            at = np.flatnonzero(within)
            i, j = np.divmod(at, bounds.shape[1])
            i, j = i + one.start, j + two.start
            low = bounds.ravel()[at].astype(np.float64) * scale
            high = low + (outputs.slack[i] + reference.slack[j]) * scale
            radii = (*of_outputs[i].T, *of_reference[j].T)
            open_ = np.logical_or.reduce([(low <= radius) & (radius <= high) for radius in radii])
            low[open_] = exact(outputs, i[open_], reference, j[open_])
            yield ClosePairs(i, j, low)


def check_clouds(outputs: NDArray[np.floating[Any]], reference: NDArray[np.floating[Any]]) -> None:
    """Raise unless both clouds are finite and equally wide.

    Raises:
        InputError: a value is not finite, or the sides differ in width.
    """
    check_finite(outputs, "outputs")
    check_finite(reference, "reference")
    if outputs.shape[1] != reference.shape[1]:
        raise InputError(f"features must be (N, D) and (M, D): {outputs.shape} and {reference.shape}")
