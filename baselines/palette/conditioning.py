"""How the network is told the noise level: gamma becomes a position p, and p sinusoids.

The paper conditions on gamma and leaves the form open; each form here is a recipe key.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .schedule import Levels, Schedule, log_snr

SPAN = 1000  # positions run over [0, SPAN]


def _sqrt_gamma(gammas: Levels, trained: Schedule) -> Levels:
    """Return 1000 sqrt(gamma). Source: WaveGrad, section 3.2, whose conditioning the paper follows."""
    return SPAN * np.sqrt(gammas)


def _log_snr(gammas: Levels, trained: Schedule) -> Levels:
    """Return lambda mapped from the trained range, cleanest first, to [0, 1000]."""
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
    """Return the fractional step, from 0, at which `adm` has the same lambda; its ends hold beyond it."""
    rising = log_snr(adm.gammas[:0:-1])
    return np.interp(log_snr(gammas), rising, np.arange(adm.steps - 1, -1, -1, dtype=np.float64))


# id -> (gammas within the trained range, training schedule) -> positions
FORMS: dict[str, Callable[[Levels, Schedule], Levels]] = {
    "sqrt-gamma": _sqrt_gamma,
    "log-snr": _log_snr,
    "adm-time": lambda gammas, trained: _adm_time(adm_linear(), gammas),
    "adm-time-cosine": lambda gammas, trained: _adm_time(adm_cosine(), gammas),
}


@dataclass(frozen=True)
class GammaEmbedding:
    """Turns gammas into the positions a network was trained with.

    Attributes:
        form: a key of `FORMS`.
        trained: the training schedule.
    """

    form: str
    trained: Schedule

    def positions(self, gammas: Levels) -> Levels:
        """Return p of each gamma, (N,) float64 in [0, 1000].

        Args:
            gammas: (N,) float64 in (0, 1]; outside the trained range the nearest trained one counts.
        """
        within = np.clip(gammas, self.trained.lowest, self.trained.gammas[1])
        return FORMS[self.form](within, self.trained)
