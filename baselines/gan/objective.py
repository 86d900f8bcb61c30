"""The GAN baseline. In training the discriminator takes its step, then the generator; restoring is one pass.

Tensors: y, the reference; x, the source (input, N(0, 1) in its hole); m, the pixels to produce; z, the code
that the generator gets in place of a noise level's; G = tanh(network(0, x; z)).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from palette_bench.core.rng import sampling_noise
from palette_bench.submission.card import Sampling
from palette_bench.submission.methods import RestoreOptions

from ..training.draws import KeyedDraws
from ..training.objective import BatchLosses, TrainableNetwork, TrainedMethod, TrainingBatch, masked_loss
from ..training.presets import known_parameters
from ..training.restorer import TAKEN, ModelInput, TrainedModel, open_trained
from ..training.unet import Predictor, UNet
from .discriminator import (
    ADVERSARIAL,
    PARAMETERS,
    Discriminator,
    Judgement,
    accuracy,
    feature_gap,
    mean_score,
    squared_slope,
)
from .recipe import GanRecipe

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
        self._guard = DiscriminatorMonitor()
        spec, rival, betas = recipe.network.spec, recipe.discriminator, recipe.training.betas
        self._generator = UNet(spec, checkpointing=recipe.speed.checkpointing).to(device)
        self._discriminator = Discriminator(recipe.scales, rival.regularisation == "spectral-norm").to(device)
        theirs, ours = (rival.learning_rate, betas), (recipe.training.learning_rate, betas)
        count, known = recipe.scales * PARAMETERS, known_parameters(spec)
        self.trainables: tuple[TrainableNetwork, ...] = (
            TrainableNetwork(
                "discriminator", self._discriminator, *theirs, self.discriminator_loss, False, count
            ),
            TrainableNetwork("network", self._generator, *ours, self.generator_loss, parameters=known),
        )

    def discriminator_loss(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> BatchLosses:
        """Return the discriminator's loss of each example."""
        with torch.no_grad():
            made = generate(self._generator, batch.source, self._z(batch, draws, "z-discriminator"))
        there, here = self._compared(network, batch, made)
        self._guard.see(batch.step, accuracy(there, here))
        values = mean_score(there, self._adversarial.real) + mean_score(here, self._adversarial.made)
        rule = self._recipe.discriminator
        # lazy regularisation: the penalty is computed every `r1_every` steps and weighted by that number
        if rule.regularisation == "r1" and batch.step % rule.r1_every == 0:
            values = values + rule.r1_every * self._r1(batch)
        return BatchLosses(values, torch.ones_like(values))

    def generator_loss(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> BatchLosses:
        """Return the generator's loss of each example."""
        rule = self._recipe.training
        made = generate(network, batch.source, self._z(batch, draws, "z"))
        with _frozen(self._discriminator):
            there, here = self._compared(self._discriminator, batch, made)
        values = mean_score(here, self._adversarial.fooling)
        if rule.feature_matching:
            values = values + rule.feature_matching * feature_gap(there, here)
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
        there, here = ([[layer[half] for layer in scale] for scale in halves] for half in (0, 1))
        return there, here

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


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module without accumulating in its parameters.

    In distributed training, gradients of the discriminator's parameters in the generator's step would make
    the discriminator's reducer wait for a step that is not its own.
    """
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


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
