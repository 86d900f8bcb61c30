"""How often the fool rate's interval holds the truth, beside two intervals that are wrong.

Simulated studies: raters and images are both drawn anew each time, with the habits a logistic-normal
model gives them; the truth is the rate over all raters and images there could be. An honest 95 %
interval covers it in 95 of 100 studies.

    python benchmarks/study_coverage.py [--runs 1000] [--seed 1000]
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from palette_bench.core.intervals import NORMAL_QUANTILE, wilson
from palette_bench.study.two_way import Votes, difference, quantile, share

IMAGE_SD, RATER_SD = 0.8, 0.5  # logits
GAP = 0.06  # between the true rates of the two methods compared
RESAMPLES = 400
Ends = tuple[float, float]


@dataclass(frozen=True)
class Design:
    """Raters, trials of each and method, images, and the first method's true rate."""

    raters: int
    trials: int
    images: int
    rate: float

    def __str__(self) -> str:
        return f"{self.raters} x {self.trials} on {self.images}, {self.rate:.2f}"


DESIGNS = (
    Design(50, 50, 100, 0.48),
    Design(20, 30, 200, 0.40),
    Design(100, 50, 500, 0.42),
    Design(10, 50, 100, 0.22),
    Design(100, 50, 500, 0.48),  # the default plan
)


def middle(rate: float) -> float:
    """Return the mean logit whose rate over all raters and images is `rate`."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    spread = math.hypot(IMAGE_SD, RATER_SD)

    def excess(logit: float) -> float:
        return float((weights * special.expit(logit + spread * nodes)).sum() / weights.sum()) - rate

    return float(optimize.brentq(excess, -20, 20))


def study(design: Design, logits: tuple[float, float], draws: np.random.Generator) -> tuple[Votes, Votes]:
    """Return the votes of one study on two methods; nobody sees an image twice."""
    seen = draws.random((design.raters, design.images)).argsort(axis=1)[:, : 2 * design.trials]
    bent = draws.normal(0, RATER_SD, design.raters)[:, None]
    who = np.repeat(np.arange(design.raters), design.trials)
    votes = []
    for at, logit in enumerate(logits):
        images = seen[:, at * design.trials : (at + 1) * design.trials]
        ease = draws.normal(0, IMAGE_SD, design.images)
        chosen = draws.random(images.shape) < special.expit(logit + bent + ease[images])
        votes.append(Votes(chosen.ravel().astype(np.int64), who, images.ravel()))
    return votes[0], votes[1]


def by_rater(votes: Votes, design: Design) -> NDArray[np.float64]:
    """Return each rater's own rate."""
    rates: NDArray[np.float64] = votes.chosen.reshape(design.raters, design.trials).mean(axis=1)
    return rates


def bootstrap(values: NDArray[np.float64], draws: np.random.Generator) -> Ends:
    """Return the percentile interval of the mean of raters' values, raters drawn with replacement."""
    weights = draws.multinomial(len(values), np.full(len(values), 1 / len(values)), RESAMPLES)
    low, high = np.percentile(weights @ values / len(values), (2.5, 97.5))
    return float(low), float(high)


def single(votes: Votes, design: Design, draws: np.random.Generator) -> Iterator[Ends]:
    """Yield the three intervals of one rate: pooled Wilson, bootstrap over raters, two-way."""
    pooled, found = wilson(int(votes.chosen.sum()), len(votes.chosen)), share(votes)
    yield pooled.low, pooled.high
    yield bootstrap(by_rater(votes, design), draws)
    yield found.low, found.high


def paired(one: Votes, other: Votes, design: Design, draws: np.random.Generator) -> Iterator[Ends]:
    """Yield the three intervals of a difference: pooled z, bootstrap over raters, two-way."""
    a, b = one.chosen.mean(), other.chosen.mean()
    reach = NORMAL_QUANTILE * math.sqrt((a * (1 - a) + b * (1 - b)) / len(one.chosen))
    yield a - b - reach, a - b + reach
    yield bootstrap(by_rater(one, design) - by_rater(other, design), draws)
    found = difference(one, other)
    assert found is not None
    reach = quantile(0.95, design.raters, design.images) * found.se
    yield found.delta - reach, found.delta + reach


def coverage(design: Design, runs: int, seed: int) -> NDArray[np.float64]:
    """Return (2, 3, 2): for rate and difference and each interval, the share covered and mean half width."""
    draws = np.random.default_rng(seed)
    logits = middle(design.rate), middle(design.rate - GAP)
    total = np.zeros((2, 3, 2))
    for _ in range(runs):
        one, other = study(design, logits, draws)
        found = single(one, design, draws), paired(one, other, design, draws)
        for at, (truth, intervals) in enumerate(zip((design.rate, GAP), found, strict=True)):
            for which, (low, high) in enumerate(intervals):
                total[at, which] += (low <= truth <= high, 50 * (high - low))
    return total / runs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1000, help="of the first row; the others follow")
    given = parser.parse_args()
    runs = given.runs
    print(
        f"Coverage at nominal 95 %, {runs:,} simulated studies a row; mean half width in points in brackets\n"
    )
    print("| Raters x trials on images, rate | Of | Pooled | Bootstrap over raters | Two-way |")
    print("|---|---|---|---|---|")
    for seed, design in enumerate(DESIGNS, given.seed):
        for what, row in zip(("rate", "difference"), coverage(design, runs, seed), strict=True):
            cells = " | ".join(f"{covered:.3f} (± {half:.1f})" for covered, half in row)
            print(f"| {design} | {what} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
