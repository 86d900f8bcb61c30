"""How far each image moves a Fréchet distance: its standard error, and the images that matter most.

Source: metrics, section 5. The first-order change of the distance with the weight of one image, the
reference held fixed; -2 tr (S S_r)^1/2 changes with S by the optimal transport map from S to S_r.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.linalg import lapack

from palette_bench.core.types import ImageId
from palette_bench.scoring.metrics.moments import Moments

_BLOCK = 1024  # rows at a time, to keep a table of 10,000 x 2,048 from being copied whole


def frechet_influence(
    features: NDArray[np.floating[Any]], moments: Moments, reference: Moments
) -> NDArray[np.float64] | None:
    """Return the influence h of each image on the Fréchet distance.

        h_i = 2 (m - m_r)'x + c [x'x - sum_k sqrt(w_k) (u_k' L^-1 x)^2],  minus its mean
        x = f_i - m, c = N/(N-1), S = L L', L' S_r L = U diag(w) U'

    Args:
        features: (N, D), the outputs.
        moments: of these features.
        reference: moments of the fixed side; its covariance may be singular.

    Returns:
        (N,) float64, squared feature units; sd(h) / sqrt N is the standard error of the distance, and a
        positive value means that the distance grows with this image. None unless N > D and S is positive
        definite.
    """
    if moments.factor is None:
        return None
    weights = _transport(moments.factor, reference.covariance)
    scale, slope = moments.n / (moments.n - 1), 2 * (moments.mean - reference.mean)
    found = np.empty(len(features))
    for start in range(0, len(features), _BLOCK):
        rows = features[start : start + _BLOCK] - moments.mean
        lengths = np.einsum("nd,nd->n", rows, rows)
        carried = rows @ weights
        moved = np.einsum("nd,nd->n", carried, carried)
        found[start : start + _BLOCK] = rows @ slope + scale * (lengths - moved)
    return np.asarray(found - found.mean())


def _transport(factor: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return B, (D, D), with x'B B'x = sum_k sqrt(w_k) (u_k' L^-1 x)^2, L the transposed factor."""
    product, _ = lapack.dsygst(reference, factor, itype=2)
    values, vectors = linalg.eigh(product, lower=False, driver="evd", overwrite_a=True, check_finite=False)
    scaled = vectors * np.maximum(values, 0.0) ** 0.25
    return np.asarray(linalg.solve_triangular(factor, scaled, overwrite_b=True, check_finite=False))


def most_influential(
    ids: Sequence[ImageId], influence: Sequence[float] | NDArray[np.float64], count: int
) -> list[tuple[ImageId, float]]:
    """Return the images that move FID most, largest first, with the sign of their influence.

    Args:
        ids: of the images, N of them.
        influence: the column `fid_influence`, N values.
        count: how many to return, at most.

    Returns:
        (id, influence) pairs; equal sizes in the order of their ids. A positive value raises FID.
    """
    pairs = zip(ids, map(float, influence), strict=True)
    return sorted(pairs, key=lambda pair: (-abs(pair[1]), pair[0]))[:count]
