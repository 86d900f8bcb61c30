"""Palette's recipe and diffusion: the training loss, and restoring with a trained network.

The defaults of the recipe are the paper's.

Tensors, named as in the paper: y, the reference; x, the source (input, N(0, 1) in its hole); m, the pixels to
produce; gamma, the noise level; f, the noise predicted from (y_t, x, gamma).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import field_validator
from torch import nn

from palette_bench.core.errors import suggest
from palette_bench.core.records import Part

from ..training.draws import KeyedDraws
from ..training.objective import BatchLosses, TrainedMethod, TrainingBatch, restoring_network
from ..training.recipe import Count, Network, PaperTraining, Recipe, Share
from ..training.unet import Predictor, sinusoids
from .samplers import DEFAULT_STEPS, SAMPLERS, Clip, Grid, Sampler, SamplerConfig, SamplerInputs, plan_for
from .schedule import FORMS, Levels, Schedule, log_snr, positions

# --- recipe ---


class LinearChain(Part):
    """A noise schedule whose beta = 1 - alpha rises linearly.

    The paper gives both pairs of end values; that they are values of beta is inferred.
    """

    steps: Count
    beta_first: Share
    beta_last: Share

    def schedule(self) -> Schedule:
        """Return the schedule's levels."""
        return Schedule.linear(self.steps, self.beta_first, self.beta_last)


class NoiseOptions(Part):
    """The noise schedules (Palette, Appendix B), and the treatment of known pixels in tasks with holes."""

    training: LinearChain = LinearChain(steps=2000, beta_first=1e-6, beta_last=0.01)
    sampling: LinearChain = LinearChain(steps=1000, beta_first=1e-4, beta_last=0.09)
    known: Literal["clean", "noised"] = "clean"  # known pixels in y_t: unchanged, or as noisy as the hole
    predicts: Literal["noise", "velocity"] = "noise"  # "velocity" is ours, for networks that see few images


class PaletteNetwork(Network):
    """The network, and how the noise level is encoded for it."""

    preset: str = "palette-256"
    gamma_embedding: str = "sqrt-gamma"

    @field_validator("gamma_embedding")
    @classmethod
    def _known_form(cls, form: str) -> str:
        if form not in FORMS:
            raise ValueError(f"a form of gamma embedding: {suggest(form, FORMS)}")
        return form


class PaletteTraining(PaperTraining):
    """Optimiser options and the loss."""

    loss: Literal["l2", "l1"] = "l2"  # of the noise, over pixels to produce; l1: Palette, Table 6
    reduction: Literal["image", "pixel"] = "image"  # mean of images' means, or over all images' pixels


class SamplingOptions(Part):
    """How the model restores by default."""

    steps: Count = DEFAULT_STEPS  # network evaluations per image
    sampler: Sampler | None = None  # None: chosen from the number of steps
    grid: Grid | None = None  # None: "paper" for the sampling schedule's own steps, else "log-snr"
    clip: Clip = "static"


class PaletteRecipe(Recipe):
    """A recipe of the reference model."""

    method: str = "palette"
    network: PaletteNetwork = PaletteNetwork()
    training: PaletteTraining = PaletteTraining()
    noise: NoiseOptions = NoiseOptions()
    sampling: SamplingOptions = SamplingOptions()

    def choices(self) -> dict[str, Any]:
        """Return every key that can change a weight: all except those of restoring and bookkeeping."""
        return {key: value for key, value in super().choices().items() if key != "sampling"}


# --- diffusion ---

Normal = Callable[[int], torch.Tensor]  # step -> (N, 3, H, W) float32 standard normals

PREVIEW_STEPS = 25
FIRST_LOSS = {"l2": 1.0, "l1": math.sqrt(2 / math.pi)}  # mean |eps|^p, as an untrained network predicts 0


