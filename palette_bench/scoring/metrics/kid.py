"""Kernel distance (KID): unbiased MMD^2 of two feature clouds with a cubic polynomial kernel.

Source: Binkowski et al. 2018, section 4; metrics, sections 4.2 and 5.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError, UsageError
from palette_bench.core.intervals import Estimate, Interval
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome, require_finite, require_pairs
from palette_bench.scoring.metrics.moments import Influence

# Rows per block: 2 MB of kernel stay in the processor's cache. Even, so that a row has the same parity in its
# block as in the whole table.
BLOCK = 500

_Rows = NDArray[np.float64]


@dataclass(frozen=True)
class KernelResult(Estimate):
    """A kernel distance with its interval.

    Attributes:
        value: squared kernel units; may be below 0, as the estimate is unbiased. None if a side has one row.
        interval: the 95 % interval, which gives `se`, `low` and `high`. None without a value.
        influence: influence of each of the N outputs, among all and within halves; None without a value.
        n: number of rows of each side.
        notes: `n<2`, `few-images`, `near-zero`, `wide-interval`.
    """

    value: float | None
    interval: Interval | None
    influence: Influence | None
    n: tuple[int, int]
    notes: tuple[str, ...] = ()


def _kernel(one: _Rows, two: _Rows) -> _Rows:
    base = one @ two.T / one.shape[1] + 1.0
    return np.asarray(base * base * base)


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]


def _by_parity(block: _Rows) -> _Rows:
    """Return (2, rows): the sums over even columns and over odd columns."""
    return np.stack([block[:, 0::2].sum(axis=1), block[:, 1::2].sum(axis=1)])


def _symmetric_sums(n: int, block: Callable[[slice, slice], _Rows]) -> _Rows:
    """Return (2, N): for each i the sums of g(i, j) over even and over odd j != i.

    `block` returns g on two slices of rows; g is symmetric.
    """
    sums = np.zeros((2, n))
    blocks = _blocks(n)
    for i, one in enumerate(blocks):
        own = block(one, one)
        np.fill_diagonal(own, 0.0)
        sums[:, one] += _by_parity(own)
        for two in blocks[i + 1 :]:
            other = block(one, two)
            sums[:, one] += _by_parity(other)
            sums[:, two] += _by_parity(other.T)
    return sums


def _self_sums(rows: _Rows) -> _Rows:
    """Return the sums of k(x_i, x_j), in the form of `_symmetric_sums`."""
    return _symmetric_sums(len(rows), lambda one, two: _kernel(rows[one], rows[two]))


def _cross_means(rows: _Rows, others: _Rows) -> _Rows:
    """Return (N,): the mean over j of k(x_i, y_j), for each of (N, D) rows against (M, D) others."""
    sums = np.zeros(len(rows))
    for one in _blocks(len(rows)):
        for two in _blocks(len(others)):
            sums[one] += _kernel(rows[one], others[two]).sum(axis=1)
    return sums / len(others)


def _means(sums: _Rows) -> tuple[_Rows, _Rows | None]:
    """Return two means over j != i from (2, N) sums by parity: over all j, and over j of i's own parity.

    The second is None for N < 4.
    """
    n = sums.shape[1]
    own = np.empty(n)
    if n < 4:
        return sums.sum(axis=0) / (n - 1), None
    for parity in (0, 1):
        own[parity::2] = sums[parity, parity::2] / (len(own[parity::2]) - 1)
    return sums.sum(axis=0) / (n - 1), own


def self_mean(features: NDArray[np.floating[Any]]) -> float:
    """Return the mean over i != j of k(x_i, x_j) of (N, D) features, N >= 2; a term of KID."""
    n = len(features)
    return float(_self_sums(features.astype(np.float64)).sum() / (n * (n - 1)))


def kernel_distance(
    outputs: NDArray[np.floating[Any]],
    reference: NDArray[np.floating[Any]],
    paired: bool = False,
    *,
    reference_mean: float | None = None,
) -> KernelResult:
    """Return the kernel distance of two feature clouds over all pairs, with its interval.

    If paired, output i and its original i are one draw. The cross term then leaves out i = j too, because
    equal sets would otherwise score below 0, and both images of a pair count as random. If unpaired, the
    reference counts as fixed. The influence h_i of image i is

        paired    h_i = 2 mean over j != i of [k(x_i,x_j) + k(y_i,y_j) - k(x_i,y_j) - k(x_j,y_i)]
        unpaired  h_i = 2 [mean over j != i of k(x_i,x_j) - mean over j of k(x_i,y_j)]

    Args:
        outputs: (N, D) features.
        reference: (M, D) features. If paired, M = N and row i is the original of output i.
        paired: whether rows belong together.
        reference_mean: `self_mean` of the reference, if known; unpaired only.

    Returns:
        The distance. Paired features that are equal bit for bit give exactly 0.

    Raises:
        InputError: a value is not finite, the sides differ in width, or paired sides differ in length.

    Source: metrics, sections 4.2 and 5.
    """
    one, two = require_finite(outputs, "outputs"), require_finite(reference, "reference")
    if paired:
        require_pairs(one, two)
    if one.shape[1] != two.shape[1]:
        raise InputError(f"features must be (N, D) and (M, D): {one.shape} and {two.shape}")
    sizes = len(one), len(two)
    if min(sizes) < 2:
        return KernelResult(None, None, None, sizes, ("n<2",))
    if paired:

        def block(i: slice, j: slice) -> _Rows:
            within = _kernel(one[i], one[j]) + _kernel(two[i], two[j])
            return within - _kernel(one[i], two[j]) - _kernel(two[i], one[j])

        # equal sides give exactly 0 instead of a rounding error
        equal = np.array_equal(one, two)
        sums = np.zeros((2, len(one))) if equal else _symmetric_sums(len(one), block)
        whole, halves = _means(sums)
        value, method = float(whole.mean()), "paired-ustat-v1"
    else:
        cross = _cross_means(one, two)
        own, own_half = _means(_self_sums(one))
        mean = self_mean(two) if reference_mean is None else reference_mean
        value, method = float(own.mean()) + mean - 2 * float(cross.mean()), "ustat-v2"
        whole, halves = own - cross, None if own_half is None else own_half - cross
    influence = Influence(2 * whole, None if halves is None else 2 * halves)
    return KernelResult(value, influence.interval(value, method), influence, sizes, influence.notes)


def kernel(tables: FeatureTables) -> MetricOutcome:
    """Return the kernel distance of the outputs' features from the reference.

    Raises:
        InputError: as in `kernel_distance`.
    """
    reference = tables.reference
    assert reference is not None, "a referenced metric is given its reference"
    params = {"reference": reference.id, "reference_n": reference.n, "kernel": "(x.y/d + 1)^3"}
    if reference.features is None:
        few = min(len(tables.outputs), reference.n) < 2
        return MetricOutcome(None, params=params, notes=("n<2" if few else "needs-features",))
    found = kernel_distance(
        tables.outputs, reference.features, reference.paired, reference_mean=reference.kernel_mean
    )
    columns = found.influence.columns("kid_influence") if found.influence else {}
    return MetricOutcome(found.value, found.interval, params=params, notes=found.notes, columns=columns)


def kid_subsets(
    x: NDArray[np.floating[Any]],
    y: NDArray[np.floating[Any]],
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
) -> tuple[float, float]:
    """Return mean and standard deviation (divisor `subsets`) of the distance over random subsets.

    Other programs print this mean as KID. A seed draws the same subsets as in torch-fidelity.

    Args:
        x: (N, D) features.
        y: (M, D) features.
        subsets: number of pairs of subsets to draw.
        size: rows of each subset, 2..min(N, M).
        seed: seed of the draws.

    Raises:
        InputError: a value is not finite.
        UsageError: subsets larger than the smaller side.

    Source: torch-fidelity 0.4, metric_kid.py, `kid_features_to_metric`.
    """
    one, two = require_finite(x, "outputs"), require_finite(y, "reference")
    if not 2 <= size <= min(len(one), len(two)):
        raise UsageError(
            f"subsets of {size:,} images from {len(one):,} and {len(two):,}: 2 to the smaller side"
        )
    draw = np.random.RandomState(seed)
    found = np.empty(subsets)
    for i in range(subsets):
        part = one[draw.choice(len(one), size, replace=False)]
        other = two[draw.choice(len(two), size, replace=False)]
        found[i] = self_mean(part) + self_mean(other) - 2 * float(_cross_means(part, other).mean())
    return float(found.mean()), float(found.std())
