"""The blur-v1 degradation: a Gaussian blur in integers, for deblurring.

The kernel is a row of Pascal's triangle: C(n, k) / 2^n with n = 4 sigma^2. It has the variance sigma^2 of the
Gaussian, which it approaches as n grows, and its integer weights sum to a power of two.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.rng import Stream
from palette_bench.core.types import Image
from palette_bench.tasks.protocol import Degraded, VariantSpec

_GUARD = 8  # fractional bits between the passes; with sigma 3 (n = 36) all sums stay below 2^53


def binomial(sigma: int) -> NDArray[np.int64]:
    """Return the (4 sigma^2 + 1,) weights C(4 sigma^2, k); their sum is 2^(4 sigma^2)."""
    order = 4 * sigma * sigma
    return np.array([comb(order, k) for k in range(order + 1)], np.int64)


def blur(pixels: Image, sigma: int) -> Image:
    """Return the blurred image, (H, W, 3) uint8: along columns, then along rows, each sum rounded half up.

    The first pass keeps 8 fractional bits. Beyond the border the image is mirrored, edge pixels included;
    this keeps its mean.

    Args:
        pixels: (H, W, 3) uint8.
        sigma: standard deviation of the kernel, 1 to 3 pixels.
    """
    weights, bits = binomial(sigma), 4 * sigma * sigma
    columns = _filtered(pixels.astype(np.int64), weights, 0)
    columns = ((columns << _GUARD) + (1 << (bits - 1))) >> bits
    rows = _filtered(columns, weights, 1)
    blurred: Image = ((rows + (1 << (bits + _GUARD - 1))) >> (bits + _GUARD)).astype(np.uint8)
    return blurred


def _filtered(values: NDArray[np.int64], weights: NDArray[np.int64], axis: int) -> NDArray[np.int64]:
    """Return the sums of values times weights along an axis, not divided by the weights' sum."""
    reach, size = len(weights) // 2, values.shape[axis]
    padding = [(reach, reach) if a == axis else (0, 0) for a in range(values.ndim)]
    padded = np.pad(values, padding, mode="symmetric")
    total = np.zeros_like(values)
    for at, weight in enumerate(weights):
        total += weight * padded.take(range(at, at + size), axis)
    return total


def blur_v1(reference: Image, variant: VariantSpec, stream: Stream) -> Degraded:
    """Return the reference blurred by the variant's sigma."""
    return Degraded(blur(reference, variant.parameters["sigma"]))
