"""Diversity scores of a submission: distances between pairs of samples of one input.

Source: Palette, section 5.5; metrics, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError, WeightsError
from palette_bench.core.fingerprint import fingerprint, pixel_digest
from palette_bench.core.processes import in_threads
from palette_bench.core.types import Image, ImageId, Progress
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.scoring.evaluate import as_score
from palette_bench.scoring.features import open_pair_distance
from palette_bench.scoring.features.extractor import as_images
from palette_bench.scoring.metrics.diversity import Diversity
from palette_bench.scoring.metrics.metric import MetricOutcome
from palette_bench.scoring.outputs import OutputImages
from palette_bench.scoring.scorecard import Score

if TYPE_CHECKING:
    from palette_bench.scoring.features.pairs import PairDistance

_UNIT = 16  # consecutive images per chunk that goes to one rank


@dataclass(frozen=True)
class SampledOutputs:
    """The samples of a submission, `count` >= 2 per image, and the ranks that compare them.

    `stored` holds the distances that shards have computed, by `distances_key`.
    """

    images: OutputImages
    ids: Sequence[ImageId]
    count: int
    world: ProcessGroup
    progress: Progress
    stored: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def scores(
        self, rows: Sequence[Diversity], weights: Mapping[str, str], device: str, notes: tuple[str, ...]
    ) -> dict[str, Score]:
        """Return diversity scores by metric id; only rank 0's result is complete.

        If a distance lacks its weights or needs larger images, its value is None with a note. Diversity never
        stops a run.

        Args:
            rows: rows of the table of diversity metrics.
            weights: id of `PAIR_WEIGHTS` -> path, or `random:SEED`.
            device: cpu or cuda.
            notes: notes that every score carries.
        """
        found = {row.id: self._score(row, weights, device, notes) for row in rows}
        return {name: score for name, score in found.items() if score is not None}

    def _score(
        self, row: Diversity, weights: Mapping[str, str], device: str, notes: tuple[str, ...]
    ) -> Score | None:
        own: tuple[str, ...] = ()
        try:
            distance = self.world.run_on_all(lambda: open_pair_distance(row.distance, weights, device))
            parts = self.world.gather(lambda: self._distances(row, distance))
        except WeightsError:
            outcome = MetricOutcome(None, notes=("no-weights",))
        except InputError:
            outcome = MetricOutcome(None, notes=("pictures-too-small",))
        else:
            if not parts:
                return None
            rows = {image_id: values for part in parts for image_id, values in part.items()}
            outcome, own = row.score(np.stack([rows[image_id] for image_id in self.ids])), distance.notes
        return as_score(row, outcome, len(self.ids), extractor=row.distance, notes=(*own, *notes))

    def _distances(self, row: Diversity, distance: PairDistance) -> dict[ImageId, NDArray[np.float64]]:
        """Return the (K - 1,) distances of each image of this rank, by id."""
        mine = self.world.shard(self.ids, _UNIT)
        found = {}
        numbers = range(1, self.count + 1)
        read = in_threads(lambda image_id: [self.images.scored(image_id, k) for k in numbers], mine)
        with self.progress(row.id, len(mine)) as advance, closing(read):
            for image_id, samples in zip(mine, read, strict=True):
                key = distances_key(row, distance, samples) if self.stored else ""
                if key in self.stored:
                    found[image_id] = np.array(self.stored[key], np.float64)
                else:
                    found[image_id] = distances(row, distance, samples)
                advance(1)
        return found


def distances(row: Diversity, distance: PairDistance, samples: Sequence[Image]) -> NDArray[np.float64]:
    """Return the (K - 1,) distances between the K >= 2 samples of one image."""
    one, other = zip(*row.pairs(len(samples)), strict=True)
    sides = [as_images([samples[k - 1] for k in side]) for side in (one, other)]
    return distance(*sides)


def distances_key(row: Diversity, distance: PairDistance, samples: Sequence[Image]) -> str:
    """Return the key of the distances of one image: which pairs, by what measure, of which pixels."""
    digests = [pixel_digest(sample) for sample in samples]
    return fingerprint({"row": row.id, "distance": distance.fingerprint, "samples": digests})
