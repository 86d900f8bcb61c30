"""Mean and covariance of a feature table, and the influence of each image on a Fréchet distance.

Sums run over fixed blocks of the id-sorted table, merged left to right. They therefore do not depend on the
batch or the number of processes that filled the table. Source: metrics, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import blas, lapack

from palette_bench.core import intervals
from palette_bench.core.errors import InputError
from palette_bench.core.intervals import Interval
from palette_bench.core.types import ImageId

# --- moments ---

BLOCK = 256  # rows; fixed: another block changes the last bits
_SYMMETRY = 1e-6  # relative asymmetry allowed in a covariance from another program (metrics, section 7)


@dataclass(frozen=True, eq=False)
class Moments:
    """The mean and covariance of N features of D values.

    Attributes:
        n: number of rows, >= 1.
        mean: (D,) float64.
        covariance: (D, D) float64, divisor N - 1; zero for one row.
    """

    n: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.floating[Any]]) -> Moments:
        """Return the moments of (N, D) finite features, rows in id order.

        The mean of the first block is subtracted from every block before squaring: sums of raw squares would
        lose the covariance of features far from zero.
        """
        features = np.ascontiguousarray(features)  # in other layouts, NumPy sums columns in another order
        n, d = features.shape
        pilot = features[:BLOCK].mean(axis=0, dtype=np.float64)
        total, squares = np.zeros(d), np.zeros((d, d), order="F")
        for start in range(0, n, BLOCK):
            rows = features[start : start + BLOCK] - pilot
            total += rows.sum(axis=0)
            # adds rows' rows to the upper triangle, in place
            squares = blas.dsyrk(1.0, rows.T, beta=1.0, c=squares, overwrite_c=1)
        # the pilot is not yet the mean of all rows: subtract total total' / n
        squares = blas.dsyr(-1.0 / n, total, a=squares, overwrite_a=1)
        # only the upper triangle is filled
        symmetric = np.asarray(np.triu(squares) + np.triu(squares, 1).T)
        return cls(n, pilot + total / n, symmetric / max(n - 1, 1))

    @cached_property
    def factor(self) -> NDArray[np.float64] | None:
        """Return the upper Cholesky factor U with U'U = S, or None unless S is positive definite.

        A pivot of at most D eps max diag S counts as zero, because rounding alone could have made it: two
        equal columns must not count as independent. The `eigh` method of `frechet.py` has a similar
        threshold.
        """
        if self.n <= len(self.mean):
            return None
        factor, failed = lapack.dpotrf(self.covariance, lower=0, clean=1)
        if failed:
            return None
        smallest = float(np.diag(factor).min()) ** 2
        return np.asarray(factor) if smallest > rounding(self.covariance) else None

    @property
    def trace(self) -> float:
        """Return the trace of S."""
        return float(np.trace(self.covariance))

    def equals(self, other: Moments) -> bool:
        """Return whether both hold the same numbers, bit for bit."""
        if self is other:
            return True
        same = self.n == other.n and np.array_equal(self.mean, other.mean)
        return same and np.array_equal(self.covariance, other.covariance)

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return `n` (1,), `mean`, `covariance` and, if it exists, `factor`: all that a cache must keep."""
        arrays = {"n": np.array([float(self.n)]), "mean": self.mean, "covariance": self.covariance}
        return arrays if self.factor is None else {**arrays, "factor": np.ascontiguousarray(self.factor)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Moments:
        """Return moments from the arrays of `to_arrays` or of another program.

        Args:
            arrays: `n` of one value, `mean` (D,), `covariance` (D, D), and optionally `factor`.

        Raises:
            InputError: shapes do not match, a value is not finite, the covariance is not symmetric, or n < 1.
        """
        n, mean, covariance = (np.asarray(arrays[k], np.float64) for k in ("n", "mean", "covariance"))
        _require_covariance(mean, covariance)
        if n.size != 1 or not n.item() >= 1:
            raise InputError(f"moments need the number of rows they come from, >= 1, not {n.tolist()}")
        found = cls(int(n.item()), mean, covariance)
        if "factor" in arrays:
            vars(found)["factor"] = np.asfortranarray(arrays["factor"])  # fills the cached property
        return found


def rounding(gram: NDArray[np.float64]) -> float:
    """Return the threshold below which eigenvalues of a (D, D) Gram matrix may be rounding alone."""
    return float(len(gram) * np.finfo(np.float64).eps * np.diag(gram).max())


def _require_covariance(mean: NDArray[np.float64], covariance: NDArray[np.float64]) -> None:
    if mean.ndim != 1 or not mean.size or covariance.shape != (len(mean), len(mean)):
        raise InputError(f"moments must be (D,) and (D, D): {mean.shape} and {covariance.shape}")
    for name, values in (("mean", mean), ("covariance", covariance)):
        broken = ~np.isfinite(values)
        if broken.any():
            first = tuple(int(i) for i in np.argwhere(broken)[0])
            raise InputError(f"{name}: {int(broken.sum()):,} values are not finite, first at {first}")
    gap = float(np.abs(covariance - covariance.T).max())
    if gap > _SYMMETRY * float(np.abs(covariance).max()):
        raise InputError(f"covariance is not symmetric: entries differ by up to {gap:.3g}")


# --- influence ---

FEW = 100  # images; with fewer, the normal distribution behind an interval is a rough approximation
_BLOCK = 1024  # rows at a time, so that a table of 10,000 x 2,048 is not copied whole

_Rows = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Influence:
    """The influence of each of N images on a distance.

    Attributes:
        whole: (N,) float64, influence among all images.
        halves: (N,) float64, influence among the images of the same parity (even or odd rows); None if a half
            is too small for it.
    """

    whole: NDArray[np.float64]
    halves: NDArray[np.float64] | None

    def interval(self, value: float, method: str) -> Interval | None:
        """Return the 95 % interval of a value from the influence of its images."""
        return intervals.linear(value, self.whole, method, self.halves)

    def columns(self, name: str) -> dict[str, NDArray[np.float64]]:
        """Return the columns `name` and `name_halves` of the per-image table."""
        return {name: self.whole} | ({} if self.halves is None else {f"{name}_halves": self.halves})

    @property
    def notes(self) -> tuple[str, ...]:
        """Return notes if the interval is rough.

        `few-images`: under 100 images. `wide-interval`: there are no halves. `near-zero`: images move the
        distance less one at a time than in pairs.
        """
        few = ("few-images",) if len(self.whole) < FEW else ()
        if self.halves is None:
            return (*few, "wide-interval")
        uncorrected, se = intervals.influence_se(self.whole), intervals.influence_se(self.whole, self.halves)
        if not uncorrected or not se:
            return few
        together = uncorrected**2 - se**2  # V2 = (V1 + 2 V2) - (V1 + V2), see `influence_se`
        return (*few, "near-zero") if together > se**2 - together else few


def distance_influence(
    outputs: _Rows, moments: Moments, originals: _Rows | None, reference: Moments
) -> Influence | None:
    """Return the influence of each image on a Fréchet distance; None unless covariances are definite.

    With `originals`, an output and its own original are one draw, so both terms add up:

        h_i = h(x_i; m, S | m_r, S_r) + h(y_i; m_r, S_r | m, S)

    Any other reference counts as fixed. The influence then goes to the second order, because the first order
    alone is too small if N is a few times D.

    Args:
        outputs: (N, D).
        moments: moments of the outputs.
        originals: (N, D), row i the original of output i; None for a reference of other images.
        reference: moments of the originals, or of the other images.
    """
    whole = whole_influence(outputs, moments, originals, reference)
    if whole is None:
        return None
    halves = np.empty(len(outputs))
    for half in (slice(0, None, 2), slice(1, None, 2)):
        own = None if originals is None else originals[half]
        parts = Moments.of(outputs[half]), reference if own is None else Moments.of(own)
        found = whole_influence(outputs[half], parts[0], own, parts[1])
        if found is None:
            return Influence(whole, None)
        halves[half] = found
    return Influence(whole, halves)


def whole_influence(
    outputs: _Rows, moments: Moments, originals: _Rows | None, reference: Moments
) -> NDArray[np.float64] | None:
    """Return the influence of each image among all, as in `distance_influence`, which takes the same."""
    if originals is None:
        return frechet_influence(outputs, moments, reference, second_order=True)
    found = frechet_influence(outputs, moments, reference)
    others = frechet_influence(originals, reference, moments)
    return None if found is None or others is None else found + others


def frechet_influence(
    features: _Rows, moments: Moments, reference: Moments, *, second_order: bool = False
) -> NDArray[np.float64] | None:
    """Return the influence h of each image of one side on the Fréchet distance; the other side is fixed.

        h_i = 2 (m - m_r)'x + c [x'x - sum_k q_k],  minus its mean
        q_k = sqrt(w_k) (u_k' L^-1 x)^2,  x = f_i - m, c = N/(N-1), S = L L', L' S_r L = U diag(w) U'

    To the second order, h is the change of the distance if the image is left out, times 1 - N. The curvature
    that is then subtracted is

        [sum_k q_k + sum_jk q_j q_k / (sqrt(w_j) + sqrt(w_k))] / (2 (N - 1))

    Args:
        features: (N, D), the side whose images are weighed.
        moments: moments of these features.
        reference: moments of the fixed side; its covariance may be singular.
        second_order: whether the curvature is subtracted.

    Returns:
        (N,) float64, squared feature units. sd(h) / sqrt N is the standard error of the distance. A positive
            value means that this image increases the distance. None unless N > D and S is positive definite.
    """
    if moments.factor is None:
        return None
    weights, roots = _transport(moments.factor, reference.covariance)
    pairs = roots[:, None] + roots
    curvature = np.divide(1.0, pairs, out=np.zeros_like(pairs), where=pairs > 0) if second_order else None
    scale, slope = moments.n / (moments.n - 1), 2 * (moments.mean - reference.mean)
    found = np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        rows = features[start : start + _BLOCK] - moments.mean
        lengths = np.einsum("nd,nd->n", rows, rows)
        moved = np.square(rows @ weights)  # q
        total = moved.sum(axis=1)
        found[start : start + _BLOCK] = rows @ slope + scale * (lengths - total)
        if curvature is not None:
            bent = total + np.einsum("nd,nd->n", moved @ curvature, moved)
            found[start : start + _BLOCK] -= bent / (2 * (moments.n - 1))
    return np.asarray(found - found.mean())


def _transport(
    factor: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return B, (D, D), and sqrt(w), where (B'x)_k^2 = sqrt(w_k) (u_k' L^-1 x)^2.

    L is the transposed factor.
    """
    product, _ = lapack.dsygst(reference, factor, itype=2)
    values, vectors = linalg.eigh(product, lower=False, driver="evd", overwrite_a=True, check_finite=False)
    roots = np.sqrt(np.maximum(values, 0.0))
    scaled = vectors * np.sqrt(roots)
    return linalg.solve_triangular(factor, scaled, overwrite_b=True, check_finite=False), roots


def most_influential(
    ids: Sequence[ImageId], influence: Sequence[float] | NDArray[np.float64], count: int
) -> list[tuple[ImageId, float]]:
    """Return the images that move FID most, largest first, with the sign of their influence.

    Args:
        ids: N image ids.
        influence: the column `fid_influence`, N values.
        count: largest number of images to return.

    Returns:
        (id, influence) pairs; influences of equal size are in the order of their ids. A positive value raises
            FID.
    """
    pairs = zip(ids, map(float, influence), strict=True)
    return sorted(pairs, key=lambda pair: (-abs(pair[1]), pair[0]))[:count]
