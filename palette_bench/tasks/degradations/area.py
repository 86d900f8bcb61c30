"""The area-v1 degradation: the mean of each block of pixels, for super-resolution.

The reduced image is brought back to the reference's side by repetition, so that inputs of all tasks have one
size. Every input pixel is thus the mean of its own block.
"""

from __future__ import annotations

import numpy as np

from palette_bench.core.rng import Stream
from palette_bench.core.types import Image
from palette_bench.tasks.protocol import Degraded, VariantSpec


def block_means(pixels: Image, factor: int) -> Image:
    """Return the means of square blocks, (S/f, S/f, 3) uint8: (sum + f^2 // 2) // f^2, so halves go up.

    Args:
        pixels: (S, S, 3) uint8.
        factor: side f of a block, a divisor of S.
    """
    side, area = pixels.shape[0] // factor, factor * factor
    sums = pixels.reshape(side, factor, side, factor, 3).sum(axis=(1, 3), dtype=np.int64)
    means: Image = ((sums + area // 2) // area).astype(np.uint8)
    return means


def area_v1(reference: Image, variant: VariantSpec, stream: Stream) -> Degraded:
    """Return the reference reduced by the variant's factor; each reduced pixel fills its block."""
    factor = variant.parameters["factor"]
    return Degraded(block_means(reference, factor).repeat(factor, axis=0).repeat(factor, axis=1))


def area_misfit(variant: VariantSpec, side: int) -> str:
    """Return why a variant does not fit images of a side, or ""."""
    factor = variant.parameters["factor"]
    return "" if side % factor == 0 else f"factor {factor} does not divide the side of {side} pixels"
