"""Pixel diagnostics: they explain a score and never rank."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.intervals import mean_t
from palette_bench.core.types import Image, Mask
from palette_bench.scoring.metrics.outcome import Direction, Outcome
from palette_bench.tasks.degradations.gray import luma


@dataclass(frozen=True)
class Picture:
    """One picture of a submission with what it answers.

    Attributes:
        raw: (S, S, 3) uint8, the output as submitted.
        scored: (S, S, 3) uint8, with the known pixels re-imposed where the task has a hole.
        reference: (S, S, 3) uint8, the original.
        condition: (S, S, 3) uint8, the input; gray is repeated in each channel.
        mask: (S, S) bool, True = hole, or None.
    """

    raw: Image
    scored: Image
    reference: Image
    condition: Image
    mask: Mask | None


class Reading(NamedTuple):
    """A diagnostic of one picture, and the largest level difference that entered it."""

    value: float
    largest: int


@dataclass(frozen=True)
class Diagnostic:
    """A row of the table of diagnostics; `degradation` names the only tasks it is for, None all."""

    id: str
    title: str
    direction: Direction
    unit: str
    degradation: str | None
    read: Callable[[Picture], Reading]


def _levels(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.abs(np.subtract(one, other, dtype=np.int64))


def psnr(picture: Picture) -> Reading:
    """Return 10 log10(255^2 / MSE) of what is scored against the original, dB.

    Equal pictures have no PSNR. They read as if one sample differed by one level, the best unequal
    picture there can be (101.07 dB at 256x256), so that means stay finite and in order; our choice,
    recorded as `capped` beside the count of equal pictures.
    """
    gap = _levels(picture.scored, picture.reference)
    squares = max(int((gap * gap).sum()), 1)
    return Reading(float(10 * np.log10(255**2 * gap.size / squares)), int(gap.max()))


def known_region_error(picture: Picture) -> Reading:
    """Return the mean absolute difference of the raw output and the input outside the hole, levels.

    A mask without known pixels reads 0.
    """
    assert picture.mask is not None, "a hole task has masks"
    return _mean_level(_levels(picture.raw, picture.condition)[~picture.mask])


def gray_consistency(picture: Picture) -> Reading:
    """Return the mean absolute difference of gray-v1(output) and the gray input, levels."""
    return _mean_level(_levels(luma(picture.scored), picture.condition[:, :, 0]))


def _mean_level(gap: NDArray[np.int64]) -> Reading:
    return Reading(float(gap.mean()), int(gap.max())) if gap.size else Reading(0.0, 0)


DIAGNOSTICS: dict[str, Diagnostic] = {
    row.id: row
    for row in (
        Diagnostic("psnr", "peak signal-to-noise ratio against the original", "higher", "dB", None, psnr),
        Diagnostic(
            "known_region_error",
            "change outside the hole, before pasting",
            "lower",
            "levels",
            "hole-v1",
            known_region_error,
        ),
        Diagnostic(
            "gray_consistency",
            "change of luma against the input",
            "lower",
            "levels",
            "gray-v1",
            gray_consistency,
        ),
    )
}


def summarise(diagnostic: Diagnostic, readings: Sequence[Reading]) -> Outcome:
    """Return the mean over pictures, with the largest level difference of any as `max`.

    Args:
        diagnostic: what was read.
        readings: one per picture, in id order.
    """
    values = np.array([reading.value for reading in readings])
    equal = sum(reading.largest == 0 for reading in readings)
    interval = mean_t(values)
    capped = diagnostic.id == "psnr" and equal > 0
    return Outcome(
        float(values.mean()),
        interval,
        params={"max": max(reading.largest for reading in readings), "equal": equal},
        notes=(() if interval else ("n<2",)) + (("capped",) if capped else ()),
        columns={diagnostic.id: values},
    )
