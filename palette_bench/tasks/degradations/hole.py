"""The hole-v1 degradation: masks, holes in references, and recomposition of outputs with the known pixels.

Masks are fixed rectangles, or free-form strokes drawn from the keyed random stream. freeform-v1 is Algorithm
1 of Yu et al. 2019 with the constants of its public code, in integers. Source: protocol, sections 5.3 and 8.
"""

from __future__ import annotations

import numpy as np

from palette_bench.core.errors import UsageError
from palette_bench.core.rng import FULL_TURN, Stream, cosine_table
from palette_bench.core.types import Image, Mask
from palette_bench.tasks.protocol import Box, Degraded, Span, VariantSpec

HOLE_VALUE = 127
CANVAS = 256  # side at which strokes are drawn; protocols with smaller images reduce the mask
_MOST_DRAWS = 10_000
_Point = tuple[int, int]  # column, row


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


# --- masks ---


def box_mask(box: Box, side: int) -> Mask:
    """Return (side, side) bool, True inside the rectangle."""
    mask = np.zeros((side, side), bool)
    mask[box.rows[0] : box.rows[1] + 1, box.columns[0] : box.columns[1] + 1] = True
    return mask


def _draw_capsule(mask: Mask, start: _Point, end: _Point, width: int) -> None:
    """Add to the mask, in place, the pixels p with 4 dist(p, start-end)^2 <= width^2, computed in int64."""
    reach = width // 2 + 1
    rows, columns = (
        np.arange(max(0, min(a, b) - reach), min(CANVAS, max(a, b) + reach + 1), dtype=np.int64)
        for a, b in ((start[1], end[1]), (start[0], end[0]))
    )
    if not (len(rows) and len(columns)):
        return
    x, y = columns[None, :] - start[0], rows[:, None] - start[1]
    dx, dy = end[0] - start[0], end[1] - start[1]
    along, length = x * dx + y * dy, dx * dx + dy * dy
    square = width * width
    # the nearest point of the segment is its start, its end, or a point between them
    inside = np.where(
        along <= 0,
        4 * (x * x + y * y) <= square,
        np.where(
            along >= length,
            4 * ((x - dx) ** 2 + (y - dy) ** 2) <= square,
            4 * (x * dy - y * dx) ** 2 <= square * length,
        ),
    )
    mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] |= inside


def _clamp(value: int, high: int) -> int:
    return min(max(value, 0), high)


def _draw_stroke(mask: Mask, stream: Stream) -> None:
    segments = 4 + stream.below(8)
    low, high = 720 - stream.below(241), 720 + stream.below(241)  # tenths of a degree
    width = 12 + stream.below(28)
    x, y = stream.below(CANVAS), stream.below(CANVAS)
    cosine = cosine_table()
    for i in range(segments):
        angle = low + stream.below(high - low + 1)
        if i % 2 == 0:
            angle = FULL_TURN - angle
        radius = _clamp(11585 + (11 * stream.normal() >> 3), 23170)  # 1/256 pixel
        u = _clamp(x + (radius * int(cosine[angle % FULL_TURN]) >> 24), CANVAS)
        v = _clamp(y + (radius * int(cosine[(angle - 900) % FULL_TURN]) >> 24), CANVAS)  # sine
        _draw_capsule(mask, (x, y), (u, v), width)
        x, y = u, v


def freeform(stream: Stream) -> Mask:
    """Return one free-form mask, (256, 256) bool, True = hole; its area depends on the draws."""
    mask = np.zeros((CANVAS, CANVAS), bool)
    for _ in range(1 + stream.below(3)):
        _draw_stroke(mask, stream)
    return mask


def reduced(mask: Mask, side: int) -> Mask:
    """Return the mask at a smaller side; a pixel is hole if at least half of its block is hole."""
    factor = CANVAS // side
    blocks = mask.reshape(side, factor, side, factor).sum(axis=(1, 3))
    reduced: Mask = 2 * blocks >= factor * factor
    return reduced


def freeform_in(pixels: Span, side: int, stream: Stream) -> tuple[Mask, int]:
    """Return the first drawn mask with a number of hole pixels in `pixels`, and the number of draws.

    Args:
        pixels: smallest and largest number of hole pixels, both included.
        side: side of the mask, at most 256.
        stream: keyed random stream.
    """
    for draws in range(1, _MOST_DRAWS + 1):
        mask = reduced(freeform(stream), side) if side < CANVAS else freeform(stream)
        if pixels[0] <= int(mask.sum()) <= pixels[1]:
            return mask, draws
    raise AssertionError(f"no mask with {pixels} hole pixels in {_MOST_DRAWS:,} draws")


def draw_mask(variant: VariantSpec, side: int, stream: Stream) -> tuple[Mask, dict[str, int | str]]:
    """Return the mask of a variant, (side, side) bool, True = hole, and the details for the manifest."""
    if variant.freeform_pixels:
        mask, draws = freeform_in(variant.freeform_pixels, side, stream)
        return mask, {"draws": draws}
    if variant.hole:
        return box_mask(variant.hole, side), {}
    if variant.kept:
        return ~box_mask(variant.kept, side), {}
    raise UsageError("a hole-v1 variant needs one of hole, kept, freeform_pixels")


def hole_misfit(variant: VariantSpec, side: int) -> str:
    """Return why the hole of a variant does not fit images of a side, or ""."""
    if span := variant.freeform_pixels:
        if CANVAS % side:
            return f"free-form masks have sides that divide {CANVAS}, not {side}"
        return "" if 0 < span[0] <= span[1] < side * side else f"no mask has {span[0]} to {span[1]} pixels"
    box = variant.hole or variant.kept
    spans = (box.rows, box.columns) if box else ()
    fits = all(0 <= first <= last < side for first, last in spans)
    return "" if fits else f"the rectangle leaves the image, whose last row and column is {side - 1}"
