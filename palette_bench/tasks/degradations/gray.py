"""The gray-v1 degradation: BT.601 luma in integers. Source: protocol, section 5.1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.rng import Stream
from palette_bench.core.types import Image
from palette_bench.tasks.protocol import Degraded, VariantSpec


def luma(pixels: Image) -> NDArray[np.uint8]:
    """Return the luma of RGB pixels, Y = (19595R + 38470G + 7471B + 32768) >> 16.

    Args:
        pixels: (..., 3) uint8.

    Returns:
        (...) uint8.
    """
    red, green, blue = (pixels[..., c].astype(np.int32) for c in range(3))
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).astype(np.uint8)


def gray_v1(reference: Image, variant: VariantSpec, stream: Stream) -> Degraded:
    """Return the luma of the reference as the input, (S, S, 1) uint8."""
    return Degraded(luma(reference)[:, :, None])
