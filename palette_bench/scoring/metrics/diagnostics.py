"""Pixel diagnostics such as PSNR and SSIM: they explain a score and never rank."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.intervals import mean_t
from palette_bench.core.types import Image, Mask
from palette_bench.scoring.metrics.metric import MetricOutcome, MetricRow
from palette_bench.tasks.degradations.gray import luma

# --- structural similarity ---

WINDOW, SIGMA = 11, 1.5  # pixels
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_ROWS, _COLUMNS = 41, 64  # of a block: few rows, so that most of the band matrix is not zero
_Plane = NDArray[np.float64]


class _Scratch(threading.local):
    """Arrays of a thread that every image fills again; the system would clear new memory for each image."""

    side = 0

    def resize(self, side: int) -> None:
        """Make the arrays for images of another side."""
        if side == self.side:
            return
        size = side - WINDOW + 1
        self.side = side
        self.planes = np.empty((4, side, side))  # x, y, x^2 + y^2, xy of one channel
        self.row_means = np.empty((4, size, side))
        self.means = np.empty((4, size, size))
        self.similarity = np.empty((3, size, size))


_SCRATCH = _Scratch()


def structural_similarity(one: Image, other: Image) -> float:
    """Return the mean SSIM of two (S, S, 3) uint8 images, S >= 11; 1 for equal images, below 1 for others."""
    scratch = _SCRATCH
    scratch.resize(one.shape[0])
    x, y, squares, products = scratch.planes
    for channel, similarity in enumerate(scratch.similarity):
        x[:], y[:] = one[:, :, channel], other[:, :, channel]
        np.multiply(x, y, out=products)
        np.multiply(x, x, out=squares)
        squares += y * y
        _along_rows(scratch.planes, scratch.row_means)
        _along_rows(scratch.row_means.transpose(0, 2, 1), scratch.means)  # rows and columns exchanged
        _compare(scratch.means, similarity)
    return float(scratch.similarity.mean())


def _compare(means: _Plane, similarity: _Plane) -> None:
    """Fill `similarity` with SSIM from window means of x, y, x^2 + y^2 and xy, which are overwritten.

    SSIM = (2 x y + C1) / (x^2 + y^2 + C1) * (2 (xy - x y) + C2) / (variances of x and y + C2).
    """
    x, y, squares, products = means
    np.multiply(x, y, out=similarity)
    products -= similarity
    products *= 2
    products += _C2
    similarity *= 2
    similarity += _C1
    x *= x
    y *= y
    x += y
    squares -= x
    squares += _C2
    x += _C1
    similarity /= x
    products /= squares
    similarity *= products


def _along_rows(planes: _Plane, means: _Plane) -> None:
    """Fill `means` with the window means along the second axis, by products with blocks of the band matrix.

    The blocks are so small that BLAS computes each in one thread: several threads cost ten times as much for
    such products, and change the last bit.
    """
    _, length, width = means.shape
    for top in range(0, length, _ROWS):
        height = min(_ROWS, length - top)
        above = slice(top, top + height + WINDOW - 1)
        for left in range(0, width, _COLUMNS):
            columns = slice(left, left + _COLUMNS)
            out = means[:, top : top + height, columns]
            np.matmul(_band(height), planes[:, above, columns], out=out)


@cache
def _band(height: int) -> NDArray[np.float64]:
    """Return the (height, height + 10) matrix whose row i holds the window at offset i."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    window = np.exp(-(offsets**2) / (2 * SIGMA**2))
    band = np.zeros((height, height + WINDOW - 1))
    for i in range(height):
        band[i, i : i + WINDOW] = window / window.sum()
    return band


# --- diagnostics of one image ---

DECILES = 10
_Differences = NDArray[np.int16]  # level differences, -255..255


@dataclass(frozen=True)
class DiagnosticInput:
    """One output with its reference, input and mask.

    Attributes:
        raw: (S, S, 3) uint8, the output as submitted.
        scored: (S, S, 3) uint8, the output with the input's known pixels if the task has a hole.
        reference: (S, S, 3) uint8, the original.
        condition: (S, S, 3) uint8, the input; gray is repeated in each channel.
        mask: (S, S) bool, True = hole, or None.
    """

    raw: Image
    scored: Image
    reference: Image
    condition: Image
    mask: Mask | None

    @cached_property
    def error(self) -> _Differences:
        """Return scored image minus reference, in levels; the diagnostics share it."""
        return _difference(self.scored, self.reference)


