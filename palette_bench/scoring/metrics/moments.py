"""Mean and covariance of a feature table: what a Fréchet distance needs of a large side.

Sums run over fixed blocks of the id-sorted table, merged left to right, so that they do not depend on the
batch or the number of processes that filled the table. Source: metrics, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from palette_bench.core.errors import InputError

BLOCK = 256  # rows; fixed: another block changes the last bits
_SYMMETRY = 1e-6  # relative; what a covariance from another program may lack (metrics, section 7)


@dataclass(frozen=True, eq=False)
class Moments:
    """The first two moments of N features of D values.

    Attributes:
        n: rows that entered, >= 1.
        mean: (D,) float64.
        covariance: (D, D) float64, divisor N - 1; zero for one row.
    """

    n: int
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(cls, features: NDArray[np.floating[Any]]) -> Moments:
        """Return the moments of (N, D) finite features, rows in id order.

        Each block is centred on the pilot, the mean of the first, before it is squared: sums of raw
        squares would lose the covariance of features far from zero.
        """
        features = np.ascontiguousarray(features)  # NumPy sums columns in another order otherwise
        n, d = features.shape
        pilot = features[:BLOCK].mean(axis=0, dtype=np.float64)
        total, squares = np.zeros(d), np.zeros((d, d), order="F")
        for start in range(0, n, BLOCK):
            rows = features[start : start + BLOCK] - pilot
            total += rows.sum(axis=0)
            squares = blas.dsyrk(1.0, rows.T, beta=1.0, c=squares, overwrite_c=1)
        squares = blas.dsyr(-1.0 / n, total, a=squares, overwrite_a=1)
        return cls(n, pilot + total / n, _mirrored(squares) / max(n - 1, 1))

    @cached_property
    def factor(self) -> NDArray[np.float64] | None:
        """Return the upper Cholesky factor U, U'U = S, or None unless S is positive definite.

        A pivot that rounding alone could have made, at most D eps max diag S, counts as zero, as in the
        `eigh` row of the dispatcher: two equal columns must not pass for two.
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
        """Return tr S."""
        return float(np.trace(self.covariance))

    def equals(self, other: Moments) -> bool:
        """Return whether both hold the same numbers, bit for bit."""
        if self is other:
            return True
        same = self.n == other.n and np.array_equal(self.mean, other.mean)
        return same and np.array_equal(self.covariance, other.covariance)

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return `n` (1,), `mean`, `covariance` and, if there is one, `factor`: all a cache must keep."""
        arrays = {"n": np.array([float(self.n)]), "mean": self.mean, "covariance": self.covariance}
        return arrays if self.factor is None else {**arrays, "factor": np.ascontiguousarray(self.factor)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Moments:
        """Return moments from `to_arrays` or another program.

        Args:
            arrays: `n` of one value, `mean` (D,), `covariance` (D, D), and optionally `factor`.

        Raises:
            InputError: shapes do not fit, a value is not finite, S is not symmetric, or n < 1.
        """
        n, mean, covariance = (np.asarray(arrays[k], np.float64) for k in ("n", "mean", "covariance"))
        _require_covariance(mean, covariance)
        if n.size != 1 or not n.item() >= 1:
            raise InputError(f"moments need the number of rows they come from, >= 1, not {n.tolist()}")
        found = cls(int(n.item()), mean, covariance)
        if "factor" in arrays:
            vars(found)["factor"] = np.asfortranarray(arrays["factor"])  # as if it had been computed here
        return found


def _mirrored(upper: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric matrix whose upper triangle is given; what lies below is not read."""
    return np.asarray(np.triu(upper) + np.triu(upper, 1).T)


def rounding(gram: NDArray[np.float64]) -> float:
    """Return the eigenvalue of a (D, D) Gram matrix below which nothing can be told from rounding."""
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
