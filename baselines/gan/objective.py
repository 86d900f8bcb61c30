"""The GAN baseline. In training the discriminator takes its step, then the generator; restoring is one pass.

The paper names no GAN of its own: every default of the recipe is our choice.

Tensors: y, the reference; x, the source (input, N(0, 1) in its hole); m, the pixels to produce; z, the code
that the generator gets in place of a noise level's; G = tanh(network(0, x; z)).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import nn

from palette_bench.core.records import Part
from palette_bench.core.rng import sampling_noise
from palette_bench.submission.card import Sampling
from palette_bench.submission.methods import RestoreOptions

from ..training.draws import KeyedDraws
from ..training.objective import BatchLosses, TrainableNetwork, TrainedMethod, TrainingBatch, masked_loss
from ..training.presets import known_parameters
from ..training.recipe import Count, Network, Rate, Recipe, Share, TrainingOptions
from ..training.restorer import TAKEN, ModelInput, TrainedModel, open_trained
from ..training.unet import Predictor, UNet
from .discriminator import (
    ADVERSARIAL,
    PARAMETERS,
    SMALLEST,
    Discriminator,
    Judgement,
    accuracy,
    feature_gap,
    mean_score,
    squared_slope,
)

# --- recipe ---

Weight = Annotated[float, Field(ge=0)]


class GanNetwork(Network):
    """The generator: by default the paper's network, with normals in place of the noise level's sinusoids."""

    preset: str = "palette-256"
    z: Literal["normal", "zero"] = "normal"  # "zero": the deterministic variant


class GanTraining(TrainingOptions):
    """Optimiser options; the two networks take steps in turn.

    Learning rate, weight average and the losses listed here are the generator's.
    """

    batch: Count = 64
    steps: Count = 300_000
    learning_rate: Rate = 1e-4
    warmup_steps: int = Field(default=1000, ge=0)
    ema_decay: Share = 0.999
    betas: tuple[Share, Share] = (0.0, 0.99)
    adversarial: Literal["hinge", "non-saturating"] = "hinge"
    feature_matching: Weight = 10.0
    l1: Weight = 10.0


class DiscriminatorOptions(Part):
    """Options of the discriminator."""

    scales: Count | None = None  # None: 3 above 128 px, 2 from 48 to 128 px, 1 below
    learning_rate: Rate = 4e-4
    regularisation: Literal["spectral-norm", "r1", "none"] = "spectral-norm"
    r1_weight: Weight = 2e-4  # gamma / (height x width / batch), the rule of StyleGAN2-ADA
    r1_every: Count = 16  # steps between penalties; each is weighted by this number


class GanRecipe(Recipe):
    """A recipe of the GAN baseline."""

    method: str = "gan"
    network: GanNetwork = GanNetwork()
    training: GanTraining = GanTraining()
    discriminator: DiscriminatorOptions = DiscriminatorOptions()

    @property
    def scales(self) -> int:
        """Return the number of scales of the discriminator."""
        return self.discriminator.scales or (3 if self.side > 128 else 2 if self.side >= 48 else 1)

    @model_validator(mode="after")
    def _has_patches(self) -> Self:
        coarsest = self.side >> (self.scales - 1)
        if coarsest < SMALLEST:
            raise ValueError(
                f"a discriminator of {self.scales} scales sees images of {self.side} px at {coarsest} px, "
                f"and its patches need {SMALLEST}: take fewer scales or larger images"
            )
        return self

    def resolved(self, method: str, task: str, noise: Literal["host", "device"]) -> Self:
        """Return the recipe with every open choice made, `scales` included; see `Recipe.resolved`."""
        recipe = super().resolved(method, task, noise)
        discriminator_options = recipe.discriminator.model_copy(update={"scales": recipe.scales})
        return recipe.model_copy(update={"discriminator": discriminator_options})


# --- objective ---

WINS = 0.99  # discriminator accuracy above which the generator learns little
PATIENCE = 2000  # consecutive steps above `WINS` before a warning
_log = logging.getLogger(__name__)


def generate(network: Predictor, source: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """Return the generated images G, (N, 3, H, W) float32 in [-1, 1].

    Args:
        network: the generator's network.
        source: x, (N, 3, H, W) float32.
        z: (N, width) float32.
    """
    return network(torch.cat([torch.zeros_like(source), source], dim=1), z).float().tanh()


class DiscriminatorMonitor:
    """Warns when the discriminator has won for 2,000 steps in a row.

    The discriminator wins a step with an accuracy above 0.99. Counting begins at the start or resumption of a
    run.
    """

    def __init__(self) -> None:
        self._began: int | None = None

    def see(self, step: int, found: float) -> None:
        """Record the discriminator's accuracy on a micro-batch of a step."""
        if self._began is None:
            self._began = step
        if found <= WINS:
            self._began = step + 1
        elif step + 1 - self._began >= PATIENCE:
            _log.warning(
                "the discriminator has judged more than %.0f %% rightly for %s steps; the generator learns "
                "little from it: lower the discriminator's learning_rate",
                *(100 * WINS, f"{PATIENCE:,}"),
            )
            self._began = step + 1


