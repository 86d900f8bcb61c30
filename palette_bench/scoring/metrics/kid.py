"""Kernel distance (KID): unbiased MMD^2 of two feature clouds under a cubic polynomial kernel.

Source: Binkowski et al. 2018, section 4; metrics, sections 4.2 and 5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.core import intervals
from palette_bench.core.errors import InputError, UsageError
from palette_bench.scoring.metrics.outcome import Outcome, Tables, require_finite

BLOCK = 1000  # rows of a kernel block: 8 MB

_Rows = NDArray[np.float64]


def _kernel(one: _Rows, two: _Rows) -> _Rows:
    base = one @ two.T / one.shape[1] + 1.0
    return np.asarray(base * base * base)


def _blocks(rows: _Rows) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, len(rows), BLOCK)]


def self_sums(rows: _Rows) -> _Rows:
    """Return sum over j != i of k(x_i, x_j) for each of (N, D) float64 rows, (N,)."""
    sums = np.zeros(len(rows))
    blocks = _blocks(rows)
    for i, one in enumerate(blocks):
        kernel = _kernel(rows[one], rows[one])
        np.fill_diagonal(kernel, 0.0)
        sums[one] += kernel.sum(axis=1)
        for two in blocks[i + 1 :]:
            kernel = _kernel(rows[one], rows[two])  # serves both halves: the kernel is symmetric
            sums[one] += kernel.sum(axis=1)
            sums[two] += kernel.sum(axis=0)
    return sums


def cross_sums(rows: _Rows, others: _Rows) -> _Rows:
    """Return sum over j of k(x_i, y_j) for each of (N, D) float64 rows against (M, D), (N,)."""
    sums = np.zeros(len(rows))
    for one in _blocks(rows):
        for two in _blocks(others):
            sums[one] += _kernel(rows[one], others[two]).sum(axis=1)
    return sums


def self_mean(features: NDArray[np.floating[Any]]) -> float:
    """Return mean over i != j of k(x_i, x_j) of (N, D) features, N >= 2: KID's term of the reference."""
    n = len(features)
    return float(self_sums(features.astype(np.float64)).sum() / (n * (n - 1)))


def kernel_distance(tables: Tables) -> Outcome:
    """Return the distance of the outputs' features from the reference over all pairs.

    The influence of an image is h_i = 2 [mean over j != i of k(x_i, x_j) - mean over j of k(x_i, y_j)];
    the reference is fixed. The value may lie below 0: the estimate is unbiased.

    Raises:
        InputError: a value is not finite, or the sides differ in width.
    """
    reference = tables.reference
    assert reference is not None, "a referenced metric is given its reference"
    params = {"reference": reference.id, "reference_n": reference.n, "kernel": "(x.y/d + 1)^3"}
    n = len(tables.outputs)
    if min(n, reference.n) < 2:
        return Outcome(None, params=params, notes=("n<2",))
    if reference.features is None:
        return Outcome(None, params=params, notes=("needs-features",))
    outputs, others = (
        require_finite(tables.outputs, "outputs"),
        require_finite(reference.features, "reference"),
    )
    if outputs.shape[1] != others.shape[1]:
        raise InputError(f"features must be (N, D) and (M, D): {outputs.shape} and {others.shape}")
    own, cross = self_sums(outputs) / (n - 1), cross_sums(outputs, others) / len(others)
    mean = self_mean(others) if reference.kernel_mean is None else reference.kernel_mean
    value = float(own.mean() + mean - 2 * cross.mean())
    return Outcome(value, intervals.linear(value, 2 * (own - cross), "ustat-v1"), params=params)


def kid_subsets(
    x: NDArray[np.floating[Any]],
    y: NDArray[np.floating[Any]],
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 2020,
) -> tuple[float, float]:
    """Return mean and standard deviation (divisor `subsets`) of the distance over random subsets.

    This is what other programs print as KID. Subsets of a seed are the ones torch-fidelity draws.

    Args:
        x: (N, D) features.
        y: (M, D) features.
        subsets: how many pairs of subsets are drawn.
        size: rows of each subset, 2..min(N, M).
        seed: of the draws.

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
        found[i] = self_mean(part) + self_mean(other) - 2 * cross_sums(part, other).mean() / size
    return float(found.mean()), float(found.std())
