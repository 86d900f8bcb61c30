"""How much several samples of one input differ: means over tables of pair distances.

Source: Palette, section 5.5 and Appendix C.5; the pairs are the paper's, K is whatever was submitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError
from palette_bench.core.intervals import mean_t
from palette_bench.scoring.metrics.metric import Direction, MetricOutcome

_HEADLINE = "samples of one input: "


@dataclass(frozen=True)
class Diversity:
    """A row of the table of diversities.

    Attributes:
        id: key in the scorecard.
        title: what it is, for lists.
        distance: the pair distance it is a mean of, an extractor id.
        paired: `consecutive` samples (1, 2), (2, 3), ..., or the `first` with each other.
    """

    id: str
    title: str
    direction: Direction
    unit: str
    distance: str
    paired: Literal["consecutive", "first"]

    def pairs(self, samples: int) -> list[tuple[int, int]]:
        """Return the K - 1 pairs of K >= 2 samples, counted from 1."""
        return [(k if self.paired == "consecutive" else 1, k + 1) for k in range(1, samples)]

    def score(self, distances: NDArray[np.float64]) -> MetricOutcome:
        """Return the mean over images, with a t interval over images.

        Args:
            distances: (N, K - 1), the distances of each image's pairs, in the order of `pairs`.

        Raises:
            InputError: no pairs, or a distance that is not finite.
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
        Diversity("diversity_lpips", _HEADLINE + "LPIPS", "higher", "LPIPS", "lpips-alex", "consecutive"),
        Diversity("diversity_ms_ssim", _HEADLINE + "MS-SSIM", "lower", "MS-SSIM", "ms-ssim", "first"),
    )
}
