"""What a study reads from scorecards and samples, and the names of its systems on boards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palette_bench.board.record import read_proven
from palette_bench.core import png
from palette_bench.core.intervals import mean_t
from palette_bench.core.types import ImageId
from palette_bench.scoring.metrics import FEATURE_METRICS, RESERVED_FORM
from palette_bench.scoring.metrics.diagnostics import structural_similarity
from palette_bench.submission.card import Method
from palette_bench.submission.files import output_name
from palette_bench.submission.methods import Restorer
from palette_bench.tasks.preprocess import crop_area


class NamedRestorer:
    """A restorer under the name that a study gives it, so that boards tell the study's systems apart.

    Args:
        restorer: the restorer that does the work.
        slug: slug on the board.
        title: display name.
    """

    def __init__(self, restorer: Restorer, slug: str, title: str) -> None:
        method = restorer.about.method.model_dump() | {"slug": slug, "name": title}
        self.about = replace(restorer.about, method=Method(**method))
        self.identity, self.restore = restorer.identity, restorer.restore


# --- readings ---

# per-image columns of distances
INFLUENCE = {row.id: row.column for row in FEATURE_METRICS.values() if row.referenced}
_SCALES = (1, 2, 4)  # factors by which samples are reduced for comparison


@dataclass(frozen=True)
class SystemReading:
    """One number of one system on one set.

    Attributes:
        key: name of the number in its source, e.g. on the scorecard.
        value: the number; None if there is none.
        low: lower end of its 95 % interval.
        high: upper end of its 95 % interval.
        se: standard error.
        n: number of images.
        direction: which direction is better.
        notes: notes of the score.
        column: (N,) contribution of each image, in id order; None if only the total is known.
        halves: (N,) the same within halves of the images, for distances between feature distributions.
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


Readings = dict[str, SystemReading]  # metric id -> reading; general forms are under their reserved names


def of_card(path: Path) -> Readings:
    """Return the readings of a verified scorecard, with their per-image columns."""
    card, table = read_proven(path)
    table = table.sort_values("image_id")
    found: Readings = {}

    def column(name: str) -> NDArray[np.float64] | None:
        return table[name].to_numpy(dtype=np.float64) if name in table else None

    for key, entry in card.scores.items():
        base = key.partition("@")[0]
        metric = RESERVED_FORM.get(base, base)
        name = INFLUENCE.get(metric, base)
        numbers = entry.value, entry.low, entry.high, entry.se, entry.n
        columns = column(name), column(f"{name}_halves")
        found[metric] = SystemReading(key, *numbers, entry.direction, entry.notes, *columns)
    return found


def of_values(key: str, values: NDArray[np.float64], direction: str = "none") -> SystemReading:
    """Return a reading of the mean of (N,) values, one per image, with its t interval."""
    reach = mean_t(values)
    low, high, se = (reach.low, reach.high, reach.se) if reach else (None, None, None)
    return SystemReading(key, float(values.mean()), low, high, se, len(values), direction, column=values)


def of_samples(submission: Path, ids: list[ImageId], samples: int, side: int) -> Readings:
    """Return how much consecutive samples of an input differ; empty if there is a single sample.

    Args:
        submission: folder of the submission.
        ids: ids of the set.
        samples: samples per input.
        side: side of an image, pixels.

    Returns:
        `pairwise_rmse`, in levels, and `pairwise_ssim`, the mean SSIM at full, half and quarter size.
    """
    if samples < 2:
        return {}
    gaps, similarities = [], []
    sides = [side // scale for scale in _SCALES]  # 64 px are too few for the five scales of MS-SSIM
    for image_id in sorted(ids):
        files = [submission / output_name(image_id, k + 1) for k in range(samples)]
        images = [png.decode_strict(png.read_regular(file), side, side, 3)[0] for file in files]
        pairs = list(pairwise(images))
        gaps.append(np.mean([np.sqrt(np.mean((one.astype(np.float64) - two) ** 2)) for one, two in pairs]))
        scales = [[(crop_area(one, s), crop_area(two, s)) for s in sides] for one, two in pairs]
        similarities.append(
            np.mean([np.mean([structural_similarity(*pair) for pair in scaled]) for scaled in scales])
        )
    return {
        "pairwise_rmse": of_values("pairwise_rmse", np.array(gaps), "higher"),
        "pairwise_ssim": of_values("pairwise_ssim", np.array(similarities), "lower"),
    }
