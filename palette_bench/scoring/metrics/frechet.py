"""Fréchet distance of two feature clouds, from factors of their covariances.

No matrix square root of a product is needed. With factors F such that F'F = S, tr (S1 S2)^1/2 is the sum of
the singular values of F1 F2', which is exact for singular covariances too. If both covariances are well
conditioned, the eigenvalues of F2 S1 F2' give the same sum four times faster, with a bound on the error.
Source: metrics, section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import lapack

from palette_bench.core.errors import InputError
from palette_bench.core.intervals import Estimate, Interval
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome, check_finite, require_pairs
from palette_bench.scoring.metrics.moments import Influence, Moments, distance_influence, rounding

SMALL_N = 2048
_NEGATIVE = 1e-9  # relative to the summed traces: how far below zero rounding may go
_BOUND = 1e-5  # relative to max(1, distance): largest error bound accepted of the eigenvalue form
_EPS = float(np.finfo(np.float64).eps)

Method = Literal["rows", "chol", "qr", "eigh", "none"]
Closing = Literal["eigvalsh", "svdvals", "equal", "none"]
FeaturesOrMoments = NDArray[np.floating[Any]] | Moments


@dataclass(frozen=True)
class _Root:
    """tr (S1 S2)^1/2, a bound on its error, and the form that computed it."""

    value: float
    bound: float
    closing: Closing


class _Side:
    """One feature cloud, given as features, moments or both; missing quantities are computed once."""

    def __init__(self, features: NDArray[np.floating[Any]] | None, moments: Moments | None = None) -> None:
        self.features = None if features is None else np.ascontiguousarray(features)
        if moments is not None:
            self.moments = moments  # overrides the cached property
        self.n = moments.n if moments is not None else len(self._given)
        self.d = len(moments.mean) if moments is not None else self._given.shape[1]

    @property
    def _given(self) -> NDArray[np.floating[Any]]:
        assert self.features is not None, "a side has features or moments"
        return self.features

    @cached_property
    def moments(self) -> Moments:
        return Moments.of(self._given)

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        if self.method == "rows":
            return np.asarray(self._given.mean(axis=0, dtype=np.float64))
        return self.moments.mean

    @cached_property
    def method(self) -> Method:
        if self.n < 2:
            return "none"
        if self.features is not None and self.n <= self.d:
            return "rows"  # the centred rows are a smaller factor than a (D, D) one
        if self.moments.factor is not None:
            return "chol"
        return "eigh" if self.features is None else "qr"

    @cached_property
    def factor(self) -> NDArray[np.float64]:
        """Return F with F'F = S, one column per feature."""
        if self.method == "chol":
            assert self.moments.factor is not None
            return self.moments.factor
        if self.method == "eigh":
            values, vectors = linalg.eigh(self.moments.covariance, check_finite=False)
            kept = values > len(values) * _EPS * values[-1]
            return np.asarray(np.sqrt(values[kept])[:, None] * vectors[:, kept].T)
        rows = (self._given - self.mean) / np.sqrt(self.n - 1)
        return rows if self.method == "rows" else np.asarray(np.linalg.qr(rows, mode="r"))

    @cached_property
    def trace(self) -> float:
        if self.method == "rows":
            return float(np.einsum("nd,nd->", self.factor, self.factor))
        return self.moments.trace

    @property
    def rank(self) -> int:
        """Return the number of eigenvalues of S above rounding, as the factorisation finds them."""
        if self.method == "none":
            return 0
        if self.method in ("chol", "eigh"):
            return len(self.factor)
        gram = self.factor @ self.factor.T if self.method == "rows" else self.moments.covariance
        return int(lapack.dpstrf(gram, tol=rounding(gram))[2])  # Cholesky with pivots stops at the rank

    def equals(self, other: _Side) -> bool:
        """Return whether both clouds are equal, bit for bit."""
        if self.features is not None and other.features is not None:
            return np.array_equal(self.features, other.features)
        return self.moments.equals(other.moments)


@dataclass(frozen=True)
class FrechetResult(Estimate):
    """A distance, how it was computed, and on demand its 95 % interval: `se`, `low` and `high`.

    The interval is for the expected value at this number of images. It leaves out the amount that a finite
    number of images adds to the distance, which falls as 1/N.

    Attributes:
        value: squared feature units, >= 0; None if a side has one row or the arithmetic failed.
        method: factor of each side: `rows` (N <= D), `chol`, `qr` (N > D, singular covariance), `eigh`
            (moments alone, singular covariance); `none` for a single row.
        closing: form that computed the value from the factors; `equal` if both sides are equal, bit for bit.
        rank: numerical rank of each covariance.
        bound: bound on the rounding error of tr (S1 S2)^1/2, or None without a value.
        n: number of rows of each side.
        notes: `n<2`, `rank-deficient`, `small-n`, `numerical-failure`.
        paired: whether row i of the reference is the original of output i.
    """

    value: float | None
    method: tuple[Method, Method]
    closing: Closing
    rank: tuple[int, int]
    bound: float | None
    n: tuple[int, int]
    notes: tuple[str, ...]
    paired: bool
    _sides: tuple[_Side, _Side] = field(repr=False, compare=False)

    @cached_property
    def influence(self) -> Influence | None:
        """Return the influence of each image on the value; None without features of N > D and full rank."""
        outputs, reference = self._sides
        if self.value is None or outputs.features is None or outputs.n <= outputs.d:
            return None  # before moments are computed for nothing
        if self.paired and self.closing == "equal":
            still = np.zeros(outputs.n)
            return Influence(still, still)
        originals = reference.features if self.paired else None
        return distance_influence(outputs.features, outputs.moments, originals, reference.moments)

    @cached_property
    def interval(self) -> Interval | None:  # type: ignore[override]  # found when it is asked for
        """Return the interval, or None if there is no influence."""
        if self.value is None or self.influence is None:
            return None
        return self.influence.interval(self.value, "paired-influence-v1" if self.paired else "influence-v2")


