"""CMMD: MMD^2 of two clouds of unit vectors with a Gaussian kernel.

Source: Jayasumana et al. 2024, section 4; google-research/cmmd, distance.py at 4c42994.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.intervals import Estimate, Interval, log_linear
from palette_bench.scoring.metrics import mmd
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome
from palette_bench.scoring.metrics.mmd import Rows
from palette_bench.scoring.metrics.moments import Influence

SIGMA = 10.0  # Jayasumana et al., section 4
SCALE = 1000.0  # makes the number readable; the published program's factor


@dataclass(frozen=True)
class GaussianResult(Estimate):
    """A distance with its interval, which is for the expected value at this number of images.

    Attributes:
        value: 1,000 squared kernel units, >= 0 up to rounding; None if a side has one row.
        interval: the 95 % interval, which gives `se`, `low` and `high`. None without a value.
        influence: influence of each of the N outputs, among all and within halves; None without a value.
        notes: `n<2`, `few-images`, `near-zero`, `wide-interval`.
    """

    value: float | None
    interval: Interval | None
    influence: Influence | None
    notes: tuple[str, ...] = ()


def gaussian(one: Rows, two: Rows) -> Rows:
    """Return k(x, y) = exp(-|x - y|^2 / (2 sigma^2)) of (N, D) and (M, D) rows, (N, M)."""
    found = one @ two.T
    found *= 2
    found -= np.einsum("nd,nd->n", one, one)[:, None]
    found -= np.einsum("nd,nd->n", two, two)
    found /= 2 * SIGMA**2
    return np.asarray(np.exp(found, out=found))


def _unit(rows: Rows) -> Rows:
    """Return rows of length 1, as CLIP's embeddings are; a row of zeros stays as it is."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0))


def self_mean(features: NDArray[np.floating[Any]]) -> float:
    """Return the mean over i != j of k(x_i, x_j) of (N, D) features, N >= 2, made unit vectors."""
    n = len(features)
    return float(mmd.self_sums(_unit(features.astype(np.float64)), gaussian).sum() / (n * (n - 1)))


def gaussian_distance(
    outputs: NDArray[np.floating[Any]],
    reference: NDArray[np.floating[Any]],
    paired: bool = False,
    *,
    reference_mean: float | None = None,
) -> GaussianResult:
    """Return 1,000 MMD^2 over all pairs, a row with itself included (a V-statistic), with its interval.

        paired    g_ij = k(x_i,x_j) + k(y_i,y_j) - k(x_i,y_j) - k(y_i,x_j);  MMD^2 = sum_ij g_ij / N^2
                  h_i = 2 sum over j != i of g_ij / N + g_ii / N
        unpaired  MMD^2 = sum_ij k(x_i,x_j) / N^2 + sum_ij k(y_i,y_j) / M^2 - 2 sum_ij k(x_i,y_j) / NM
                  h_i = 2 [sum over j != i of k(x_i,x_j) / N - sum_j k(x_i,y_j) / M]

    If unpaired, the reference counts as fixed. Pairs of a row with itself add about 1/N + 1/M of 1 - k. The
    value is positive and skewed near zero, so its interval is normal on the log scale.

    Args:
        outputs: (N, D) features; every row is divided by its length.
        reference: (M, D) features. If paired, M = N and row i is the original of output i.
        paired: whether rows belong together.
        reference_mean: `self_mean` of the reference, if known; unpaired only.

    Raises:
        InputError: a value is not finite, the sides differ in width, or paired sides differ in length.

    Source: Gretton et al. 2012, equation 5, as the published program of CMMD has it.
    """
    one, two = (_unit(rows) for rows in mmd.clouds(outputs, reference, paired))
    n, m = len(one), len(two)
    if min(n, m) < 2:
        return GaussianResult(None, None, None, ("n<2",))
    if paired:
        gap = one - two
        own = 2 - 2 * np.exp(np.einsum("nd,nd->n", gap, gap) / (-2 * SIGMA**2))  # g_ii
        among, among_half = mmd.means(mmd.paired_sums(one, two, gaussian))
        value = (float(among.mean()) * (n - 1) + float(own.mean())) / n
        cross, method = np.zeros(n), "paired-vstat-log-v1"
    else:
        own = np.zeros(n)  # k(x, x) = 1 for every x
        cross = mmd.cross_means(one, two, gaussian)
        among, among_half = mmd.means(mmd.self_sums(one, gaussian))
        mean = self_mean(reference) if reference_mean is None else reference_mean
        within = (float(among.mean()) * (n - 1) + 1) / n + (mean * (m - 1) + 1) / m
        value, method = within - 2 * float(cross.mean()), "vstat-log-v1"
    whole, halves = (
        None if found is None else SCALE * (2 * (found * (n - 1) / n - cross) + own / n)
        for found in (among, among_half)
    )
    assert whole is not None, "only halves may be too small"
    influence = Influence(whole, halves)
    interval = log_linear(SCALE * value, whole, method, halves)
    return GaussianResult(SCALE * value, interval, influence, influence.notes)


def gaussian_mmd(tables: FeatureTables, column: str = "cmmd_influence") -> MetricOutcome:
    """Return the distance of the outputs' features from the reference; `column` names the influence.

    Raises:
        InputError: as in `gaussian_distance`.
    """
    reference = tables.reference
    assert reference is not None, "a referenced metric is given its reference"
    params = {"reference": reference.id, "reference_n": reference.n, "sigma": SIGMA, "scale": SCALE}
    if reference.features is None:
        few = min(len(tables.outputs), reference.n) < 2
        return MetricOutcome(None, params=params, notes=("n<2" if few else "needs-features",))
    found = gaussian_distance(
        tables.outputs, reference.features, reference.paired, reference_mean=reference.kernel_mean
    )
    columns = found.influence.columns(column) if found.influence else {}
    return MetricOutcome(found.value, found.interval, params=params, notes=found.notes, columns=columns)
