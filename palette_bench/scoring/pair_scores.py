"""Scores from distances between two images: among samples of one input, and of outputs to their originals.

Source: Palette, section 5.5; metrics, section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError, WeightsError
from palette_bench.core.fingerprint import fingerprint, pixel_digest
from palette_bench.core.processes import in_threads
from palette_bench.core.types import Fingerprint, Image, ImageId, Progress
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.scoring.evaluate import ScoredMetric, as_score
from palette_bench.scoring.features import open_pair_distance
from palette_bench.scoring.features.cache import cache_key
from palette_bench.scoring.features.extractor import as_images
from palette_bench.scoring.metrics.diversity import Diversity
from palette_bench.scoring.metrics.metric import MetricOutcome
from palette_bench.scoring.metrics.paired import PairedMetric
from palette_bench.scoring.scorecard import Score

if TYPE_CHECKING:
    from palette_bench.scoring.features.pairs import PairDistance

PairRow: TypeAlias = Diversity | PairedMetric

_UNIT = 16  # consecutive images per chunk that goes to one rank


@dataclass(frozen=True)
class ComparedImages:
    """The images that pair distances compare, and the ranks that compare them.

    Attributes:
        ids: ids in row order.
        read: returns the images of an id: its samples, or its output and its original.
        world: the ranks.
        progress: progress display.
        stored: the distances that shards have computed, by `distances_key`.
    """

    ids: Sequence[ImageId]
    read: Callable[[ImageId], Sequence[Image]]
    world: ProcessGroup
    progress: Progress
    stored: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def table(self, row: PairRow, distance: PairDistance) -> NDArray[np.float64] | None:
        """Return the (N, pairs) distances of all images on rank 0; None elsewhere.

        Raises:
            InputError: the images are too small for this distance.
        """
        parts = self.world.gather(lambda: self._of_rank(row, distance))
        if not parts:
            return None
        rows = {image_id: values for part in parts for image_id, values in part.items()}
        return np.stack([rows[image_id] for image_id in self.ids])

    def _of_rank(self, row: PairRow, distance: PairDistance) -> dict[ImageId, NDArray[np.float64]]:
        """Return the distances of each image of this rank, by id."""
        mine = self.world.shard(self.ids, _UNIT)
        found = {}
        read = in_threads(self.read, mine)
        with self.progress(row.id, len(mine)) as advance, closing(read):
            for image_id, images in zip(mine, read, strict=True):
                key = distances_key(row, distance, images) if self.stored else ""
                if key in self.stored:
                    found[image_id] = np.array(self.stored[key], np.float64)
                else:
                    found[image_id] = distances(row, distance, images)
                advance(1)
        return found


def diversities(
    samples: ComparedImages,
    rows: Sequence[Diversity],
    weights: Mapping[str, str],
    device: str,
    notes: tuple[str, ...],
) -> dict[str, Score]:
    """Return diversity scores by metric id; only rank 0's result is complete.

    If a distance lacks its weights or needs larger images, its value is None with a note. Diversity never
    stops a run.

    Args:
        samples: the samples of each image, at least two.
        rows: rows of the table of diversity metrics.
        weights: id of `PAIR_WEIGHTS` -> path, or `random:SEED`.
        device: cpu or cuda.
        notes: notes that every score carries.
    """
    found = {}
    for row in rows:
        own: tuple[str, ...] = ()
        try:
            distance = samples.world.run_on_all(partial(open_pair_distance, row.distance, weights, device))
            table = samples.table(row, distance)
        except WeightsError:
            outcome = MetricOutcome(None, notes=("no-weights",))
        except InputError:
            outcome = MetricOutcome(None, notes=("pictures-too-small",))
        else:
            if table is None:
                continue
            outcome, own = row.score(table), distance.notes
        n = len(samples.ids)
        found[row.id] = as_score(row, outcome, n, extractor=row.distance, notes=(*own, *notes))
    return found


def paired_scores(
    pairs: ComparedImages,
    opened: Sequence[tuple[PairedMetric, PairDistance | None]],
    originals: Mapping[ImageId, Fingerprint],
    notes: tuple[str, ...],
) -> dict[str, ScoredMetric]:
    """Return the mean distances of outputs to their originals by metric id; only rank 0's are complete.

    Args:
        pairs: output and original of each image.
        opened: rows with their distances; None without weights, which gives no value and a note.
        originals: id -> pixel digest of the original.
        notes: notes that every score carries.
    """
    found = {}
    for row, distance in opened:
        table = None if distance is None else pairs.table(row, distance)
        if distance is None or table is not None:
            found[row.id] = paired_score(row, distance, table, originals, notes)
    return found


def paired_score(
    row: PairedMetric,
    distance: PairDistance | None,
    table: NDArray[np.float64] | None,
    originals: Mapping[ImageId, Fingerprint],
    notes: tuple[str, ...],
) -> ScoredMetric:
    """Return the score of one paired distance.

    Args:
        row: its row in the table.
        distance: what has computed it; None without weights, which gives no value and a note.
        table: (N, 1) distances; None without weights.
        originals: id -> pixel digest of each of the N originals.
        notes: notes that every score carries.
    """
    if distance is None or table is None:
        outcome = MetricOutcome(None, notes=("no-weights",))
        return ScoredMetric(
            outcome, as_score(row, outcome, len(originals), extractor=row.distance, notes=notes)
        )
    outcome = row.score(table)
    score = as_score(
        row,
        outcome,
        len(originals),
        extractor=row.distance,
        reference=cache_key(originals, distance.fingerprint),
        notes=(*distance.notes, *notes),
    )
    return ScoredMetric(outcome, score)


def distances(row: PairRow, distance: PairDistance, images: Sequence[Image]) -> NDArray[np.float64]:
    """Return the distances of the pairs that a row forms of the images of one id."""
    one, other = zip(*row.pairs(len(images)), strict=True)
    sides = [as_images([images[k - 1] for k in side]) for side in (one, other)]
    return distance(*sides)


def distances_key(row: PairRow, distance: PairDistance, images: Sequence[Image]) -> str:
    """Return the key of the distances of one id: which pairs, by what measure, of which pixels."""
    digests = [pixel_digest(image) for image in images]
    return fingerprint({"row": row.id, "distance": distance.fingerprint, "samples": digests})
