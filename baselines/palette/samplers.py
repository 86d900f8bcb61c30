"""Samplers that turn noise into an image, as plain functions over a noise prediction.

Coefficients are Python floats, computed in float64; tensors keep their own dtype. Every sampler steps through
the given levels and returns y0 at the last one.

Source: Palette, equation 6 and Algorithm 2 (`ancestral`); Song et al. 2021, equation 12 with eta 0 (`ddim`);
Lu et al. 2022b, Algorithm 2 (`dpmpp-2m`, DPM-Solver++(2M)).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, get_args

import torch

from palette_bench.core.errors import UsageError, suggest

from .schedule import GRIDS, Schedule

Clip = Literal["static", "off"]


@dataclass(frozen=True)
class SamplerInputs:
    """Functions and levels that a sampler works with.

    Attributes:
        predict: (y_t, gamma) -> f, the predicted noise, same shape as y_t.
        normal: step -> standard normals of that shape; 0 is the initial noise, k belongs to the k-th update.
        hold: (y_t, gamma) -> y_t with the known pixels put back.
        levels: (NFE + 1,) gammas, the noisiest first, the last 1.
        clip: "static" clips every y0 to [-1, 1]; "off" is the paper's literal update.
    """

    predict: Callable[[torch.Tensor, float], torch.Tensor]
    normal: Callable[[int], torch.Tensor]
    hold: Callable[[torch.Tensor, float], torch.Tensor]
    levels: tuple[float, ...]
    clip: Clip = "static"

    def start(self) -> torch.Tensor:
        """Return y_T: standard normals, with the known pixels in place."""
        return self.hold(self.normal(0), self.levels[0])

    def image(self, noisy: torch.Tensor, noise: torch.Tensor, gamma: float) -> torch.Tensor:
        """Return y0 = (y_t - sqrt(1 - gamma) f) / sqrt(gamma).

        If `clip` is "static", y0 is clipped to [-1, 1], and what is not finite becomes NaN.
        """
        image = (noisy - math.sqrt(1 - gamma) * noise) / math.sqrt(gamma)
        if self.clip == "off":
            return image
        # image - image is NaN where image is not finite: clamp alone would turn an overflow into white
        return image.clamp(-1, 1) + (image - image)


def ancestral(inputs: SamplerInputs, variance: Literal["beta", "posterior"]) -> torch.Tensor:
    """Return a sample of the reverse chain.

    Args:
        inputs: functions and levels.
        variance: variance of each step: "beta" is 1 - alpha as in the paper, "posterior" is that of q(y_s |
            y_t, y0).
    """
    noisy = inputs.start()
    for step, (gamma, after) in enumerate(pairwise(inputs.levels), start=1):
        alpha = gamma / after
        beta = (after - gamma) / after
        kept = (1 - after) / (1 - gamma)
        noise = inputs.predict(noisy, gamma)
        if inputs.clip == "off":  # the same mean, without dividing by sqrt(gamma)
            noisy = (noisy - beta / math.sqrt(1 - gamma) * noise) / math.sqrt(alpha)
        else:
            image = inputs.image(noisy, noise, gamma)
            noisy = math.sqrt(after) * beta / (1 - gamma) * image + math.sqrt(alpha) * kept * noisy
        if after < 1:
            deviation = math.sqrt(beta if variance == "beta" else kept * beta)
            noisy = noisy + deviation * inputs.normal(step)
        noisy = inputs.hold(noisy, after)
    return noisy


def ddim(inputs: SamplerInputs) -> torch.Tensor:
    """Return the deterministic sample of the initial noise, by first-order steps."""
    noisy = inputs.start()
    for gamma, after in pairwise(inputs.levels):
        image = inputs.image(noisy, inputs.predict(noisy, gamma), gamma)
        shrink = math.sqrt((1 - after) / (1 - gamma))
        noisy = inputs.hold(math.sqrt(after) * image + shrink * (noisy - math.sqrt(gamma) * image), after)
    return noisy


def dpmpp_2m(inputs: SamplerInputs) -> torch.Tensor:
    """Return the deterministic sample of the initial noise, by second-order multistep steps in lambda.

    The first step is of first order because there is no earlier y0, and so is the last step, which returns
    y0.
    """
    noisy = inputs.start()
    earlier: torch.Tensor | None = None
    stride = math.nan  # h of the previous step
    for gamma, after in pairwise(inputs.levels):
        image = inputs.image(noisy, inputs.predict(noisy, gamma), gamma)
        if after == 1:
            return inputs.hold(image, after)
        h = _lambda(after) - _lambda(gamma)
        bent = image if earlier is None else image + (image - earlier) * (h / (2 * stride))
        shrink = math.sqrt((1 - after) / (1 - gamma))
        noisy = inputs.hold(shrink * noisy - math.sqrt(after) * math.expm1(-h) * bent, after)
        earlier, stride = image, h
    raise AssertionError("levels end with 1")


def _lambda(gamma: float) -> float:
    """Return `schedule.log_snr` of one level; NumPy's logarithm may differ in the last bit."""
    return (math.log(gamma) - math.log1p(-gamma)) / 2


