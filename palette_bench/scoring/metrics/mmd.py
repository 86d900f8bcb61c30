"""Sums of a kernel over all pairs of rows, block by block: what KID and CMMD share.

MMD^2 of two feature clouds is the mean of k(x, x') plus the mean of k(y, y') minus twice the mean of k(x, y).
Source: Gretton et al. 2012, section 2.2; metrics, section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError
from palette_bench.scoring.metrics.metric import require_finite, require_pairs

# Rows per block: 2 MB of kernel stay in the processor's cache. Even, so that a row has the same parity in its
# block as in the whole table.
BLOCK = 500

Rows: TypeAlias = NDArray[np.float64]
Kernel: TypeAlias = Callable[[Rows, Rows], Rows]  # (N, D) and (M, D) rows -> (N, M)


def clouds(outputs: NDArray[np.floating], reference: NDArray[np.floating], paired: bool) -> tuple[Rows, Rows]:
    """Return both clouds in float64.

    Raises:
        InputError: a value is not finite, the sides differ in width, or paired sides differ in length.
    """
    one, two = require_finite(outputs, "outputs"), require_finite(reference, "reference")
    if paired:
        require_pairs(one, two)
    if one.shape[1] != two.shape[1]:
        raise InputError(f"features must be (N, D) and (M, D): {one.shape} and {two.shape}")
    return one, two


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + BLOCK) for start in range(0, n, BLOCK)]


def _by_parity(block: Rows) -> Rows:
    """Return (2, rows): the sums over even columns and over odd columns."""
    return np.stack([block[:, 0::2].sum(axis=1), block[:, 1::2].sum(axis=1)])


def _symmetric_sums(n: int, block: Callable[[slice, slice], Rows]) -> Rows:
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


def self_sums(rows: Rows, kernel: Kernel) -> Rows:
    """Return (2, N): for each i the sums of k(x_i, x_j) over even and over odd j != i."""
    return _symmetric_sums(len(rows), lambda one, two: kernel(rows[one], rows[two]))


def paired_sums(rows: Rows, others: Rows, kernel: Kernel) -> Rows:
    """Return (2, N): for each i the sums of g(i, j) over even and over odd j != i; 0 for equal clouds.

    g(i, j) = k(x_i, x_j) + k(y_i, y_j) - k(x_i, y_j) - k(y_i, x_j)
    """

    def block(i: slice, j: slice) -> Rows:
        within = kernel(rows[i], rows[j]) + kernel(others[i], others[j])
        return within - kernel(rows[i], others[j]) - kernel(others[i], rows[j])

    # equal sides give exactly 0 instead of a rounding error
    equal = np.array_equal(rows, others)
    return np.zeros((2, len(rows))) if equal else _symmetric_sums(len(rows), block)


def cross_means(rows: Rows, others: Rows, kernel: Kernel) -> Rows:
    """Return (N,): the mean over j of k(x_i, y_j), for each of (N, D) rows against (M, D) others."""
    sums = np.zeros(len(rows))
    for one in _blocks(len(rows)):
        for two in _blocks(len(others)):
            sums[one] += kernel(rows[one], others[two]).sum(axis=1)
    return sums / len(others)


def means(sums: Rows) -> tuple[Rows, Rows | None]:
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