class DiagnosticReading(NamedTuple):
    """A diagnostic of one image, the largest level difference in it, and details for `Diagnostic.explain`."""

    value: float
    largest: int
    detail: tuple[float, ...] = ()


@dataclass(frozen=True)
class Diagnostic(MetricRow):
    """A row of the table of diagnostics; its id is also its column of the per-image table.

    Attributes:
        degradation: the only degradation that it applies to, or None for all.
        read: returns its value for one image.
        explain: returns entries of `params` from the readings of all images, in id order.
    """

    degradation: str | None
    read: Callable[[DiagnosticInput], DiagnosticReading]
    explain: Callable[[Sequence[DiagnosticReading]], dict[str, Any]] = lambda readings: {}


def _difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> _Differences:
    return np.subtract(one, other, dtype=np.int16)


def _largest(gap: _Differences) -> int:
    """Return the largest absolute difference; 0 if there is none."""
    return max(int(gap.max(initial=0)), -int(gap.min(initial=0)))


def psnr(image: DiagnosticInput) -> DiagnosticReading:
    """Return 10 log10(255^2 / MSE) of the scored image against the original, in dB.

    Equal images have no PSNR. They are read as if one sample differed by one level, the best possible unequal
    image (101.07 dB at 256x256), so that means stay finite and in order. This is our choice; the note
    `capped` records it, next to the count of equal images. The detail is the share of the image that is hole,
    if the task has one.
    """
    gap = image.error
    squares = max(int(np.square(gap, dtype=np.int32).sum(dtype=np.int64)), 1)
    hole = () if image.mask is None else (float(image.mask.mean()),)
    return DiagnosticReading(float(10 * np.log10(255**2 * gap.size / squares)), _largest(gap), hole)


def _by_hole(readings: Sequence[DiagnosticReading]) -> dict[str, Any]:
    """Return the mean PSNR of each tenth of the images, smallest holes first, if hole sizes differ.

    Each entry is [largest share of the image that is hole, mean PSNR]; equal shares stay in id order.
    """
    shares = np.array([share for reading in readings for share in reading.detail])
    if len(shares) < DECILES or np.ptp(shares) == 0:
        return {}
    values, order = np.array([reading.value for reading in readings]), np.argsort(shares, kind="stable")
    tenths = np.array_split(order, DECILES)
    return {"by_hole": [[float(shares[rows[-1]]), float(values[rows].mean())] for rows in tenths]}


def ssim(image: DiagnosticInput) -> DiagnosticReading:
    """Return the structural similarity of the scored image and the original, 1 if equal."""
    return DiagnosticReading(structural_similarity(image.scored, image.reference), _largest(image.error))


def colour_shift(image: DiagnosticInput) -> DiagnosticReading:
    """Return the shift of the mean colour: mean over channels of |mean(scored - original)|, in levels.

    It covers the hole if the task has one, otherwise the whole image. Errors of opposite signs cancel within
    a channel, so it measures a tint and not noise. The detail is the signed shift of red, green and blue.
    This definition is our choice.
    """
    gap, count = image.error, image.error[:, :, 0].size
    if image.mask is not None:
        gap, count = gap * image.mask[:, :, None], int(image.mask.sum())
    if not count:
        return DiagnosticReading(0.0, 0, (0.0, 0.0, 0.0))
    # rows of pixels are summed first, which is much faster than summing over pixels of three samples
    columns = gap.reshape(len(gap), -1).sum(axis=0, dtype=np.int64)
    shift = columns.reshape(-1, 3).sum(axis=0) / count
    return DiagnosticReading(float(np.abs(shift).mean()), _largest(gap), tuple(map(float, shift)))


def known_region_error(image: DiagnosticInput) -> DiagnosticReading:
    """Return the mean absolute difference between raw output and input outside the hole, in levels.

    A mask without known pixels gives 0.
    """
    assert image.mask is not None, "a hole task has masks"
    gap = _difference(image.raw, image.condition) * ~image.mask[:, :, None]
    return _mean_level(gap, 3 * int((~image.mask).sum()))


def gray_consistency(image: DiagnosticInput) -> DiagnosticReading:
    """Return the mean absolute difference between gray-v1(output) and the gray input, in levels."""
    gap = _difference(luma(image.scored), image.condition[:, :, 0])
    return _mean_level(gap, gap.size)


