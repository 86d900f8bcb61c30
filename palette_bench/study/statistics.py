"""Statistics of the votes on one method: fool rate, equivalence, sides, variance, practice, images.

Source: reports and studies, section 7.5. Rates are per cent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from palette_bench.study.plan import Study
from palette_bench.study.results import (
    Beyond,
    Equivalence,
    ImageRate,
    Rate,
    Sides,
    Slope,
    VarianceShares,
)
from palette_bench.study.two_way import Codes, Votes, quantile, share
from palette_bench.study.votes import Vote

LEAST_RATERS, LEAST_IMAGES = 5, 20  # with fewer, only counts are reported (PB506)
LEAST_VOTES = 5  # votes that an image needs to be listed among the most or least fooling images
EXTREMES = 8


@dataclass(frozen=True)
class AnsweredTrials:
    """Answered trials of one method as arrays; element t of each array belongs to trial t.

    Attributes:
        votes: the input of the two-way interval.
        left: (n,) 1 if the original was on the left.
        order: (n,) number of the trial in its session.
    """

    votes: Votes
    left: Codes
    order: Codes

    @property
    def chose_left(self) -> Codes:
        """Return (n,) 1 where the left image was chosen."""
        answers: Codes = (self.votes.chosen != self.left).astype(np.int64)
        return answers


def trials_of(
    votes: Sequence[Vote], slug: str, raters: Mapping[str, int], images: Mapping[str, int]
) -> AnsweredTrials:
    """Return one method's answered votes as arrays, with the given numbers for raters and images."""
    own = [v for v in votes if v.method == slug and v.chose_model is not None]

    def column(values: Sequence[int | None]) -> Codes:
        return np.array(values, np.int64)

    return AnsweredTrials(
        Votes(
            column([v.chose_model for v in own]),
            column([raters[v.rater] for v in own]),
            column([images[v.image_id] for v in own]),
        ),
        column([v.real_side == "L" for v in own]),
        column([v.trial for v in own]),
    )


def is_enough(votes: Votes) -> bool:
    """Return whether there are enough raters and images for an interval."""
    return len(set(votes.raters)) >= LEAST_RATERS and len(set(votes.images)) >= LEAST_IMAGES


def rate(votes: Votes, study: Study) -> Rate:
    """Return the fool rate of a method's votes; only counts if there are too few raters or images (PB506)."""
    n, chosen = len(votes.chosen), int(votes.chosen.sum())
    counts = {"n": n, "chosen": chosen, "raters": len(set(votes.raters)), "images": len(set(votes.images))}
    if not is_enough(votes):
        return Rate(value=None, **counts)
    found = share(votes, 1 - study.alpha)
    return Rate(
        value=100 * found.value,
        low=100 * found.low,
        high=100 * found.high,
        se=100 * found.se,
        effective=found.effective,
        design_effect=found.design_effect,
        **counts,
    )


def equivalence(votes: Votes, study: Study) -> Equivalence:
    """Return the result of the equivalence test: whether raters could tell the outputs from photographs.

    Two one-sided tests at level alpha correspond to an interval at level 1 - 2 alpha.
    """
    narrow, wide = share(votes, 1 - 2 * study.alpha), share(votes, 1 - study.alpha)
    beyond: Beyond = "above" if wide.low > 0.5 else "below" if wide.high < 0.5 else ""
    inside = 0.5 - study.margin <= narrow.low and narrow.high <= 0.5 + study.margin
    return Equivalence(
        low=100 * narrow.low,
        high=100 * narrow.high,
        margin=100 * study.margin,
        verdict="indistinguishable" if inside else beyond or "undecided",
        beyond=beyond,
    )


def rater_mean(votes: Votes) -> float:
    """Return the mean of the raters' own rates, which gives every rater the same weight."""
    counts = np.bincount(votes.raters)
    sums = np.bincount(votes.raters, votes.chosen)
    return 100 * float((sums[counts > 0] / counts[counts > 0]).mean())


def sides(trials: AnsweredTrials) -> Sides:
    """Return how the side of the original affects the answers."""
    left, chosen, answer = trials.left == 1, trials.votes.chosen, trials.chose_left
    both = left.any() and not left.all()
    return Sides(
        original_left=100 * float(chosen[left].mean()) if left.any() else None,
        original_right=100 * float(chosen[~left].mean()) if not left.all() else None,
        chose_left=100 * float(answer.mean()),
        d_prime=(_z(answer[left]) - _z(answer[~left])) / math.sqrt(2) if both else None,
    )


