"""Distances of each output to its own original by LPIPS and DISTS: means over a column of distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError
from palette_bench.core.intervals import mean_t
from palette_bench.scoring.metrics.metric import MetricOutcome, RankingRow


@dataclass(frozen=True)
class PairedMetric(RankingRow):
    """A row of the table of paired distances.

    Attributes:
        distance: id of the pair distance that it averages.
    """

    distance: str

    def pairs(self, images: int) -> list[tuple[int, int]]:
        """Return the only pair of two images: the output, which is number 1, and its original."""
        assert images == 2, "an output has one original"
        return [(1, 2)]

    def score(self, distances: NDArray[np.float64]) -> MetricOutcome:
        """Return the mean over images, with a t interval over images and the distances as a column.

        Args:
            distances: (N, 1), the distance of sample 1 of each image to its original.

        Raises:
            InputError: there are no distances, or one is not finite.
        """
        if distances.ndim != 2 or distances.shape[1] != 1 or not distances.size:
            raise InputError(f"{self.id} needs (N, 1) distances, N >= 1, not {distances.shape}")
        values = distances[:, 0].astype(np.float64)
        if not np.isfinite(values).all():
            row = int((~np.isfinite(values)).argmax())
            raise InputError(f"{self.id}: a distance is not finite, first in row {row}")
        interval = mean_t(values)
        return MetricOutcome(
            float(values.mean()),
            interval,
            notes=() if interval else ("n<2",),
            columns={self.column: values},
        )


PAIRED_METRICS: dict[str, PairedMetric] = {
    row.id: row
    for row in (
        PairedMetric(
            "lpips", "LPIPS", "distance of learned features to the original",
            "learned perceptual distance to the original, AlexNet", "lower", "LPIPS", "lpips-alex",
            role="LPIPS", test="paired-t", column="lpips",
        ),
        PairedMetric(
            "dists", "DISTS", "difference of structure and texture to the original",
            "structure and texture distance to the original, VGG16", "lower", "DISTS", "dists-vgg16",
            role="DISTS", test="paired-t", column="dists",
        ),
    )
}  # fmt: skip
