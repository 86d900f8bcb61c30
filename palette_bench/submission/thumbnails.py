"""What an output shows beside its input: tones, colours, turns by 16 x 16 thumbnails; shifts by pixels.

A pixel digest tells equal from different only; the mean of a cell still shows the scene when a model has
smoothed or sharpened it. The thresholds are ours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.types import Image, Mask

CELLS = 16  # thumbnail side; protocol sides are multiples of it
FAR = 12.0  # levels RMS between thumbnails fitted in tone: an output shows the inputs within
NEARER = 4.0  # another input, or the input turned, must be this many times nearer
ALIKE = 0.95  # correlation of thumbnails that show one scene
COLOURED = 6.0  # levels RMS between red and blue of a thumbnail: less cannot tell a swap
MIN_CELLS = 16  # fully known cells a comparison needs
IN_PLACE = 3.0  # levels RMS of luma: a shift by one pixel leaves more
REACH = 16  # pixels an output is looked for away from its place
SHIFTED = 0.8  # of the error in place, at most, is left where a shifted output belongs
LUMA = np.array([19595, 38470, 7471]) / 65536  # gray-v1, unrounded
# Y, Cb, Cr of R, G, B in levels: ITU-T T.871 (JFIF), equations of section 7
_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])

Levels = NDArray[np.float64]  # luma of some cells
Colours = NDArray[np.float64]  # (cells, 3)


def thumbnail(image: Image) -> Colours:
    """Return the mean of each cell of an (S, S, 3) uint8 image, (CELLS * CELLS, 3) in levels."""
    side = image.shape[0] // CELLS
    strips = image.reshape(CELLS, side, -1).sum(axis=1, dtype=np.uint32)  # whole rows: ten times faster
    cells = strips.reshape(CELLS, CELLS, side, 3).sum(axis=2).reshape(-1, 3)
    return np.asarray(cells / side**2, np.float64)


def tones(output: Levels, given: Levels, *, of_0_to_1: bool) -> tuple[float, float] | None:
    """Return (contrast, brightness) of an output over its input, or None if it shows something else.

    What is left of an image that was written as 0 to 1 need not look like it.
    """
    spread, given_spread = output.std(), given.std()
    if given_spread == 0:
        return None
    likeness = np.corrcoef(output, given)[0, 1] if spread > 0 else 0.0
    if not (abs(likeness) >= ALIKE or of_0_to_1):
        return None
    gain = -spread if likeness <= -ALIKE else spread  # a negative shows the scene too
    return float(gain / given_spread), float(output.mean() - given.mean())


def turn(output: Levels, given: Levels, known: NDArray[np.bool_]) -> str:
    """Return how an output is turned or mirrored against its input, or nothing."""
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
    """Return what an output's channels hold if not the model's R, G, B; "" if they do; None if unclear."""
    for order, held in (([0, 1, 2], "Y, Cb, Cr"), ([0, 2, 1], "Y, Cr, Cb")):
        expected = (model @ _YCC.T + [0, 128, 128])[:, order]
        gap, own = np.sqrt(((output - expected) ** 2).mean()), np.sqrt(((output - model) ** 2).mean())
        if gap < FAR and NEARER * gap < own:
            return held
    lumas = output @ LUMA, model @ LUMA
    if min(luma.std() for luma in lumas) == 0 or np.corrcoef(*lumas)[0, 1] < 0:
        return None  # it shows something else, or a negative
    mine, theirs = output[:, 0] - output[:, 2], model[:, 0] - model[:, 2]
    if np.sqrt((theirs**2).mean()) < COLOURED or np.sqrt((mine**2).mean()) < COLOURED / 4:
        return None
    swapped = (mine * theirs).sum() / np.sqrt((mine**2).sum() * (theirs**2).sum()) < -ALIKE / 2
    return "blue, green, red" if swapped else ""


def shift(output: Image, given: Image, mask: Mask | None) -> tuple[int, int]:
    """Return how many pixels (down, right) an output lies from its input, at most `REACH`; (0, 0) in place.

    The sum of squares over the known pixels p inside a margin, of output(p + d) - input(p), for all d at
    once by Fourier transforms: sum m in^2 - 2 (m in * out)(d) + (m * out^2)(d).
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
    """Return (CELLS * CELLS,) bool: cells without a hole."""
    if mask is None:
        return np.ones(CELLS * CELLS, np.bool_)
    side = mask.shape[0] // CELLS
    return ~mask.reshape(CELLS, side, CELLS, side).any(axis=(1, 3)).ravel()


def distances(outputs: Levels, inputs: Levels, known: NDArray[Any], *, alike: bool = False) -> Levels:
    """Return how far each output is from showing each input, whatever its brightness and contrast.

    It is the RMS of what the best fit gain * output + offset, gain > 0, leaves of the input, over the cells
    known in that input: an output that shows another id's image keeps the known part of *that* id, so the
    holes that count are the candidate's, not its own.

    Args:
        outputs: (n, 256) thumbnails.
        inputs: (N, 256) thumbnails.
        known: (N, 256) 1 for cells without a hole, else 0.
        alike: pairs that correlate by less than `ALIKE` are infinitely far, because a plain input is near to
            everything.

    Returns:
        (n, N) levels; infinite where an input has too few known cells.
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