def frechet_distance(
    outputs: FeaturesOrMoments, reference: FeaturesOrMoments, paired: bool = False
) -> FrechetResult:
    """Return |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^1/2 of two feature clouds, and its interval.

    Args:
        outputs: (N, D) features, or their moments; the covariance has the divisor N - 1.
        reference: (M, D) features, or their moments. If paired, M = N and row i is the original of output i.
        paired: whether rows belong together. If so, both images of a pair count as random; otherwise the
            reference counts as fixed.

    Returns:
        The distance. Its interval is None unless all sides that count as random have features, N > D and full
            rank.

    Raises:
        InputError: shapes do not match, a value is not finite, or moments are paired.

    Source: Heusel et al. 2017, equation 6; the factor form is ours.
    """
    if paired and (isinstance(outputs, Moments) or isinstance(reference, Moments)):
        raise InputError(
            "paired=True needs the features of both sides: moments do not say which rows belong together"
        )
    sides = _as_side(outputs, "outputs"), _as_side(reference, "reference")
    return _distance(*sides, paired)


def _as_side(given: FeaturesOrMoments, name: str) -> _Side:
    if isinstance(given, Moments):
        return _Side(None, given)
    check_finite(given, name)
    return _Side(given)


def _distance(one: _Side, two: _Side, paired: bool) -> FrechetResult:
    if one.d != two.d:
        raise InputError(
            f"features must be (N, D) and (M, D): {(one.n, one.d)} and {(two.n, two.d)} differ in D"
        )
    if paired and one.features is not None and two.features is not None:
        require_pairs(one.features, two.features)
    if one.equals(two):
        one = two  # the reference's cached moments then serve both sides
    sizes = (one.n, two.n)
    root = _root(one, two) if min(sizes) >= 2 else None
    value, notes = _value(one, two, root) if root else (None, ("n<2",))
    return FrechetResult(
        value,
        (one.method, two.method),
        root.closing if root else "none",
        (one.rank, two.rank),
        root.bound if root else None,
        sizes,
        notes + ("rank-deficient",) * (min(sizes) <= one.d) + ("small-n",) * (min(sizes) < SMALL_N),
        paired,
        (one, two),
    )


def _apart(one: _Side, two: _Side) -> float:
    """Return the distance without its cross term: |m1 - m2|^2 + tr S1 + tr S2."""
    gap = one.mean - two.mean
    return float(gap @ gap) + one.trace + two.trace


def _root(one: _Side, two: _Side) -> _Root:
    if one is two:
        return _Root(one.trace, 0.0, "equal")
    if one.method == two.method == "chol":
        root = _root_by_eigenvalues(one.moments.covariance, two.factor)
        if root.bound <= _BOUND * max(1.0, _apart(one, two) - 2 * root.value):
            return root
    values = linalg.svdvals(one.factor @ two.factor.T, overwrite_a=True, check_finite=False)
    bound = values.size * one.factor.shape[1] * _EPS * float(values.max(initial=0.0))
    return _Root(float(values.sum()), bound, "svdvals")


def _root_by_eigenvalues(covariance: NDArray[np.float64], factor: NDArray[np.float64]) -> _Root:
    """Return the sum of sqrt eigvalsh(F S F').

    An error e of an eigenvalue moves its root r by at most min(sqrt e, e/2r); the bound is the sum of these.
    """
    product, _ = lapack.dsygst(covariance, factor, itype=2)
    values = linalg.eigvalsh(product, lower=False, overwrite_a=True, check_finite=False)
    roots = np.sqrt(np.maximum(values, 0.0))
    error = len(values) * _EPS * float(values[-1])
    with np.errstate(divide="ignore"):
        moved = np.minimum(np.sqrt(error), error / (2 * roots))
    return _Root(float(roots.sum()), float(moved.sum()), "eigvalsh")


def _value(one: _Side, two: _Side, root: _Root) -> tuple[float | None, tuple[str, ...]]:
    """Return the distance; a negative one becomes 0 if it may be rounding, and None if it is more."""
    if root.closing == "equal":
        return 0.0, ()  # exactly 0, without rounding
    value = _apart(one, two) - 2 * root.value
    if not np.isfinite(value) or value < -_NEGATIVE * (one.trace + two.trace):
        return None, ("numerical-failure",)
    return max(value, 0.0), ()


def frechet(tables: FeatureTables, column: str = "fid_influence") -> MetricOutcome:
    """Return the distance of the outputs' features from the reference; `column` names the influence."""
    reference = tables.reference
    assert reference is not None, "a referenced metric is given its reference"
    check_finite(tables.outputs, "outputs")
    sides = _Side(tables.outputs), _Side(reference.features, reference.moments)
    result = _distance(*sides, reference.paired)
    influence = result.influence
    params = {
        "reference": reference.id,
        "reference_n": reference.n,
        "method": list(result.method),
        "closing": result.closing,
        "rank": list(result.rank),
        "bound": result.bound,
    }
    return MetricOutcome(
        result.value,
        result.interval,
        params=params,
        notes=tuple(dict.fromkeys((*result.notes, *(influence.notes if influence else ("rank-deficient",))))),
        columns=influence.columns(column) if influence else {},
    )
