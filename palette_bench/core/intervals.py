"""Closed-form 95 % intervals shared by scoring, studies and boards.

Source: metrics, section 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.95
NORMAL_QUANTILE = float(special.ndtri(0.975))


@dataclass(frozen=True)
class Interval:
    """An interval and its standard error, in the unit of the value, and the id of its rule."""

    low: float
    high: float
    se: float
    method: str


class Estimate:
    """Gives `se`, `low` and `high` to a result that has an `interval`; None where it has none."""

    interval: Interval | None

    @property
    def se(self) -> float | None:
        """Return the standard error."""
        return self.interval.se if self.interval else None

    @property
    def low(self) -> float | None:
        """Return the lower end of the 95 % interval."""
        return self.interval.low if self.interval else None

    @property
    def high(self) -> float | None:
        """Return the upper end of the 95 % interval."""
        return self.interval.high if self.interval else None


def wilson(successes: int, n: int) -> Interval:
    """Return the Wilson score interval of a share, in [0, 1].

    Args:
        successes: 0 <= successes <= n.
        n: trials, >= 1.

    Source: Wilson 1927; `wilson-v1`. The standard error is that of the share, sqrt(p(1-p)/n).
    """
    z2 = NORMAL_QUANTILE**2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    se = math.sqrt(share * (1 - share) / n)
    return Interval(max(0.0, centre - half), min(1.0, centre + half), se, "wilson-v1")


def mean_t(values: NDArray[np.float64]) -> Interval | None:
    """Return the t interval of the mean of (N,) values, or None for N < 2; `mean-t-v1`."""
    n = len(values)
    if n < 2:
        return None
    mean = float(values.mean())
    se = float(values.std(ddof=1)) / math.sqrt(n)
    half = float(special.stdtrit(n - 1, 0.975)) * se
    return Interval(mean - half, mean + half, se, "mean-t-v1")


def influence_se(influence: NDArray[np.float64], halves: NDArray[np.float64] | None = None) -> float | None:
    """Return the standard error of a number that each of N images moves by h; None for N < 2.

    sd(h) / sqrt N counts what two images do only together twice: its square is V1 + 2 V2, where the variance
    is V1 + V2 (Efron and Stein 1981). V2 is all there is near a distance of zero. The same square with each h
    taken within its own half of the images is V1 + 4 V2, so that 1.5 and -0.5 of the two give V1 + V2, which
    lies between half of the first square and all of it.

    Args:
        influence: (N,) first-order influence of each image; a constant added to all changes nothing.
        halves: (N,) the same influence among images of the same parity alone; None leaves the interval up
            to 1.41 times too wide.
    """
    n = len(influence)
    if n < 2:
        return None
    square = float(influence.var(ddof=1)) / n
    if halves is not None and n >= 4:
        apart = (float(halves[0::2].var(ddof=1)) + float(halves[1::2].var(ddof=1))) / (2 * n)
        square = min(max(1.5 * square - 0.5 * apart, 0.5 * square), square)
    return math.sqrt(square)


def linear(
    value: float,
    influence: NDArray[np.float64],
    method: str,
    halves: NDArray[np.float64] | None = None,
) -> Interval | None:
    """Return value +- 1.96 standard errors of a number that (N,) images move; None for N < 2.

    Args:
        value: the number.
        influence: as in `influence_se`.
        method: id of the interval, e.g. `paired-influence-v1`.
        halves: as in `influence_se`.
    """
    se = influence_se(influence, halves)
    if se is None:
        return None
    reach = NORMAL_QUANTILE * se
    return Interval(value - reach, value + reach, se, method)


def log_mean(values: NDArray[np.float64]) -> Interval | None:
    """Return the interval of exp(mean of values), normal on the log scale; None for N < 2.

    The standard error is carried to the value's scale by the derivative of exp. `log-influence-v1`.
    """
    n = len(values)
    if n < 2:
        return None
    mean = float(values.mean())
    se = float(values.std(ddof=1)) / math.sqrt(n)
    reach = NORMAL_QUANTILE * se
    return Interval(math.exp(mean - reach), math.exp(mean + reach), math.exp(mean) * se, "log-influence-v1")
