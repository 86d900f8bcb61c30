"""The hole-v1 degradation, and recomposition of outputs with the known pixels.

Source: protocol, sections 5.3 and 8.
"""

from __future__ import annotations

import numpy as np

from palette_bench.core.rng import Stream
from palette_bench.core.types import Image, Mask
from palette_bench.tasks.degradations.degraded import Degraded
from palette_bench.tasks.degradations.masks import draw_mask
from palette_bench.tasks.protocol import VariantSpec

HOLE_VALUE = 127


def punch(reference: Image, mask: Mask) -> Image:
    """Return the reference, (S, S, 3) uint8, with 127 in every channel where `mask` is True."""
    return np.where(mask[:, :, None], np.uint8(HOLE_VALUE), reference)


def hole_v1(reference: Image, variant: VariantSpec, stream: Stream) -> Degraded:
    """Return the reference with 127 in its hole, and the mask of the hole."""
    mask, drawn = draw_mask(variant, reference.shape[0], stream)
    return Degraded(punch(reference, mask), mask, drawn)


def recomposite(output: Image, condition: Image, mask: Mask) -> Image:
    """Return the output inside the hole and the input elsewhere; this image is scored.

    Args:
        output: (S, S, 3) uint8, as submitted.
        condition: (S, S, 3) uint8, the input.
        mask: (S, S) bool, True = hole.

    Source: Palette, section 4 (only the hole is taken from the model); protocol, section 8.
    """
    return np.where(mask[:, :, None], output, condition)
