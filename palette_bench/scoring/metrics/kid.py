"""Kernel distance (KID): unbiased MMD^2 of two feature clouds with a cubic polynomial kernel.

Source: Binkowski et al. 2018, section 4; metrics, sections 4.2 and 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import UsageError
from palette_bench.core.intervals import Estimate, Interval
from palette_bench.scoring.metrics import mmd
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome, require_finite
from palette_bench.scoring.metrics.mmd import Rows
from palette_bench.scoring.metrics.moments import Influence


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


def cubic(one: Rows, two: Rows) -> Rows:
    """Return k(x, y) = (x.y / D + 1)^3 of (N, D) and (M, D) rows, (N, M)."""
    base = one @ two.T / one.shape[1] + 1.0
    return np.asarray(base * base * base)


def self_mean(features: NDArray[np.floating[Any]]) -> float:
    """Return the mean over i != j of k(x_i, x_j) of (N, D) features, N >= 2; a term of KID."""
    n = len(features)
    return float(mmd.self_sums(features.astype(np.float64), cubic).sum() / (n * (n - 1)))


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
    one, two = mmd.clouds(outputs, reference, paired)
    sizes = len(one), len(two)
    if min(sizes) < 2:
        return KernelResult(None, None, None, sizes, ("n<2",))
    if paired:
        whole, halves = mmd.means(mmd.paired_sums(one, two, cubic))
        value, method = float(whole.mean()), "paired-ustat-v1"
    else:
        cross = mmd.cross_means(one, two, cubic)
        own, own_half = mmd.means(mmd.self_sums(one, cubic))
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
        found[i] = self_mean(part) + self_mean(other) - 2 * float(mmd.cross_means(part, other, cubic).mean())
    return float(found.mean()), float(found.std())
