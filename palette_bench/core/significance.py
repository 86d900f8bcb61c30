"""Paired tests of the difference between two systems on the same images, and Holm's correction.

Each test reads per-image columns in the same id order. The difference `delta` is the first system minus the
second. Source: metrics, section 5; reports and studies, sections 2.2 and 2.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from palette_bench.core.errors import InputError
from palette_bench.core.intervals import influence_se

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """Difference between two systems: delta, standard error, two-sided p value, image count, test id."""

    delta: float
    se: float
    p: float
    n: int
    test: str


def z_of_influence(
    value: float,
    other: float,
    influence: Column,
    others: Column,
    halves: Column | None = None,
    other_halves: Column | None = None,
) -> Difference | None:
    """Return the difference of two Fréchet or kernel distances, with a z test on h_A - h_B.

    h_A and h_B are the influences of each image on the distances of the first and the second system.

    Args:
        value: distance of the first system.
        other: distance of the second system.
        influence: (N,) influence of each image on the first distance, e.g. `fid_influence`.
        others: (N,) influence of each image on the second distance.
        halves: (N,) influence within halves on the first distance, e.g. `fid_influence_halves`, or None.
        other_halves: (N,) influence within halves on the second distance, or None.

    Returns:
        The difference, or None for N < 2.

    Raises:
        InputError: the columns differ in length, or a value is not finite.
    """
    gap = _gap(influence, others)
    within = None if halves is None or other_halves is None else _gap(halves, other_halves)
    spread = influence_se(gap, within)
    return None if spread is None else _normal(value - other, spread, len(gap), "z-influence")


def z_of_log_mean(divergences: Column, others: Column) -> Difference | None:
    """Return the difference of two log Inception Scores, with a z test on KL_A - KL_B.

    Args:
        divergences: (N,) KL divergence of each image of the first system, column `is_kl`.
        others: (N,) the same column of the second system.

    Returns:
        The difference, or None for N < 2.

    Raises:
        InputError: the columns differ in length, or a value is not finite.
    """
    spread = _standard_error(divergences, others)
    delta = float(divergences.mean() - others.mean())
    return None if spread is None else _normal(delta, spread, len(divergences), "z-log-influence")


def paired_t(values: Column, others: Column) -> Difference | None:
    """Return the difference of the means of (N,) paired values, with Student's t test; None for N < 2.

    Raises:
        InputError: the columns differ in length, or a value is not finite.
    """
    spread, n = _standard_error(values, others), len(values)
    if spread is None:
        return None
    delta = float((values - others).mean())
    p = 2 * float(special.stdtr(n - 1, -_ratio(delta, spread)))
    return Difference(delta, spread, p, n, "paired-t")


def mcnemar(hits: NDArray[np.int64], others: NDArray[np.int64]) -> Difference | None:
    """Return the difference of two shares in percentage points, with the exact McNemar test; None for N < 2.

    Exactly one system is right on b + c images: the first on b, the second on c. Under the null hypothesis,
    either system is equally likely to be the right one. Hence p = min(1, 2 P(X <= min(b, c))), where X is
    binomial (b + c, 1/2).

    Args:
        hits: (N,) 0 or 1, column `top1` of the first system.
        others: (N,) the same column of the second system.

    Raises:
        InputError: the columns differ in length, or a value is neither 0 nor 1.
    """
    if not (np.isin(hits, (0, 1)).all() and np.isin(others, (0, 1)).all()):
        raise InputError("McNemar's test needs columns of 0 and 1")
    spread, n = _standard_error(hits.astype(np.float64), others.astype(np.float64)), len(hits)
    if spread is None:
        return None
    only, other = int((hits > others).sum()), int((hits < others).sum())
    p = min(1.0, 2 * float(special.bdtr(min(only, other), only + other, 0.5))) if only + other else 1.0
    return Difference(100 * (only - other) / n, 100 * spread, p, n, "mcnemar-exact")


def _gap(values: Column, others: Column) -> Column:
    """Return values - others of two columns in the same id order.

    Raises:
        InputError: the columns differ in length, or a difference is not finite.
    """
    if values.shape != others.shape or values.ndim != 1:
        raise InputError(f"paired columns must have one length: {values.shape} and {others.shape}")
    gap = values - others
    if not np.isfinite(gap).all():
        raise InputError(f"{int((~np.isfinite(gap)).sum()):,} of {len(gap):,} paired values are not finite")
    return gap


def _standard_error(values: Column, others: Column) -> float | None:
    """Return sd(values - others) / sqrt N, or None for N < 2."""
    gap = _gap(values, others)
    return float(gap.std(ddof=1)) / math.sqrt(len(gap)) if len(gap) > 1 else None


def _ratio(delta: float, se: float) -> float:
    """Return |delta| / se; for se = 0, return 0 if delta is 0, else infinity."""
    if se > 0:
        return abs(delta) / se
    return 0.0 if delta == 0 else math.inf


def _normal(delta: float, se: float, n: int, test: str) -> Difference:
    return Difference(delta, se, 2 * float(special.ndtr(-_ratio(delta, se))), n, test)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the Holm-corrected p values of a family of m tests, in the given order.

    With p sorted ascending, p_holm[k] = max over j <= k of min(1, (m - j + 1) p[j]). Source: Holm 1979.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected
