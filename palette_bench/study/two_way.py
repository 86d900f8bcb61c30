"""Shares of votes and their differences, with raters and images as crossed random effects.

Votes are not independent: votes of one rater resemble one another, and so do votes on one image. The
variance is the sum of the rater-clustered and the image-clustered variance, minus the variance clustered by
both. Source: reports and studies, section 7.5 (`twoway-wilson-v1`); the variance after Cameron, Gelbach and
Miller 2011, the interval after Wilson 1927 on the effective number of votes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from palette_bench.core.intervals import LEVEL
from palette_bench.core.significance import Difference

METHOD = "twoway-wilson-v1"
_ROUNDING = 1e-12  # relative to the variance of independent votes; smaller variances count as zero

Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Votes:
    """Answered trials of one method; element t of each array belongs to trial t.

    Attributes:
        chosen: (n,) 1 if the model's image was chosen, else 0.
        raters: (n,) number of the rater, >= 0.
        images: (n,) number of the image, >= 0, shared by all methods of the study.
    """

    chosen: Codes
    raters: Codes
    images: Codes


@dataclass(frozen=True)
class VoteShare:
    """A share of votes, in [0, 1], with its interval.

    Attributes:
        value: F, the mean of the votes.
        low: lower end of the interval.
        high: upper end of the interval.
        se: square root of the two-way variance; 0 if votes do not vary.
        n: number of votes.
        raters: number R of distinct raters.
        images: number J of distinct images.
        effective: n_e, the number of independent votes with the same information.
    """

    value: float
    low: float
    high: float
    se: float
    n: int
    raters: int
    images: int
    effective: float

    @property
    def design_effect(self) -> float:
        """Return n / n_e, the number of votes that are worth one independent vote."""
        return self.n / self.effective


def share(votes: Votes, level: float = LEVEL) -> VoteShare:
    """Return the share of votes for the model with its `twoway-wilson-v1` interval.

    Args:
        votes: at least one vote, from at least two raters and on at least two images.
        level: level of the interval.
    """
    n, value = len(votes.chosen), float(votes.chosen.mean())
    raters, images = _distinct(votes.raters), _distinct(votes.images)
    by_rater, by_image, by_cell = _sums((votes.chosen - value) / n, votes.raters, votes.images)
    spread = max(by_rater + by_image - by_cell, by_rater, by_image)
    alone = value * (1 - value) / n  # variance of independent votes
    still = spread <= _ROUNDING * alone  # no variance between raters or images, or all votes are equal
    effective = float(min(raters, images)) if still else min(float(n), n * alone / spread)
    low, high = wilson_ends(value, effective, quantile(level, raters, images))
    return VoteShare(value, low, high, math.sqrt(spread), n, raters, images, effective)


def difference(one: Votes, other: Votes) -> Difference | None:
    """Return share(one) - share(other) with a t test; None if there is no variance.

    V = max(V_R + V_I - V_0, V_0) over the trials of both methods, with opposite signs. What a rater or an
    image adds to both methods cancels, so V_R or V_I can validly be below V_0. The floor of a single share,
    max(V_R, V_I), would make the interval too wide: 98.5 % coverage with 10 raters instead of 95 %.
    """
    parts = [sign * (v.chosen - v.chosen.mean()) / len(v.chosen) for sign, v in ((1.0, one), (-1.0, other))]
    raters = np.concatenate([one.raters, other.raters])
    images = np.concatenate([one.images, other.images])
    contributions = np.concatenate(parts)
    by_rater, by_image, by_cell = _sums(contributions, raters, images)
    spread = max(by_rater + by_image - by_cell, by_cell)
    if spread <= _ROUNDING * float((contributions**2).sum()):
        return None
    se = math.sqrt(spread)
    delta = float(one.chosen.mean() - other.chosen.mean())
    degrees = min(_distinct(raters), _distinct(images)) - 1
    p = 2 * float(special.stdtr(degrees, -abs(delta) / se))
    return Difference(delta, se, p, len(raters), "twoway-t-v1")


def _sums(contributions: NDArray[np.float64], raters: Codes, images: Codes) -> tuple[float, float, float]:
    """Return V_R, V_I and V_0 of (n,) centred contributions: clustered by rater, by image, by both."""
    # number each (rater, image) pair, then compress the numbers to 0, 1, 2, ...
    cells = np.unique(raters * (int(images.max()) + 1) + images, return_inverse=True)[1]
    by_cell = float((np.bincount(cells, contributions) ** 2).sum())
    return _clustered(contributions, raters), _clustered(contributions, images), by_cell


def _clustered(contributions: NDArray[np.float64], codes: Codes) -> float:
    """Return K/(K-1) times the sum over the K clusters of their squared sums."""
    count = _distinct(codes)
    return count / (count - 1) * float((np.bincount(codes, contributions) ** 2).sum())


def _distinct(codes: Codes) -> int:
    return int(np.count_nonzero(np.bincount(codes)))


def quantile(level: float, raters: int, images: int) -> float:
    """Return q, the two-sided t quantile with min(R, J) - 1 degrees of freedom."""
    return float(special.stdtrit(min(raters, images) - 1, (1 + level) / 2))


def wilson_ends(value: float, effective: float, q: float) -> tuple[float, float]:
    """Return Wilson's interval of a share on `effective` votes, in [0, 1]."""
    ratio = q * q / effective
    centre = (value + ratio / 2) / (1 + ratio)
    half = q * math.sqrt(value * (1 - value) / effective + ratio / (4 * effective)) / (1 + ratio)
    return max(0.0, centre - half), min(1.0, centre + half)
