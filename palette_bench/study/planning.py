"""What a plan can find out: the half width of its interval, before any vote.

Source: reports and studies, section 7.5, "Planning".
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from palette_bench.core.intervals import NORMAL_QUANTILE
from palette_bench.core.twoway import quantile
from palette_bench.study.assignment import methods_per_rater
from palette_bench.study.records import Plan

SHARE_OF_IMAGES = 0.114  # of the variance of a vote, at a logit sd of 0.8 over images
SHARE_OF_RATERS = 0.044  # likewise, at 0.5 over raters
EXPECTED_RATE = 0.48


@dataclass(frozen=True)
class Reach:
    """Raters, trials of each and images of one method, and half widths in per cent points."""

    raters: int
    trials: int
    images: int
    half_width: float
    naive: float

    def __str__(self) -> str:
        """Return the row as a sentence."""
        return (
            f"{self.raters:,} raters x {self.trials:,} trials a method on {self.images:,} images: "
            f"± {self.half_width:.1f} points at 48 % (votes counted as independent would claim "
            f"± {self.naive:.1f})"
        )


def reach(plan: Plan, n_methods: int) -> Reach:
    """Return the row of the planning table for one method of a plan."""
    raters = plan.raters * methods_per_rater(plan, n_methods) // n_methods
    images = min(plan.images, raters * plan.trials_per_method)
    votes, noise = raters * plan.trials_per_method, EXPECTED_RATE * (1 - EXPECTED_RATE)
    rest = 1 - SHARE_OF_RATERS - SHARE_OF_IMAGES
    spread = noise * (SHARE_OF_RATERS / raters + SHARE_OF_IMAGES / images + rest / votes)
    q = quantile(1 - plan.alpha, raters, images) if min(raters, images) > 1 else math.inf
    naive = NORMAL_QUANTILE * math.sqrt(noise / votes)
    return Reach(raters, plan.trials_per_method, plan.images, 100 * q * math.sqrt(spread), 100 * naive)
