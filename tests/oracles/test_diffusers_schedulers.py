"""Our samplers against the schedulers of diffusers, where both walk the same levels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from palette_bench.baselines.palette.samplers import SAMPLERS, SamplerInputs
from palette_bench.baselines.palette.schedule import GRIDS, Schedule, log_snr

diffusers = pytest.importorskip("diffusers", reason="compares with diffusers, which is not installed")

TRAINED = Schedule.linear(2000, 1e-6, 0.01)
SAMPLED = Schedule.linear(1000, 1e-4, 0.09)
BETAS = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.09, "beta_schedule": "linear"}
SHAPE = (2, 3, 4, 4)


def predict(noisy: torch.Tensor, gamma: float) -> torch.Tensor:
    """A denoiser of data near a pattern: nonlinear, and y0 leaves [-1, 1] at many pixels."""
    pattern = torch.linspace(-1.2, 1.2, 16).reshape(4, 4)
    image = pattern + 0.3 * torch.tanh(noisy)
    return (noisy - math.sqrt(gamma) * image) / math.sqrt(1 - gamma)


def normals(seed: int = 5) -> Callable[[int], torch.Tensor]:
    draws = torch.Generator().manual_seed(seed)
    return lambda step: torch.randn(SHAPE, generator=draws)


def ours(sampler: str, clip: Any, grid: str = "paper", evaluations: int = 1000) -> torch.Tensor:
    levels = tuple(GRIDS[grid](SAMPLED, TRAINED, evaluations).tolist())
    return SAMPLERS[sampler](SamplerInputs(predict, normals(), lambda y, gamma: y, levels, clip))


def theirs(scheduler: Any, **options: Any) -> torch.Tensor:
    draws = torch.Generator().manual_seed(5)
    noisy = torch.randn(SHAPE, generator=draws)
    scheduler.set_timesteps(1000)
    for t in scheduler.timesteps:
        noise = predict(noisy, float(scheduler.alphas_cumprod[t]))
        noisy = scheduler.step(noise, t, noisy, generator=draws, **options).prev_sample
    return noisy


@pytest.mark.parametrize(
    ("sampler", "variance"), [("ancestral", "fixed_large"), ("ancestral-posterior", "fixed_small")]
)
@pytest.mark.parametrize("clip", ["static", "off"])
def test_ancestral_is_their_ddpm(sampler: str, variance: str, clip: str) -> None:
    scheduler = diffusers.DDPMScheduler(**BETAS, variance_type=variance, clip_sample=clip == "static")
    assert ours(sampler, clip) == pytest.approx(theirs(scheduler), abs=2e-4)


@pytest.mark.parametrize("clip", ["static", "off"])
def test_ddim_is_their_ddim(clip: str) -> None:
    scheduler = diffusers.DDIMScheduler(**BETAS, clip_sample=clip == "static")
    assert ours("ddim", clip) == pytest.approx(theirs(scheduler, use_clipped_model_output=True), abs=2e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # theirs, with NumPy 2
def test_dpmpp_2m_is_their_multistep_solver() -> None:
    levels = GRIDS["log-snr"](SAMPLED, TRAINED, 25)
    scheduler = diffusers.DPMSolverMultistepScheduler(**BETAS, final_sigmas_type="zero")
    scheduler.set_timesteps(25)
    scheduler.sigmas = torch.from_numpy(np.append(np.exp(-log_snr(levels[:-1])), 0.0))  # our grid, not theirs
    noisy = normals()(0)
    for t, gamma in zip(scheduler.timesteps, levels[:-1], strict=True):
        noisy = scheduler.step(predict(noisy, gamma), t, noisy).prev_sample
    assert ours("dpmpp-2m", "off", "log-snr", 25) == pytest.approx(noisy, abs=1e-5)
