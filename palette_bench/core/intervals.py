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


def linear(value: float, influence: NDArray[np.float64], method: str) -> Interval | None:
    """Return value +- 1.96 sd(h) / sqrt N of a number that (N,) pictures move by h; None for N < 2.

    Args:
        value: the number.
        influence: (N,) first-order influence of each picture; a constant added to all changes nothing.
        method: `influence-v1` or `ustat-v1`.
    """
    n = len(influence)
    if n < 2:
        return None
    se = float(influence.std(ddof=1)) / math.sqrt(n)
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