class Diffusion:
    """The diffusion process, shared by training and restoring.

    Attributes:
        trained: noise schedule of training.
        sampled: noise schedule of sampling.
        embedding: a key of `schedule.FORMS`: the position of gamma that the network's code represents.
        width: width of the network's code.
        known: whether known pixels of y_t are clean or noised.
        predicts: whether the network's output is the noise or the velocity.
    """

    def __init__(self, recipe: PaletteRecipe) -> None:
        """Take the diffusion process that a recipe describes."""
        noise = recipe.noise
        self.trained, self.sampled = noise.training.schedule(), noise.sampling.schedule()
        self.embedding, self.width = recipe.network.gamma_embedding, recipe.network.spec.width
        self.known, self.predicts = noise.known, noise.predicts

    def code(self, gammas: Levels, device: torch.device) -> torch.Tensor:
        """Return the network's code for noise levels, (N, width) float32."""
        found = positions(self.embedding, gammas, self.trained)
        return sinusoids(torch.from_numpy(found).to(device), self.width)

    def codes(self, plan: SamplerConfig, device: torch.device) -> dict[float, torch.Tensor]:
        """Return gamma -> code, each (1, width), for the levels of `plan`; computed once for all images."""
        levels = plan.levels[:-1]
        return dict(zip(levels, self.code(np.array(levels), device)[:, None], strict=True))

    def draw_gammas(self, batch: TrainingBatch, draws: KeyedDraws) -> Levels:
        """Return a random training level per example, (N,) float64.

        Source: SR3, section 2.4, inferred for Palette: t uniform in 1..T, then gamma uniform between gamma_t
        and gamma_(t-1).
        """
        steps = 1 + draws.below(batch, "level", self.trained.steps)
        low, high = self.trained.gammas[steps], self.trained.gammas[steps - 1]
        return low + draws.uniform(batch, "gamma") * (high - low)

    def noised(
        self, clean: torch.Tensor, noise: torch.Tensor, gammas: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        """Return y_t = sqrt(gamma) y + sqrt(1 - gamma) eps; known pixels stay clean if `known` is "clean".

        Args:
            clean: y, (N, 3, H, W) float32.
            noise: eps, the same shape.
            gammas: (N, 1, 1, 1) float64.
            mask: m, (N, 1, H, W) bool.
        """
        noisy = gammas.sqrt().float() * clean + (1 - gammas).sqrt().float() * noise
        return noisy if self.known == "noised" else torch.where(mask, noisy, clean)

    def target(self, clean: torch.Tensor, noise: torch.Tensor, gammas: torch.Tensor) -> torch.Tensor:
        """Return the training target: eps, or the velocity v = sqrt(gamma) eps - sqrt(1 - gamma) y.

        At high noise v approaches -y, whereas an error of eps is divided by sqrt(gamma) when y is computed
        from it. The paper does not use v. Source: Salimans and Ho 2022, section 4 and appendix D.

        Args:
            clean: y, (N, 3, H, W) float32.
            noise: eps, the same shape.
            gammas: (N, 1, 1, 1) float64.

        Returns:
            (N, 3, H, W) float32.
        """
        if self.predicts == "noise":
            return noise
        return gammas.sqrt().float() * noise - (1 - gammas).sqrt().float() * clean

    def noise_of(self, output: torch.Tensor, noisy: torch.Tensor, gamma: float) -> torch.Tensor:
        """Return f, the predicted noise, given the network's output at y_t; all (N, 3, H, W) float32."""
        if self.predicts == "noise":
            return output
        return math.sqrt(gamma) * output + math.sqrt(1 - gamma) * noisy

    def sample(
        self,
        network: Predictor,
        plan: SamplerConfig,
        codes: Mapping[float, torch.Tensor],
        source: torch.Tensor,
        mask: torch.Tensor,
        normal: Normal,
    ) -> torch.Tensor:
        """Return restored images, (N, 3, H, W) float32; known pixels are those of `source`.

        Args:
            network: network that gives f or v, as `predicts` says.
            plan: sampler and levels.
            codes: codes of the plan's levels, from `codes`.
            source: x, (N, 3, H, W) float32.
            mask: m, (N, 1, H, W) bool.
            normal: step -> keyed noise.
        """
        # noise of step 0, drawn once because both `hold` and `draw` use it
        first = normal(0)

        def predict(noisy: torch.Tensor, gamma: float) -> torch.Tensor:
            code = codes[gamma].expand(len(noisy), -1)
            output = network(torch.cat([noisy, source], dim=1), code).float()
            return self.noise_of(output, noisy, gamma)

        def hold(noisy: torch.Tensor, gamma: float) -> torch.Tensor:
            if self.known == "clean" or gamma == 1:
                return torch.where(mask, noisy, source)
            # the same noise at every level: y_t then has exactly the distribution it had in training
            level = torch.full((1, 1, 1, 1), gamma, dtype=torch.float64, device=source.device)
            return torch.where(mask, noisy, self.noised(source, first, level, mask))

        def draw(step: int) -> torch.Tensor:
            return first if step == 0 else normal(step)

        return SAMPLERS[plan.sampler](SamplerInputs(predict, draw, hold, plan.levels, plan.clip))


class DenoisingObjective:
    """Palette's training objective: one network that predicts the noise or the velocity.

    Args:
        recipe: resolved recipe.
        device: device of the network.
    """

    def __init__(self, recipe: PaletteRecipe, device: torch.device) -> None:
        self._diffusion = Diffusion(recipe)
        self._training: PaletteTraining = recipe.training
        first = FIRST_LOSS[recipe.training.loss] if recipe.noise.predicts == "noise" else None
        self.trainables = (restoring_network(recipe, device, self.loss, first),)
        self._plan = plan_for(self._diffusion.sampled, self._diffusion.trained, PREVIEW_STEPS)

    def loss(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> BatchLosses:
        """Return |f - eps|^p of each example at a random level, or the same error of the velocity."""
        device = batch.reference.device
        gammas = self._diffusion.draw_gammas(batch, draws)
        noise = draws.normal(batch, "noise", tuple(batch.reference.shape[1:]))
        levels = torch.from_numpy(gammas).to(device)[:, None, None, None]
        noisy = self._diffusion.noised(batch.reference, noise, levels, batch.mask)
        code = self._diffusion.code(gammas, device)
        predicted = network(torch.cat([noisy, batch.source], dim=1), code)
        target = self._diffusion.target(batch.reference, noise, levels)
        snr, options = torch.from_numpy(log_snr(gammas)).to(device), self._training
        return BatchLosses.over_mask(predicted, batch, target, options.loss, options.reduction, snr)

    @torch.no_grad()
    def preview(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> torch.Tensor:
        """Return the examples restored by dpmpp-2m in 25 steps, (N, 3, S, S) float32 in [-1, 1]."""
        shape = tuple(batch.source.shape[1:])
        return self._diffusion.sample(
            network,
            self._plan,
            self._diffusion.codes(self._plan, batch.source.device),
            batch.source,
            batch.mask,
            lambda step: draws.normal(batch, f"preview-{step}", shape),
        )


def method(recipes: Mapping[str, str]) -> TrainedMethod:
    """Return the reference model with the given recipes, name -> TOML text."""
    return TrainedMethod("palette", PaletteRecipe, recipes, DenoisingObjective)
