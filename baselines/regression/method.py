"""Regression baseline: the denoising network with a noisy image of zeros and position 0 as its noise level.

The defaults of the recipe are those of the paper's model.

Source: Palette, section 4 (baselines): "the same architecture", trained with an L2 loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import nn

from palette_bench.submission.card import Sampling
from palette_bench.submission.methods import RestoreOptions

from ..training.draws import KeyedDraws
from ..training.objective import BatchLosses, TrainedMethod, TrainingBatch, restoring_network
from ..training.recipe import Network, PaperTraining, Recipe
from ..training.restorer import TAKEN, ModelInput, TrainedModel, open_trained
from ..training.unet import Predictor, sinusoids


class RegressionNetwork(Network):
    """The network; by default the paper's."""

    preset: str = "palette-256"


class RegressionTraining(PaperTraining):
    """Optimiser options; the loss is L2 (Palette, section 4)."""

    reduction: Literal["image", "pixel"] = "image"  # mean of images' means, or over all images' pixels


class RegressionRecipe(Recipe):
    """A recipe of the regression baseline."""

    method: str = "regression"
    network: RegressionNetwork = RegressionNetwork()
    training: RegressionTraining = RegressionTraining()


def regress(network: Predictor, source: torch.Tensor, width: int) -> torch.Tensor:
    """Return the predicted image, (N, 3, H, W) float32, roughly in [-1, 1].

    Args:
        network: network whose output is read as the image.
        source: x, (N, 3, H, W) float32.
        width: width of the network's code; the code is always the sinusoids of position 0.
    """
    code = sinusoids(torch.zeros(len(source), device=source.device), width)
    return network(torch.cat([torch.zeros_like(source), source], dim=1), code).float()


class RegressionObjective:
    """Training objective: one network, the mean squared error over the pixels to produce.

    Args:
        recipe: resolved recipe.
        device: device of the network.
    """

    def __init__(self, recipe: RegressionRecipe, device: torch.device) -> None:
        self._training = recipe.training
        self._width = recipe.network.spec.width
        self.trainables = (restoring_network(recipe, device, self.loss),)

    def loss(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> BatchLosses:
        """Return the squared error of each example; no random numbers are drawn."""
        predicted = regress(network, batch.source, self._width)
        return BatchLosses.over_mask(predicted, batch, batch.reference, "l2", self._training.reduction)

    @torch.no_grad()
    def preview(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> torch.Tensor:
        """Return the restored examples, (N, 3, S, S) float32 in [-1, 1]."""
        restored = regress(network, batch.source, self._width).clamp(-1, 1)
        return torch.where(batch.mask, restored, batch.reference)


def open_model(options: RestoreOptions) -> TrainedModel:
    """Return the model of a training run, with its weights verified.

    Raises:
        UsageError: no run is given, the run belongs to another method, or a sampling option is given.
        StorageError: PB801; WeightsError: PB705, PB712; DeviceError: PB707.
    """
    options.refuse_all_but(*TAKEN)
    opened = open_trained("regression", RegressionRecipe, options)

    def restore_batch(network: Predictor, model_input: ModelInput) -> torch.Tensor:
        source, _ = model_input.tensors(opened.device)
        return regress(network, source, opened.network.spec.width)

    sampling = Sampling(sampler="none", steps=1)
    return TrainedModel(opened, "Regression", sampling, restore_batch, paper="arXiv:2111.05826")


def method(recipes: Mapping[str, str]) -> TrainedMethod:
    """Return the regression baseline with the given recipes, name -> TOML text."""
    return TrainedMethod("regression", RegressionRecipe, recipes, RegressionObjective)
