"""Noise schedules, grids of levels for samplers, and embeddings of levels, all in float64.

A level is gamma, the product of alphas: y_t = sqrt(gamma) y + sqrt(1 - gamma) eps. lambda = ln(gamma / (1 -
gamma)) / 2 is half the logarithmic signal-to-noise ratio.

Source: Palette, Appendix B (both schedules); Kingma et al. 2021, equation 3 (lambda).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import UsageError

Levels = NDArray[np.float64]


@dataclass(frozen=True)
class Schedule:
    """A noise schedule.

    Attributes:
        gammas: (steps + 1,) float64, decreasing from gammas[0] = 1; gammas[t] is the level after t steps.
    """

    gammas: Levels

    @classmethod
    def linear(cls, steps: int, beta_first: float, beta_last: float) -> Schedule:
        """Return the schedule whose beta = 1 - alpha rises linearly."""
        betas = np.linspace(beta_first, beta_last, steps, dtype=np.float64)
        return cls(np.exp(np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])))

    @property
    def steps(self) -> int:
        """Return the number of steps."""
        return len(self.gammas) - 1

    @property
    def lowest(self) -> float:
        """Return the last, noisiest gamma."""
        return float(self.gammas[-1])

    def reached_by(self, trained: Schedule) -> int:
        """Return how many steps lie within the levels of the training schedule; later steps are noisier."""
        return int(np.count_nonzero(self.gammas[1:] >= trained.lowest))


def log_snr(gammas: Levels) -> Levels:
    """Return lambda = ln(gamma / (1 - gamma)) / 2 of gammas in (0, 1)."""
    return (np.log(gammas) - np.log1p(-gammas)) / 2


def from_log_snr(lambdas: Levels) -> Levels:
    """Return gamma of each lambda, the inverse of `log_snr`."""
    return 1 / (1 + np.exp(-2 * lambdas))


# --- grids of levels ---


def _every_level(sampling: Schedule, steps: int, evaluations: int, name: str) -> Levels:
    """Return the first `steps` levels of the sampling schedule, the noisiest first."""
    if evaluations != steps:
        raise UsageError(
            f"grid {name!r} has {steps} levels and cannot be walked in {evaluations} network evaluations: "
            f"give --steps {steps}, or the grid 'log-snr', which has any number"
        )
    return sampling.gammas[steps::-1]


def _even_in_log_snr(sampling: Schedule, trained: Schedule, evaluations: int) -> Levels:
    """Return levels uniform in lambda, from the noisiest one that occurs in training to step 1, then 1."""
    first, last = log_snr(sampling.gammas[[sampling.reached_by(trained), 1]])
    return np.append(from_log_snr(np.linspace(first, last, evaluations)), 1.0)


# id -> (sampling schedule, training schedule, evaluations) -> (evaluations + 1,) rising gammas, the last 1
GRIDS: dict[str, Callable[[Schedule, Schedule, int], Levels]] = {
    # the paper's own grid
    "paper": lambda sampling, trained, n: _every_level(sampling, sampling.steps, n, "paper"),
    # the levels that occur in training, 468 of the paper's 1000
    "paper-468": lambda sampling, trained, n: _every_level(
        sampling, sampling.reached_by(trained), n, "paper-468"
    ),
    "log-snr": _even_in_log_snr,
}


# --- embeddings of levels ---

SPAN = 1000  # positions run over [0, SPAN]


def _log_snr_code(gammas: Levels, trained: Schedule) -> Levels:
    """Return lambda mapped linearly from the training range, cleanest first, to [0, 1000]."""
    cleanest, noisiest = map(float, log_snr(trained.gammas[[1, -1]]))
    return (cleanest - log_snr(gammas)) * (SPAN / (cleanest - noisiest))


def adm_linear() -> Schedule:
    """Return the schedule of ADM's 128 and 256 px models. Source: guided-diffusion, gaussian_diffusion.py."""
    return Schedule.linear(1000, 1e-4, 0.02)


def adm_cosine() -> Schedule:
    """Return the schedule of ADM's 64 px model. Source: Nichol and Dhariwal 2021, equation 17."""
    times = np.arange(1001) / 1000
    signal = np.cos((times + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - signal[1:] / signal[:-1], 0.999)
    return Schedule(np.exp(np.concatenate([[0.0], np.cumsum(np.log1p(-betas))])))


def _adm_time(adm: Schedule, gammas: Levels) -> Levels:
    """Return the fractional step, from 0, at which `adm` has the same lambda, clamped to its ends."""
    rising = log_snr(adm.gammas[:0:-1])
    return np.interp(log_snr(gammas), rising, np.arange(adm.steps - 1, -1, -1, dtype=np.float64))


# id -> (gammas within the trained range, training schedule) -> positions
FORMS: dict[str, Callable[[Levels, Schedule], Levels]] = {
    # WaveGrad, section 3.2, whose conditioning the paper follows
    "sqrt-gamma": lambda gammas, trained: SPAN * np.sqrt(gammas),
    "log-snr": _log_snr_code,
    "adm-time": lambda gammas, trained: _adm_time(adm_linear(), gammas),
    "adm-time-cosine": lambda gammas, trained: _adm_time(adm_cosine(), gammas),
}


def positions(form: str, gammas: Levels, trained: Schedule) -> Levels:
    """Return the position p of each gamma that a network was trained with, (N,) float64 in [0, 1000].

    Args:
        form: a key of `FORMS`.
        gammas: (N,) float64 in (0, 1]; gammas outside the trained range are clipped to it.
        trained: the training schedule.
    """
    return FORMS[form](np.clip(gammas, trained.lowest, trained.gammas[1]), trained)
