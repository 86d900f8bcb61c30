"""Diversity among several samples of one input: means over tables of pair distances.

The pairs are the paper's; K is the number of submitted samples. Source: Palette, section 5.5 and Appendix
C.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError
from palette_bench.core.intervals import mean_t
from palette_bench.scoring.metrics.metric import MetricOutcome, MetricRow


@dataclass(frozen=True)
class Diversity(MetricRow):
    """A row of the table of diversity metrics.

    Attributes:
        distance: id of the pair distance that it averages.
        paired: `consecutive` pairs samples (1, 2), (2, 3), ...; `first` pairs sample 1 with each other
            sample.
    """

    distance: str
    paired: Literal["consecutive", "first"]

    def pairs(self, samples: int) -> list[tuple[int, int]]:
        """Return the K - 1 pairs of K >= 2 samples; samples are numbered from 1."""
        return [(k if self.paired == "consecutive" else 1, k + 1) for k in range(1, samples)]

    def score(self, distances: NDArray[np.float64]) -> MetricOutcome:
        """Return the mean over images, with a t interval over images.

        Args:
            distances: (N, K - 1), the distances of each image's pairs, in the order of `pairs`.

        Raises:
            InputError: there are no pairs, or a distance is not finite.
        """
        if distances.ndim != 2 or not distances.size:
            raise InputError(f"{self.id} needs (N, K - 1) pair distances, K >= 2, not {distances.shape}")
        if not np.isfinite(distances).all():
            row = int((~np.isfinite(distances)).any(axis=1).argmax())
            raise InputError(f"{self.id}: a pair distance is not finite, first in row {row}")
        values = distances.astype(np.float64).mean(axis=1)
        interval = mean_t(values)
        return MetricOutcome(
            float(values.mean()),
            interval,
            params={"samples": distances.shape[1] + 1, "pairs": self.paired},
            notes=() if interval else ("n<2",),
        )


DIVERSITIES: dict[str, Diversity] = {
    row.id: row
    for row in (
        Diversity(
            "diversity_lpips", "Diversity, LPIPS", "difference of consecutive samples",
            "samples of one input: LPIPS", "higher", "LPIPS", "lpips-alex", "consecutive",
        ),
        Diversity(
            "diversity_ms_ssim", "Diversity, MS-SSIM", "likeness of the samples of one input",
            "samples of one input: MS-SSIM", "lower", "MS-SSIM", "ms-ssim", "first",
        ),
    )
}  # fmt: skip
