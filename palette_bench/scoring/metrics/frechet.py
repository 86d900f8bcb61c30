"""Fréchet distance of two feature clouds, by factors of their covariances.

No matrix square root: a factor F with F'F = S of each side gives tr (S1 S2)^1/2 as the sum of the
singular values of F1 F2', which is exact for singular covariances too. Source: metrics, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from palette_bench.core.errors import InputError
from palette_bench.scoring.metrics.outcome import Outcome, Tables, require_finite

SMALL_N = 2048
_NEGATIVE = 1e-9  # of the summed traces: what rounding may leave below zero

Method = Literal["rows", "qr", "none"]


@dataclass(frozen=True)
class FrechetResult:
    """A distance and how it was found.

    Attributes:
        value: squared feature units, >= 0; None if a side has one row or the arithmetic failed.
        method: factor of each side: `rows` (N <= D) or `qr` (N > D); `none` for a single row.
        rank: numerical rank of each covariance.
        n: rows of each side.
        notes: `n<2`, `rank-deficient`, `small-n`, `numerical-failure`.
    """

    value: float | None
    method: tuple[Method, Method]
    rank: tuple[int, int]
    n: tuple[int, int]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Cloud:
    n: int
    mean: NDArray[np.float64]
    factor: NDArray[np.float64]  # F with F'F = S
    method: Method

    @property
    def trace(self) -> float:
        return float(np.einsum("nd,nd->", self.factor, self.factor))

    @property
    def rank(self) -> int:
        return int(np.linalg.matrix_rank(self.factor))


def _cloud(features: NDArray[np.float64]) -> _Cloud:
    n, d = features.shape
    mean = features.mean(axis=0)
    if n < 2:
        return _Cloud(n, mean, np.zeros((1, d)), "none")
    rows = (features - mean) / np.sqrt(n - 1)
    if n <= d:
        return _Cloud(n, mean, rows, "rows")
    return _Cloud(n, mean, np.asarray(np.linalg.qr(rows, mode="r")), "qr")


def frechet_distance(x: NDArray[np.floating[Any]], y: NDArray[np.floating[Any]]) -> FrechetResult:
    """Return |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^1/2 of two feature clouds.

    Args:
        x: (N, D) features; the covariance has the divisor N - 1.
        y: (M, D) features.

    Raises:
        InputError: shapes do not fit, or a value is not finite.

    Source: Heusel et al. 2017, equation 6; the factor form is ours.
    """
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise InputError(f"features must be (N, D) and (M, D): {x.shape} and {y.shape}")
    one = _cloud(require_finite(x, "outputs"))
    two = _cloud(require_finite(y, "references"))
    value, notes = (None, ("n<2",)) if min(one.n, two.n) < 2 else _close(one, two)
    return FrechetResult(
        value,
        (one.method, two.method),
        (one.rank, two.rank),
        (one.n, two.n),
        notes + _size_notes(min(one.n, two.n), x.shape[1]),
    )


def _close(one: _Cloud, two: _Cloud) -> tuple[float | None, tuple[str, ...]]:
    """Return the distance, with rounding below zero as 0, or None where it is more than rounding."""
    if np.array_equal(one.mean, two.mean) and np.array_equal(one.factor, two.factor):
        return 0.0, ()  # the same cloud: exactly, not to rounding
    gap = one.mean - two.mean
    traces = one.trace + two.trace
    cross = float(linalg.svdvals(one.factor @ two.factor.T, check_finite=False).sum())
    value = float(gap @ gap) + traces - 2 * cross
    if not np.isfinite(value) or value < -_NEGATIVE * traces:
        return None, ("numerical-failure",)
    return max(value, 0.0), ()


def _size_notes(n: int, d: int) -> tuple[str, ...]:
    return ("rank-deficient",) * (n <= d) + ("small-n",) * (n < SMALL_N)


def frechet(tables: Tables) -> Outcome:
    """Return the distance of the outputs' features from the originals'; no interval yet (`no-interval`)."""
    result = frechet_distance(tables.outputs, tables.references)
    params = {
        "reference": "originals",
        "reference_n": result.n[1],
        "method": list(result.method),
        "rank": list(result.rank),
    }
    return Outcome(result.value, params=params, notes=(*result.notes, "no-interval"))