SAMPLERS: dict[str, Callable[[SamplerInputs], torch.Tensor]] = {
    "ancestral": partial(ancestral, variance="beta"),
    "ancestral-posterior": partial(ancestral, variance="posterior"),
    "ddim": ddim,
    "dpmpp-2m": dpmpp_2m,
}


# --- choice of sampler and grid ---

Sampler = Literal["ancestral", "ancestral-posterior", "ddim", "dpmpp-2m"]
Grid = Literal["paper", "paper-468", "log-snr"]

DEFAULT_STEPS = 1000  # Palette, Appendix B
FEWEST_ANCESTRAL = 250  # at 50 steps its output's std is 4 % off or more, dpmpp-2m's below 1 %


@dataclass(frozen=True)
class SamplerConfig:
    """A sampler with its grid, clipping and levels.

    Attributes:
        sampler: a key of `samplers.SAMPLERS`.
        grid: a key of `schedule.GRIDS`.
        clip: clipping of y0.
        levels: (NFE + 1,) gammas, the noisiest first, the last 1.
    """

    sampler: Sampler
    grid: Grid
    clip: Clip
    levels: tuple[float, ...]

    def __str__(self) -> str:
        """Return the name used on cards, e.g. dpmpp-2m/log-snr/static; `read_name` parses it."""
        return f"{self.sampler}/{self.grid}/{self.clip}"

    @property
    def evaluations(self) -> int:
        """Return the number of network evaluations per image."""
        return len(self.levels) - 1


def plan_for(
    sampling: Schedule,
    trained: Schedule,
    evaluations: int,
    *,
    sampler: Sampler | None = None,
    grid: Grid | None = None,
    clip: Clip = "static",
) -> SamplerConfig:
    """Return a sampler configuration; a sampler or grid of None follows from the number of evaluations.

    Raises:
        UsageError: the grid has another number of levels.
    """
    sampler = sampler or ("ancestral" if evaluations >= FEWEST_ANCESTRAL else "dpmpp-2m")
    grid = grid or ("paper" if evaluations == sampling.steps else "log-snr")
    return SamplerConfig(sampler, grid, clip, tuple(GRIDS[grid](sampling, trained, evaluations).tolist()))


def read_name(name: str) -> dict[str, Any]:
    """Return the keywords of `plan_for` for a name SAMPLER, SAMPLER/GRID or SAMPLER/GRID/CLIP.

    Raises:
        UsageError: a part is unknown.
    """
    choices: dict[str, Any] = {"sampler": Sampler, "grid": Grid, "clip": Clip}
    parts = name.split("/")
    if len(parts) > len(choices):
        raise UsageError(f"sampler {name!r}: write SAMPLER[/GRID[/CLIP]], e.g. dpmpp-2m/log-snr/static")
    named = dict(zip(choices, parts, strict=False))
    wrong = [
        f"{key} {part!r}: {suggest(part, get_args(choices[key]))}"
        for key, part in named.items()
        if part not in get_args(choices[key])
    ]
    if wrong:
        raise UsageError(f"sampler {name!r}: {'; '.join(wrong)}")
    return named
