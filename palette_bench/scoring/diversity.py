"""Diversity among several samples of one input: pairs of images through a pair distance.

Source: Palette, section 5.5; metrics, section 4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError, WeightsError
from palette_bench.core.processes import in_threads
from palette_bench.core.types import Image, ImageId, Progress
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.scoring.evaluate import as_score
from palette_bench.scoring.features import open_pair_distance
from palette_bench.scoring.features.extractor import as_images
from palette_bench.scoring.features.pairs import PairDistance
from palette_bench.scoring.metrics.diversity import Diversity
from palette_bench.scoring.metrics.metric import MetricOutcome
from palette_bench.scoring.outputs import OutputImages
from palette_bench.scoring.scorecard import Score

PAIR_WEIGHTS = ("lpips-alex", "lpips-alex-heads")  # what --weights may name beside extractors
_UNIT = 16  # images dealt to a rank at a time


@dataclass(frozen=True)
class SampledOutputs:
    """The samples of a submission, `count` >= 2 of each image, and who looks at them."""

    images: OutputImages
    ids: Sequence[ImageId]
    count: int
    world: ProcessGroup
    progress: Progress

    def scores(
        self, rows: Sequence[Diversity], weights: Mapping[str, str], device: str, notes: tuple[str, ...]
    ) -> dict[str, Score]:
        """Return diversities by id, at rank 0.

        A distance whose weights are absent, or that needs larger images, is null with a note: diversity
        never stops a run.

        Args:
            rows: of the table of diversities.
            weights: of `PAIR_WEIGHTS`: path, or `random:SEED`.
            device: cpu or cuda.
            notes: what every score carries.
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
            outcome, own = row.score(self._in_order(parts)), distance.notes
        return as_score(row, outcome, len(self.ids), extractor=row.distance, notes=(*own, *notes))

    def _distances(self, row: Diversity, distance: PairDistance) -> dict[ImageId, NDArray[np.float64]]:
        """Return (K - 1,) distances of each image dealt to this rank."""
        mine = self.world.shard(self.ids, _UNIT)
        found = {}
        read = in_threads(self._all_of, mine)
        with self.progress(row.id, len(mine)) as advance, closing(read):
            for image_id, samples in zip(mine, read, strict=True):
                one, other = zip(*row.pairs(self.count), strict=True)
                sides = [as_images([samples[k - 1] for k in side]) for side in (one, other)]
                found[image_id] = distance(*sides)
                advance(1)
        return found

    def _all_of(self, image_id: ImageId) -> list[Image]:
        return [self.images.scored(image_id, sample) for sample in range(1, self.count + 1)]

    def _in_order(self, parts: Sequence[dict[ImageId, NDArray[np.float64]]]) -> NDArray[np.float64]:
        rows = {image_id: row for part in parts for image_id, row in part.items()}
        return np.stack([rows[image_id] for image_id in self.ids])
