"""Structural similarity of two pictures.

Source: Wang et al. 2004, section III.B: 11x11 Gaussian window, sigma 1.5, K1 = 0.01, K2 = 0.03; the mean over
windows that lie inside the picture, and over the channels.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.types import Image

WINDOW, SIGMA = 11, 1.5  # pixels
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_STEP = 41  # rows of a block: short enough that most of the band matrix is not zero


def structural_similarity(one: Image, other: Image) -> float:
    """Return the mean SSIM of two (S, S, 3) uint8 pictures, S >= 11: 1 for equal ones, else below."""
    x, y = (picture.transpose(2, 0, 1).astype(np.float64) for picture in (one, other))
    moments = _windowed(np.concatenate([x, y, x * x + y * y, x * y]))
    mean_x, mean_y, squares, products = np.split(moments, 4)
    mean_product, mean_squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
    luminance = (2 * mean_product + _C1) / (mean_squares + _C1)
    structure = (2 * (products - mean_product) + _C2) / (squares - mean_squares + _C2)
    return float((luminance * structure).mean())


def _windowed(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (P, S - 10, S - 10) means of (P, S, S) planes under the window, rows and columns exchanged."""
    return _along_rows(_along_rows(planes).transpose(0, 2, 1))


def _along_rows(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the window's means down the second axis, by products with blocks of the band matrix."""
    length = planes.shape[1] - WINDOW + 1
    starts = range(0, length, _STEP)
    heights = [min(_STEP, length - start) for start in starts]
    parts = [
        _band(height) @ planes[:, start : start + height + WINDOW - 1]
        for start, height in zip(starts, heights, strict=True)
    ]
    return np.concatenate(parts, axis=1)


@cache
def _band(height: int) -> NDArray[np.float64]:
    """Return the (height, height + 10) matrix whose row i holds the window at i."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * SIGMA**2))
    band = np.zeros((height, height + WINDOW - 1))
    for i in range(height):
        band[i, i : i + WINDOW] = window / window.sum()
    return band
