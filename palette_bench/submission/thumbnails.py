"""Comparison of an output with inputs: tones, channels and turns on 16 x 16 thumbnails, shifts on pixels.

A pixel digest only distinguishes equal from different images. The means of a thumbnail's cells still show the
scene after a model has smoothed or sharpened it. The thresholds are ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.types import Image, Mask

CELLS = 16  # cells per side of a thumbnail; the sides of all protocols are multiples of it
FAR = 12.0  # levels RMS between tone-fitted thumbnails, below which an output shows the scene of an input
NEARER = 4.0  # factor by which another input, or the turned output, must match better
ALIKE = 0.95  # correlation from which two thumbnails show the same scene
COLOURED = 6.0  # levels RMS between red and blue of a thumbnail, below which a swap cannot be detected
MIN_CELLS = 16  # cells without a hole that a comparison needs
IN_PLACE = 3.0  # levels RMS of luma, below which there is no shift; a shift by one pixel exceeds it
REACH = 16  # largest shift in pixels that is searched
SHIFTED = 0.8  # the RMS error after undoing a shift must be at most this fraction of that before
LUMA = np.array([19595, 38470, 7471]) / 65536  # weights of gray-v1, without its rounding
# rows: Y, Cb, Cr from R, G, B in levels; ITU-T T.871 (JFIF), equations of section 7
_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])

Levels = NDArray[np.float64]  # (cells,) luma of thumbnail cells
Colours = NDArray[np.float64]  # (cells, 3) R, G, B of thumbnail cells


def thumbnail(image: Image) -> Colours:
    """Return the mean of each cell of an (S, S, 3) uint8 image, (CELLS * CELLS, 3) in levels."""
    side = image.shape[0] // CELLS
    # summing whole rows first is ten times faster than summing each cell
    strips = image.reshape(CELLS, side, -1).sum(axis=1, dtype=np.uint32)
    cells = strips.reshape(CELLS, CELLS, side, 3).sum(axis=2).reshape(-1, 3)
    return np.asarray(cells / side**2, np.float64)


def tones(output: Levels, given: Levels, *, of_0_to_1: bool) -> tuple[float, float] | None:
    """Return the contrast ratio and brightness difference of an output relative to its input.

    None if the output shows another scene. The contrast of a negative is below zero.

    Args:
        output: luma of the output's known cells.
        given: luma of the same cells of the input.
        of_0_to_1: whether all values of the output are 0 or 1. Such an output is a scaled image that lost its
            levels, so it need not correlate with the input.
    """
    spread, given_spread = output.std(), given.std()
    if given_spread == 0:
        return None
    likeness = np.corrcoef(output, given)[0, 1] if spread > 0 else 0.0
    if not (abs(likeness) >= ALIKE or of_0_to_1):
        return None
    gain = -spread if likeness <= -ALIKE else spread  # a negative correlates by about -1
    return float(gain / given_spread), float(output.mean() - given.mean())


def turn(output: Levels, given: Levels, known: NDArray[np.bool_]) -> str:
    """Return in words how an output is turned or mirrored relative to its input, or an empty string."""
    scene, seen = output.reshape(CELLS, CELLS), known.astype(np.float64)[None]
    turned = {
        "mirrored left to right": scene[:, ::-1],
        "upside down": scene[::-1],
        "turned by 180 degrees": scene[::-1, ::-1],
        "transposed": scene.T,
        "turned by 90 degrees": np.rot90(scene),
        "turned by 270 degrees": np.rot90(scene, 3),
    }
    own = distances(output[None], given[None], seen)[0, 0]
    gaps = {
        how: distances(grid.reshape(1, -1), given[None], seen, alike=True)[0, 0]
        for how, grid in turned.items()
    }
    nearest = min(gaps, key=lambda how: gaps[how])
    return nearest if own > FAR > gaps[nearest] and NEARER * gaps[nearest] < own else ""


def colour_fault(output: Colours, model: Colours) -> str | None:
    """Return the names of an output's channels if they are not R, G, B.

    "" if the channels are R, G, B; None if the colours do not suffice for a verdict.

    Args:
        output: colours of the output's known cells.
        model: colours that these cells should have.
    """
    for order, held in (([0, 1, 2], "Y, Cb, Cr"), ([0, 2, 1], "Y, Cr, Cb")):
        expected = (model @ _YCC.T + [0, 128, 128])[:, order]
        gap, own = np.sqrt(((output - expected) ** 2).mean()), np.sqrt(((output - model) ** 2).mean())
        if gap < FAR and NEARER * gap < own:
            return held
    lumas = output @ LUMA, model @ LUMA
    if min(luma.std() for luma in lumas) == 0 or np.corrcoef(*lumas)[0, 1] < 0:
        return None  # the output shows another scene, or a negative
    # The difference of red and blue changes its sign if the two are swapped.
    mine, theirs = output[:, 0] - output[:, 2], model[:, 0] - model[:, 2]
    if np.sqrt((theirs**2).mean()) < COLOURED or np.sqrt((mine**2).mean()) < COLOURED / 4:
        return None
    swapped = (mine * theirs).sum() / np.sqrt((mine**2).sum() * (theirs**2).sum()) < -ALIKE / 2
    return "blue, green, red" if swapped else ""


def shift(output: Image, given: Image, mask: Mask | None) -> tuple[int, int]:
    """Return the shift (down, right) of an output relative to its input, in pixels; (0, 0) without shift.

    The shift d, at most `REACH` in each direction, minimizes the sum of (output(p + d) - input(p))^2 over the
    known pixels p inside a margin. Fourier transforms give the sums for all d at once, as
    sum m in^2 - 2 (m in * out)(d) + (m * out^2)(d), with m = 1 for these pixels and 0 elsewhere.

    Args:
        output: (S, S, 3) uint8.
        given: (S, S, 3) uint8, the input.
        mask: (S, S) bool, True = hole, or None.
    """
    seen, base = output @ LUMA, given @ LUMA
    weights = np.zeros(base.shape)
    weights[REACH:-REACH, REACH:-REACH] = 1 if mask is None else ~mask[REACH:-REACH, REACH:-REACH]
    count = weights.sum()
    own = (weights * (seen - base) ** 2).sum()
    if own <= count * IN_PLACE**2:
        return 0, 0
    squares, crossed = (
        np.conj(np.fft.rfft2(a)) * np.fft.rfft2(b) for a, b in ((weights, seen**2), (weights * base, seen))
    )
    lags = np.arange(-REACH, REACH + 1)
    sums = np.fft.irfft2(squares - 2 * crossed, s=base.shape)[np.ix_(lags, lags)] + (weights * base**2).sum()
    down, right = np.unravel_index(sums.argmin(), sums.shape)
    if sums.min() > SHIFTED**2 * own:
        return 0, 0
    return int(lags[down]), int(lags[right])


def known_cells(mask: Mask | None) -> NDArray[np.bool_]:
    """Return which cells contain no hole pixel, (CELLS * CELLS,) bool."""
    if mask is None:
        return np.ones(CELLS * CELLS, np.bool_)
    side = mask.shape[0] // CELLS
    return ~mask.reshape(CELLS, side, CELLS, side).any(axis=(1, 3)).ravel()


def distances(outputs: Levels, inputs: Levels, known: NDArray[Any], *, alike: bool = False) -> Levels:
    """Return the distance of each output from each input, regardless of brightness and contrast.

    The distance is the RMS residual of the input after the best fit gain * output + offset, gain > 0, over
    the known cells of that input. The known cells are the input's, not the output's, because an output that
    shows the image of another id keeps the known part of that id.

    Args:
        outputs: (n, 256) luma thumbnails.
        inputs: (N, 256) luma thumbnails.
        known: (N, 256), 1 for cells without a hole, else 0.
        alike: make pairs with a correlation below `ALIKE` infinitely distant. Without this, an input of
            nearly one colour is near to every output.

    Returns:
        (n, N) levels; infinite if an input has fewer than `MIN_CELLS` known cells.
    """
    cells = np.maximum(known.sum(axis=1), 1)
    visible = inputs * known
    means, output_means = visible.sum(axis=1) / cells, outputs @ known.T / cells
    variances = (visible * inputs).sum(axis=1) / cells - means**2
    output_variances = outputs**2 @ known.T / cells - output_means**2
    covariances = outputs @ visible.T / cells - output_means * means
    explained = np.maximum(covariances, 0) ** 2 / np.maximum(output_variances, 1e-9)
    gaps: Levels = np.sqrt(np.maximum(variances - explained, 0))
    gaps[:, known.sum(axis=1) < MIN_CELLS] = np.inf
    if alike:
        gaps[explained < ALIKE**2 * np.maximum(variances, 1e-9)] = np.inf
    return gaps
