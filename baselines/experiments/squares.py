"""Squares of two colours and one gray: pictures whose conditional distribution is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.intervals import wilson
from palette_bench.core.rng import Stream
from palette_bench.core.types import Image
from palette_bench.tasks.degradations.gray import luma

from .readings import Reading, Readings, of_values

SIDE, SQUARE = 16, 8  # pixels
COLOURS = np.array([(208, 72, 96), (56, 150, 86)])  # of one luma; the second is the rarer
RARER = 3  # of 10 squares
_GROUNDS = (160, 224)  # gray levels, far from the squares' own
_NEAR = 0.25  # of the distance of the two colours: their mean, 0.3 away from one, is neither


@dataclass(frozen=True)
class Squares:
    """Pictures of squares.

    Attributes:
        pictures: (N, 16, 16, 3) uint8.
        masks: (N, 16, 16) bool, True = square.
    """

    pictures: NDArray[np.uint8]
    masks: NDArray[np.bool_]

    @property
    def inputs(self) -> NDArray[np.uint8]:
        """Return what colorization gives, (N, 16, 16, 1) uint8."""
        return np.stack([luma(picture) for picture in self.pictures])[..., None]


def draw(count: int, purpose: str) -> Squares:
    """Return `count` squares of keyed place, ground and colour."""
    found = [_draw(Stream(f"pb-squares-v1|{purpose}|{number}")) for number in range(count)]
    return Squares(np.stack([picture for picture, _ in found]), np.stack([mask for _, mask in found]))


def _draw(stream: Stream) -> tuple[Image, NDArray[np.bool_]]:
    ground = _GROUNDS[0] + stream.below(_GROUNDS[1] - _GROUNDS[0])
    top, left = stream.below(SIDE - SQUARE + 1), stream.below(SIDE - SQUARE + 1)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[top : top + SQUARE, left : left + SQUARE] = True
    colour = COLOURS[int(stream.below(10) < RARER)]
    return np.where(mask[:, :, None], colour, ground).astype(np.uint8), mask


def measure(outputs: NDArray[np.uint8], squares: Squares) -> Readings:
    """Return which colours a model gave the squares, and what it did to the ground.

    Args:
        outputs: (N, 16, 16, 3) uint8.
        squares: what was asked.

    Returns:
        `minority_share` and `neither_colour`, shares of all squares by their mean colour, and
        `background_error`, the mean absolute difference in the [-1, 1] scale.
    """
    inside = squares.masks[..., None]
    means = np.where(inside, outputs, 0).sum(axis=(1, 2)) / SQUARE**2
    gaps = np.linalg.norm(means[:, None] - COLOURS, axis=2)
    near = gaps <= _NEAR * np.linalg.norm(COLOURS[0] - COLOURS[1])
    errors = np.abs(outputs.astype(np.float64) - squares.pictures) / 127.5
    ground = np.where(inside, 0, errors).sum(axis=(1, 2, 3)) / (3 * (SIDE**2 - SQUARE**2))
    return {
        "minority_share": _share("minority_share", near[:, 1]),
        "neither_colour": _share("neither_colour", ~near.any(axis=1)),
        "background_error": of_values("background_error", ground, "lower"),
    }


def _share(key: str, hits: NDArray[np.bool_]) -> Reading:
    reach = wilson(int(hits.sum()), len(hits))
    value, column = float(hits.mean()), hits.astype(np.float64)
    return Reading(key, value, reach.low, reach.high, reach.se, len(hits), column=column)
