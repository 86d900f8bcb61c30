"""What a method provides to the training loop: its networks, their losses, and a preview."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .presets import known_parameters
from .recipe import Recipe, Task
from .unet import UNet

if TYPE_CHECKING:
    from .draws import KeyedDraws

Norm = Literal["l1", "l2"]


def masked_loss(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, norm: Norm
) -> torch.Tensor:
    """Return the mean of |predicted - target|^p over channels and pixels to produce, (N,) float32.

    Args:
        predicted: (N, 3, H, W); f or an image.
        target: (N, 3, H, W) float32; eps or y.
        mask: m, (N, 1, H, W) bool.
        norm: "l1" for p = 1, "l2" for p = 2.

    Source: Palette, equation 5 and section 4 (only masked pixels count).
    """
    gap = (predicted.float() - target).abs()
    penalty = gap if norm == "l1" else gap.square()
    return (penalty * mask).sum((1, 2, 3)) / (predicted.shape[1] * _pixels(mask)).clamp(min=1)


def _pixels(mask: torch.Tensor) -> torch.Tensor:
    return mask.sum((1, 2, 3), dtype=torch.float32)


HOLED: tuple[Task, ...] = ("inpainting", "uncropping")  # tasks whose sources have a hole


@dataclass(frozen=True)
class TrainingBatch:
    """A micro-batch of training pairs, on the device.

    Attributes:
        step: optimiser step of the batch, from 0.
        positions: (N,) int64, position of each pair in the global batch; together with `step` it keys every
            draw.
        tasks: N task names.
        reference: y, (N, 3, S, S) float32 in [-1, 1].
        source: x, (N, 3, S, S) float32: the input in [-1, 1], with N(0, 1) in the hole.
        mask: m, (N, 1, S, S) bool, the pixels to produce; all True for tasks without holes.
    """

    step: int
    positions: NDArray[np.int64]
    tasks: tuple[str, ...]
    reference: torch.Tensor
    source: torch.Tensor
    mask: torch.Tensor

    @property
    def holes(self) -> torch.Tensor:
        """Return the holes of the sources, (N, 1, S, S) bool; unlike m, all False for tasks without holes."""
        holed = torch.tensor([task in HOLED for task in self.tasks], device=self.mask.device)
        return self.mask & holed[:, None, None, None]


@dataclass(frozen=True)
class BatchLosses:
    """Losses of a micro-batch; the global loss is sum(values * weights) / sum(weights).

    Attributes:
        values: (N,) float32 with gradient, one loss per image.
        weights: (N,) float32: 1, or the number of pixels counted.
        log_snr: (N,) float64 lambda of each image, for the loss by noise level; None for methods without
            noise.
    """

    values: torch.Tensor
    weights: torch.Tensor
    log_snr: torch.Tensor | None = None

    @classmethod
    def over_mask(
        cls,
        predicted: torch.Tensor,
        batch: TrainingBatch,
        target: torch.Tensor,
        norm: Norm,
        reduction: Literal["image", "pixel"],
        log_snr: torch.Tensor | None = None,
    ) -> BatchLosses:
        """Return the `masked_loss` of each image; it weighs 1, or its number of pixels to produce."""
        values, pixels = masked_loss(predicted, target, batch.mask, norm), _pixels(batch.mask)
        return cls(values, pixels if reduction == "pixel" else torch.ones_like(pixels), log_snr)


Loss: TypeAlias = "Callable[[nn.Module, TrainingBatch, KeyedDraws], BatchLosses]"


@dataclass(frozen=True)
class TrainableNetwork:
    """A network with its own optimiser.

    Attributes:
        name: "network" for the network that restores; other networks are saved beside it under their names.
        module: the network.
        learning_rate: learning rate after the warm-up.
        betas: betas of Adam.
        loss: (network, examples, draws) -> losses; the network may be wrapped for distributed training.
        averaged: whether an exponential moving average of the weights is kept.
        parameters: published number of parameters, which the module must have; None if unknown.
        first_loss: mean loss of the untrained network, e.g. 1 for unit noise and a zero head; None if
            unknown. It is checked at the start of a run without initial weights.
    """

    name: str
    module: nn.Module
    learning_rate: float
    betas: tuple[float, float]
    loss: Loss
    averaged: bool = True
    parameters: int | None = None
    first_loss: float | None = None


def restoring_network(
    recipe: Recipe, device: torch.device, loss: Loss, first_loss: float | None = None
) -> TrainableNetwork:
    """Return a recipe's new U-Net with the recipe's optimiser: the network that restores."""
    spec, training = recipe.network.spec, recipe.training
    module = UNet(spec, checkpointing=recipe.speed.checkpointing).to(device)
    options = module, training.learning_rate, training.betas, loss
    return TrainableNetwork("network", *options, parameters=known_parameters(spec), first_loss=first_loss)


class Objective(Protocol):
    """Training objective of a method; its networks, `trainables`, take their steps in order."""

    @property
    def trainables(self) -> tuple[TrainableNetwork, ...]:
        """Return the networks."""

    def preview(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> torch.Tensor:
        """Return restored images for the strips, (N, 3, S, S) float32 in [-1, 1], with known pixels kept."""


@dataclass(frozen=True)
class TrainedMethod:
    """What `train` needs from a method.

    Attributes:
        name: name of the entry point.
        recipe_model: class of the recipes.
        texts: name -> TOML text of the recipes. The recipe named like a task is the default of that task; the
            one named like the method is the default of the other tasks.
        build: (resolved recipe, device) -> new networks and losses.
    """

    name: str
    recipe_model: type[Recipe]
    texts: Mapping[str, str]
    build: Callable[[Any, torch.device], Objective]
