"""What was measured of a system on a set: numbers of its scorecard, and how its samples differ."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palette_bench.board.record import read_proven
from palette_bench.core import png
from palette_bench.core.intervals import mean_t
from palette_bench.core.types import Image, ImageId
from palette_bench.scoring.metrics.ssim import structural_similarity
from palette_bench.scoring.scorecard import BARRING, GENERAL_FORM, ORIGINALS_FORM
from palette_bench.submission.files import output_name
from palette_bench.tasks.preprocess import crop_area

INFLUENCE = {"fid": "fid_influence", "kid": "kid_influence"}  # the column of a metric that has no values
_SCALES = (1, 2, 4)  # by which samples are reduced before they are compared
_SPECIFIC = {form: name for forms in (GENERAL_FORM, ORIGINALS_FORM) for name, form in forms.items()}


@dataclass(frozen=True)
class Reading:
    """One number of one system on one set.

    Attributes:
        key: what the number is called where it comes from.
        value: None if there is none.
        low: of its 95 % interval.
        high: of its 95 % interval.
        se: standard error.
        n: pictures.
        direction: which side is better.
        notes: of the score.
        column: (N,) what each picture adds, in id order; None where only the sum is known.
        halves: (N,) the same within halves, for a distance of feature clouds.
    """

    key: str
    value: float | None
    low: float | None
    high: float | None
    se: float | None
    n: int
    direction: str = "none"
    notes: tuple[str, ...] = ()
    column: NDArray[np.float64] | None = None
    halves: NDArray[np.float64] | None = None

    @property
    def barred(self) -> tuple[str, ...]:
        """Return the notes that forbid a conclusion."""
        return tuple(note for note in self.notes if note in BARRING)


Readings = dict[str, Reading]  # metric id, reserved names standing for their general forms too


def of_card(path: Path) -> Readings:
    """Return the numbers of a proven card, with their per-image columns."""
    card, table = read_proven(path)
    columns = table.sort_values("image_id")
    found: Readings = {}

    def column(name: str) -> NDArray[np.float64] | None:
        return columns[name].to_numpy(dtype=np.float64) if name in columns else None

    for key, score in card.scores.items():
        base = key.partition("@")[0]
        metric = _SPECIFIC.get(base, base)
        name = INFLUENCE.get(metric, base)
        found[metric] = Reading(
            key,
            score.value,
            score.low,
            score.high,
            score.se,
            score.n,
            score.direction,
            score.notes,
            column(name),
            column(f"{name}_halves"),
        )
    return found


def of_values(key: str, values: NDArray[np.float64], direction: str = "none") -> Reading:
    """Return the mean of (N,) values, one per picture, with its t interval."""
    reach = mean_t(values)
    low, high, se = (reach.low, reach.high, reach.se) if reach else (None, None, None)
    return Reading(key, float(values.mean()), low, high, se, len(values), direction, column=values)


def of_samples(submission: Path, ids: list[ImageId], samples: int, side: int) -> Readings:
    """Return how consecutive samples of one input differ, or nothing of a single sample.

    Args:
        submission: its folder.
        ids: of the set.
        samples: of each input.
        side: of a picture, pixels.

    Returns:
        `pairwise_rmse`, levels, and `pairwise_ssim`, the mean SSIM at full, half and quarter size.
    """
    if samples < 2:
        return {}
    gaps, likenesses = [], []
    for image_id in sorted(ids):
        files = [submission / output_name(image_id, k + 1) for k in range(samples)]
        pictures = [png.decode_strict(png.read_regular(file), side, side, 3)[0] for file in files]
        pairs = list(pairwise(pictures))
        gaps.append(np.mean([_rmse(*pair) for pair in pairs]))
        likenesses.append(np.mean([_likeness(*pair) for pair in pairs]))
    return {
        "pairwise_rmse": of_values("pairwise_rmse", np.array(gaps), "higher"),
        "pairwise_ssim": of_values("pairwise_ssim", np.array(likenesses), "lower"),
    }


def _rmse(one: Image, other: Image) -> float:
    return float(np.sqrt(np.mean((one.astype(np.float64) - other) ** 2)))


def _likeness(one: Image, other: Image) -> float:
    """Return SSIM averaged over three scales: 64 px are too few for the five of MS-SSIM."""
    sides = [len(one) // scale for scale in _SCALES]
    return float(np.mean([structural_similarity(crop_area(one, s), crop_area(other, s)) for s in sides]))