class GanObjective:
    """The training objective of the GAN.

    Args:
        recipe: resolved recipe.
        device: device of the networks.
    """

    def __init__(self, recipe: GanRecipe, device: torch.device) -> None:
        self._recipe = recipe
        self._adversarial = ADVERSARIAL[recipe.training.adversarial]
        self._monitor = DiscriminatorMonitor()
        spec, rival, betas = recipe.network.spec, recipe.discriminator, recipe.training.betas
        self._generator = UNet(spec, checkpointing=recipe.speed.checkpointing).to(device)
        self._discriminator = Discriminator(recipe.scales, rival.regularisation == "spectral-norm").to(device)
        theirs = self._discriminator, rival.learning_rate, betas, self.discriminator_loss
        ours = self._generator, recipe.training.learning_rate, betas, self.generator_loss
        count, known = recipe.scales * PARAMETERS, known_parameters(spec)
        self.trainables = (
            TrainableNetwork("discriminator", *theirs, averaged=False, parameters=count),
            TrainableNetwork("network", *ours, parameters=known),
        )

    def discriminator_loss(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> BatchLosses:
        """Return the discriminator's loss of each example."""
        with torch.no_grad():
            made = generate(self._generator, batch.source, self._z(batch, draws, "z-discriminator"))
        on_real, on_made = self._compared(network, batch, made)
        self._monitor.see(batch.step, accuracy(on_real, on_made))
        values = mean_score(on_real, self._adversarial.real) + mean_score(on_made, self._adversarial.made)
        rule = self._recipe.discriminator
        # lazy regularisation: the penalty is computed every `r1_every` steps and weighted by that number
        if rule.regularisation == "r1" and batch.step % rule.r1_every == 0:
            values = values + rule.r1_every * self._r1(batch)
        return BatchLosses(values, torch.ones_like(values))

    def generator_loss(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> BatchLosses:
        """Return the generator's loss of each example."""
        rule = self._recipe.training
        made = generate(network, batch.source, self._z(batch, draws, "z"))
        # Gradients pass through the discriminator without accumulating in its parameters: in distributed
        # training, its reducer would otherwise wait for a step that is not its own.
        self._discriminator.requires_grad_(False)
        try:
            on_real, on_made = self._compared(self._discriminator, batch, made)
        finally:
            self._discriminator.requires_grad_(True)
        values = mean_score(on_made, self._adversarial.fooling)
        if rule.feature_matching:
            values = values + rule.feature_matching * feature_gap(on_real, on_made)
        if rule.l1:
            values = values + rule.l1 * masked_loss(made, batch.reference, batch.mask, "l1")
        return BatchLosses(values, torch.ones_like(values))

    @torch.no_grad()
    def preview(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> torch.Tensor:
        """Return the restored examples, (N, 3, S, S) float32 in [-1, 1]."""
        made = generate(network, batch.source, self._z(batch, draws, "z-preview"))
        return torch.where(batch.mask, made, batch.reference)

    def _z(self, batch: TrainingBatch, draws: KeyedDraws, purpose: str) -> torch.Tensor:
        width = self._recipe.network.spec.width
        if self._recipe.network.z == "zero":
            return batch.source.new_zeros(len(batch.source), width)
        return draws.normal(batch, purpose, (width,))

    def _compared(
        self, network: nn.Module, batch: TrainingBatch, made: torch.Tensor
    ) -> tuple[list[Judgement], list[Judgement]]:
        """Return the judgements of references and of generated images, from one pass over both."""
        both = torch.cat([shown(batch, batch.reference), shown(batch, made)])
        # split every layer back into references and generated images
        halves = [[layer.chunk(2) for layer in judgement] for judgement in network(both)]
        on_real, on_made = ([[layer[half] for layer in scale] for scale in halves] for half in (0, 1))
        return on_real, on_made

    def _r1(self, batch: TrainingBatch) -> torch.Tensor:
        """Return the R1 penalty, gamma / 2 times the squared gradient norm at the references, (N,) float32.

        Source: gamma = 2e-4 H W / batch is the rule of StyleGAN2-ADA (Karras et al. 2020, appendix C).
        """
        height, width = batch.reference.shape[2:]
        gamma = self._recipe.discriminator.r1_weight * height * width / self._recipe.training.batch
        with torch.autocast(batch.reference.device.type, enabled=False):
            # `forward` bypasses compilation: a compiled call cannot be differentiated twice
            slope = squared_slope(
                lambda images: self._discriminator.forward(shown(batch, images)), batch.reference
            )
        return gamma / 2 * slope


def shown(batch: TrainingBatch, images: torch.Tensor) -> torch.Tensor:
    """Return the discriminator's input, (N, 7, H, W) float32: m ? image : y, then x with holes 0, then m."""
    composite = torch.where(batch.mask, images, batch.reference)
    known = batch.source.masked_fill(batch.holes, 0)
    return torch.cat([composite, known, batch.mask.float()], dim=1)


def method(recipes: Mapping[str, str]) -> TrainedMethod:
    """Return the GAN baseline with the given recipes, name -> TOML text."""
    return TrainedMethod("gan", GanRecipe, recipes, GanObjective)


# --- restoring ---


def open_model(options: RestoreOptions) -> TrainedModel:
    """Return the generator of a training run, with its weights verified.

    Raises:
        UsageError: no run is given, the run belongs to another method, a sampling option is given, or a seed
            is given for a generator that draws nothing.
        StorageError: PB801; WeightsError: PB705, PB712; DeviceError: PB707.
    """
    options.refuse_all_but(*TAKEN, "seed")
    opened = open_trained("gan", GanRecipe, options)
    draws = opened.recipe.network.z == "normal"
    if not draws:
        options.refuse_all_but(*TAKEN)
    width = opened.network.spec.width

    def restore_batch(network: Predictor, model_input: ModelInput) -> torch.Tensor:
        source, _ = model_input.tensors(opened.device)
        z = keyed_z(options.seed, model_input, width) if draws else torch.zeros(len(source), width)
        return generate(network, source, z.to(opened.device))

    sampler, seed = ("z from N(0, 1)", options.seed) if draws else ("none", None)
    return TrainedModel(opened, "GAN", Sampling(sampler=sampler, steps=1, seed=seed), restore_batch)


def keyed_z(seed: int, model_input: ModelInput, width: int) -> torch.Tensor:
    """Return z of each image, (N, width) float32 normals that do not depend on the batch."""
    drawn = [sampling_noise(seed, name, model_input.sample, 0, (width,)) for name in model_input.names]
    return torch.from_numpy(np.stack(drawn))
