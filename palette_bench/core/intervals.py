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
    """A 95 % interval, its standard error in the unit of the value, and the id of its method."""

    low: float
    high: float
    se: float
    method: str


class Estimate:
    """Mixin that adds `se`, `low` and `high` to a class with an `interval`; None without an interval."""

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
    """Return the Wilson score interval of the share successes / n, in [0, 1].

    The standard error is that of the share, sqrt(p(1-p)/n).

    Args:
        successes: number of successes, 0 <= successes <= n.
        n: number of trials, >= 1.

    Source: Wilson 1927; `wilson-v1`.
    """
    z2 = NORMAL_QUANTILE**2
    share = successes / n
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    se = math.sqrt(share * (1 - share) / n)
    return Interval(max(0.0, centre - half), min(1.0, centre + half), se, "wilson-v1")


def mean_t(values: NDArray[np.float64]) -> Interval | None:
    """Return Student's t interval of the mean of (N,) values, or None for N < 2; `mean-t-v1`."""
    n = len(values)
    if n < 2:
        return None
    mean = float(values.mean())
    se = float(values.std(ddof=1)) / math.sqrt(n)
    half = float(special.stdtrit(n - 1, 0.975)) * se
    return Interval(mean - half, mean + half, se, "mean-t-v1")


def influence_se(influence: NDArray[np.float64], halves: NDArray[np.float64] | None = None) -> float | None:
    """Return the standard error of a statistic of N images from the influence h of each image.

    The variance is V1 + V2, where V1 is the effect of single images and V2 the joint effect of pairs. The
    usual estimate (sd(h) / sqrt N)^2 counts V2 twice: it is V1 + 2 V2 (Efron and Stein 1981). Near a distance
    of zero, V2 is the whole variance. With each influence computed within one half of the images, the same
    square is V1 + 4 V2. Hence 1.5 times the first minus 0.5 times the second estimates V1 + V2, which is
    clipped to lie between half of the first square and all of it.

    Args:
        influence: (N,) first-order influence of each image; a constant added to all values has no effect.
        halves: (N,) the influence of each image among the images with the same parity of index. None leaves
            the standard error up to 1.41 times too large.

    Returns:
        The standard error, or None for N < 2.
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
    value: float, influence: NDArray[np.float64], method: str, halves: NDArray[np.float64] | None = None
) -> Interval | None:
    """Return the interval value +- 1.96 standard errors of a statistic of N images; None for N < 2.

    Args:
        value: value of the statistic.
        influence: (N,), as in `influence_se`.
        method: id of the interval, e.g. `paired-influence-v1`.
        halves: (N,) or None, as in `influence_se`.
    """
    se = influence_se(influence, halves)
    if se is None:
        return None
    reach = NORMAL_QUANTILE * se
    return Interval(value - reach, value + reach, se, method)


def log_linear(
    value: float, influence: NDArray[np.float64], method: str, halves: NDArray[np.float64] | None = None
) -> Interval | None:
    """Return the interval exp(log value +- 1.96 se / value) of a positive statistic; None for N < 2.

    Near zero such a statistic is skewed, and its logarithm is nearer to normal. The standard error is that of
    the value itself. A value of 0 or less, which only rounding leaves, has the interval of `linear`.

    Args:
        value: value of the statistic.
        influence: (N,), as in `influence_se`.
        method: id of the interval.
        halves: (N,) or None, as in `influence_se`.
    """
    plain = linear(value, influence, method, halves)
    if plain is None or value <= 0 or plain.se > 100 * value:
        return plain
    reach = NORMAL_QUANTILE * plain.se / value
    return Interval(value * math.exp(-reach), value * math.exp(reach), plain.se, method)


def log_mean(values: NDArray[np.float64]) -> Interval | None:
    """Return the interval of exp(mean of (N,) values), normal on the log scale; None for N < 2.

    The standard error is converted from the log scale with the derivative of exp. `log-influence-v1`.
    """
    n = len(values)
    if n < 2:
        return None
    mean = float(values.mean())
    se = float(values.std(ddof=1)) / math.sqrt(n)
    reach = NORMAL_QUANTILE * se
    return Interval(math.exp(mean - reach), math.exp(mean + reach), math.exp(mean) * se, "log-influence-v1")