def _z(answers: Codes) -> float:
    """Return the normal quantile of the mean of (n,) answers; shares of 0 and 1 are moved by half a vote."""
    n = len(answers)
    return float(special.ndtri(min(max(float(answers.mean()), 0.5 / n), 1 - 0.5 / n)))


def variance_shares(votes: Votes) -> VarianceShares | None:
    """Return the shares of a vote's variance due to raters and to images; None if all votes are equal.

    The share of raters is the covariance of two votes of one rater on different images, over the variance of
    a vote. The share of images is the same for two votes on one image by different raters. Negative
    estimates become 0.
    """
    rest = votes.chosen - votes.chosen.mean()
    total = float((rest**2).mean())
    if total == 0:
        return None
    cells = np.unique(votes.raters * (int(votes.images.max()) + 1) + votes.images, return_inverse=True)[1]
    inside, within = _pairs(rest, cells)  # same rater and same image: removed from both sums below
    parts = []
    for codes in (votes.raters, votes.images):
        products, pairs = _pairs(rest, codes)
        gap = pairs - within
        parts.append(max(0.0, (products - inside) / gap / total) if gap else 0.0)
    by_rater, by_image = min(parts[0], 1.0), min(parts[1], 1.0)
    return VarianceShares(raters=by_rater, images=by_image, rest=max(0.0, 1 - by_rater - by_image))


def _pairs(rest: NDArray[np.float64], codes: Codes) -> tuple[float, float]:
    """Return the sum of products over all ordered pairs within clusters, and the number of those pairs."""
    return float((np.bincount(codes, rest) ** 2).sum()), float((np.bincount(codes) ** 2).sum())


def slope(trials: AnsweredTrials, study: Study) -> Slope | None:
    """Return the change of the rate with practice: least squares within raters, standard error by rater."""
    votes = trials.votes
    x, y = _within(trials.order, votes.raters), _within(votes.chosen, votes.raters)
    room, raters = float((x**2).sum()), len(set(votes.raters))
    if room == 0 or raters < LEAST_RATERS:
        return None
    change = float((x * y).sum()) / room
    pulls = np.bincount(votes.raters, x * (y - change * x))
    se = math.sqrt(raters / (raters - 1) * float((pulls**2).sum())) / room
    reach = quantile(1 - study.alpha, raters, raters) * se
    # per trial -> points per ten trials: times 10 trials times 100 per cent
    low, middle, high = (1000 * end for end in (change - reach, change, change + reach))
    return Slope(per_ten_trials=middle, low=low, high=high)


def _within(values: Codes, raters: Codes) -> NDArray[np.float64]:
    """Return the values minus the mean of their rater."""
    counts = np.maximum(np.bincount(raters), 1)
    centred: NDArray[np.float64] = values - (np.bincount(raters, values) / counts)[raters]
    return centred


def image_rates(votes: Votes, slug: str, image_ids: Sequence[str]) -> list[ImageRate]:
    """Return the votes on each image of a method that has votes, in the order of `image_ids`."""
    counts = np.bincount(votes.images, minlength=len(image_ids))
    sums = np.bincount(votes.images, votes.chosen, minlength=len(image_ids))
    return [
        ImageRate(method=slug, image_id=i, votes=int(n), chosen=int(s), rate=100 * float(s / n))
        for i, n, s in zip(image_ids, counts, sums, strict=True)
        if n
    ]


def extremes(rates: Sequence[ImageRate]) -> tuple[tuple[ImageRate, ...], tuple[ImageRate, ...]]:
    """Return the 8 most and the 8 least fooling images with at least 5 votes each, ties by id.

    The lists are shorter if there are too few images for both.
    """
    known = sorted((r for r in rates if r.votes >= LEAST_VOTES), key=lambda r: (-r.rate, r.image_id))
    size = min(EXTREMES, len(known) // 2)
    least = sorted(known, key=lambda r: (r.rate, r.image_id))[:size]
    return tuple(known[:size]), tuple(least)