def colourfulness_of(image: Image) -> float:
    """Return the colourfulness of an (H, W, 3) uint8 image, >= 0, and 0 for gray images.

    With rg = R - G and yb = (R + G) / 2 - B, it is sqrt(var rg + var yb) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2)
    over all pixels, on sRGB levels. 33 is moderately, 109 extremely colourful. Sums of integers are exact.

    Source: Hasler and Suesstrunk 2003, the metric M(3) and its table of categories.
    """
    red, green, blue = np.moveaxis(image.astype(np.int16), 2, 0)
    count = red.size
    spread = offset = 0.0
    for opponent, factor in ((red - green, 1), (red + green - 2 * blue, 2)):  # rg, and twice yb
        mean = int(opponent.sum(dtype=np.int64)) / count / factor
        squares = int(np.square(opponent, dtype=np.int32).sum(dtype=np.int64)) / count / factor**2
        spread, offset = spread + squares - mean**2, offset + mean**2
    return float(np.sqrt(max(spread, 0.0)) + 0.3 * np.sqrt(offset))


def colourfulness(image: DiagnosticInput) -> DiagnosticReading:
    """Return the colourfulness of the scored image; it says nothing of the original."""
    return DiagnosticReading(colourfulness_of(image.scored), _largest(image.error))


def colourfulness_change(image: DiagnosticInput) -> DiagnosticReading:
    """Return the colourfulness of the scored image minus that of its original; below 0 it is duller."""
    change = colourfulness_of(image.scored) - colourfulness_of(image.reference)
    return DiagnosticReading(change, _largest(image.error))


def _mean_level(gap: _Differences, count: int) -> DiagnosticReading:
    """Return the mean absolute difference of `count` samples; all others are 0 in `gap`."""
    if not count:
        return DiagnosticReading(0.0, 0)
    return DiagnosticReading(int(np.abs(gap).sum(dtype=np.int64)) / count, _largest(gap))


# --- table and summary ---

DIAGNOSTICS: dict[str, Diagnostic] = {
    row.id: row
    for row in (
        Diagnostic(
            "psnr", "PSNR", "pixel error against the original",
            "peak signal-to-noise ratio against the original", "higher", "dB", None, psnr, _by_hole,
        ),
        Diagnostic(
            "ssim", "SSIM", "local structure shared with the original",
            "structural similarity to the original", "higher", "SSIM", None, ssim,
        ),
        Diagnostic(
            "known_region_error", "Known-region error", "change outside the hole, before pasting",
            "change outside the hole, before pasting", "lower", "levels", "hole-v1", known_region_error,
        ),
        Diagnostic(
            "gray_consistency", "Gray consistency", "change of luma against the input",
            "change of luma against the input", "lower", "levels", "gray-v1", gray_consistency,
        ),
        Diagnostic(
            "colour_shift", "Colour shift", "change of each channel's mean against the original",
            "tint against the original", "lower", "levels", None, colour_shift,
            # the signed shift of red, green and blue, averaged over images, in levels
            lambda found: {"signed": [float(mean) for mean in np.mean([r.detail for r in found], axis=0)]},
        ),
        Diagnostic(
            "colourfulness", "Colourfulness", "spread and strength of the output's colours",
            "colourfulness of the output", "none", "colourfulness", "gray-v1", colourfulness,
        ),
        Diagnostic(
            "colourfulness_change", "Colourfulness change", "0 as colourful as the original, below duller",
            "colourfulness of the output minus the original's", "none", "colourfulness", "gray-v1",
            colourfulness_change,
        ),
    )
}  # fmt: skip


def summarise(diagnostic: Diagnostic, readings: Sequence[DiagnosticReading]) -> MetricOutcome:
    """Return the mean over images; `max` in its params is the largest level difference of any image.

    Args:
        diagnostic: the diagnostic.
        readings: one per image, in id order.
    """
    values = np.array([reading.value for reading in readings])
    equal = sum(reading.largest == 0 for reading in readings)
    interval = mean_t(values)
    capped = diagnostic.id == "psnr" and equal > 0
    return MetricOutcome(
        float(values.mean()),
        interval,
        params={
            "max": max(reading.largest for reading in readings),
            "equal": equal,
            **diagnostic.explain(readings),
        },
        notes=(() if interval else ("n<2",)) + (("capped",) if capped else ()),
        columns={diagnostic.id: values},
    )
