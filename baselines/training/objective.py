"""What a method tells the training loop: its networks, their losses, and a preview."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from .recipe import Recipe, Task

Norm = Literal["l1", "l2"]


def masked_loss(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, norm: Norm
) -> torch.Tensor:
    """Return the mean of |predicted - target|^p over the channels and pixels to produce, (N,) float32.

    Args:
        predicted: (N, 3, H, W); f or an image.
        target: (N, 3, H, W) float32; eps or y.
        mask: m, (N, 1, H, W) bool.
        norm: p is 1 or 2.

    Source: Palette, equation 5 and section 4 (only masked pixels count).
    """
    gap = (predicted.float() - target).abs()
    penalty = gap if norm == "l1" else gap.square()
    return (penalty * mask).sum((1, 2, 3)) / (predicted.shape[1] * _pixels(mask)).clamp(min=1)


def weights(mask: torch.Tensor, reduction: Literal["image", "pixel"]) -> torch.Tensor:
    """Return what each image weighs in the mean over images, (N,) float32: 1, or its pixels to produce."""
    return _pixels(mask) if reduction == "pixel" else torch.ones_like(_pixels(mask))


def _pixels(mask: torch.Tensor) -> torch.Tensor:
    return mask.sum((1, 2, 3), dtype=torch.float32)


HOLED: tuple[Task, ...] = ("inpainting", "uncropping")  # tasks whose sources have a hole


@dataclass(frozen=True)
class TrainingBatch:
    """A micro-batch of training pairs, on the device.

    Attributes:
        step: the optimiser step they belong to, from 0.
        positions: (N,) int64, the place of each in the global batch; with the step it keys every draw.
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
        """Return the pixels that sources lack, (N, 1, S, S) bool; unlike m, none for tasks without holes."""
        holed = torch.tensor([task in HOLED for task in self.tasks], device=self.mask.device)
        return self.mask & holed[:, None, None, None]


class Draws(Protocol):
    """Keyed randomness: equal for equal (run seed, step, position, purpose), on any rank or batch."""

    def uniform(self, examples: TrainingBatch, purpose: str) -> NDArray[np.float64]:
        """Return (N,) float64 in [0, 1)."""

    def below(self, examples: TrainingBatch, purpose: str, n: int) -> NDArray[np.int64]:
        """Return (N,) int64 in [0, n)."""

    def normal(self, examples: TrainingBatch, purpose: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return (N, *shape) float32 standard normals on the examples' device."""


R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class BatchLosses:
    """What a micro-batch adds to the global mean, sum(values * weights) / sum(weights).

    Attributes:
        values: (N,) float32 with gradient, one loss per image.
        weights: (N,) float32: 1, or the number of pixels counted.
        log_snr: (N,) float64 lambda of each, for the loss by noise level; None without noise.
    """

    values: torch.Tensor
    weights: torch.Tensor
    log_snr: torch.Tensor | None = None


@dataclass(frozen=True)
class TrainableNetwork:
    """A network with an optimiser of its own.

    Attributes:
        name: "network" for the one that restores; others are saved beside it under their names.
        module: the network.
        learning_rate: after the warm-up.
        betas: of Adam.
        loss: takes the network (wrapped for distributed training), examples and draws.
        averaged: whether an exponential moving average is kept.
        parameters: how many the module must have, where a published count is known.
        first_loss: mean loss of the untrained network where it is known, e.g. 1 for unit noise and a zero
            head; checked at the start of a run that begins from nothing.
    """

    name: str
    module: nn.Module
    learning_rate: float
    betas: tuple[float, float]
    loss: Callable[[nn.Module, TrainingBatch, Draws], BatchLosses]
    averaged: bool = True
    parameters: int | None = None
    first_loss: float | None = None


class Objective(Protocol):
    """A method in training; players take their steps in order."""

    players: tuple[TrainableNetwork, ...]

    def preview(self, network: nn.Module, examples: TrainingBatch, draws: Draws) -> torch.Tensor:
        """Return restored images, (N, 3, S, S) float32 in [-1, 1], known pixels kept, for the strips."""


class TrainedMethod(Protocol):
    """What a method gives to `train`."""

    @property
    def name(self) -> str:
        """Return the name of its entry point."""

    @property
    def recipe_model(self) -> type[Recipe]:
        """Return the type of its recipes."""

    def recipes(self) -> Mapping[str, str]:
        """Return name -> TOML text of the recipes that come with it.

        One named like a task is that task's own; one named like the method serves tasks without.
        """

    def objective(self, recipe: Recipe, device: torch.device) -> Objective:
        """Return networks and losses of a resolved recipe, fresh, on the device."""


@dataclass(frozen=True)
class RecipeMethod(Generic[R]):
    """A `TrainedMethod` whose recipes are files.

    Attributes:
        name: of its entry point.
        recipe_model: the type of its recipes.
        texts: name -> TOML text of its recipes.
        build: (resolved recipe, device) -> networks and losses, fresh.
    """

    name: str
    recipe_model: type[R]
    texts: Mapping[str, str]
    build: Callable[[R, torch.device], Objective]

    def recipes(self) -> Mapping[str, str]:
        """Return name -> TOML text."""
        return self.texts

    def objective(self, recipe: Recipe, device: torch.device) -> Objective:
        """Return networks and losses of a resolved recipe, fresh, on the device."""
        assert isinstance(recipe, self.recipe_model), "recipes are read as `recipe_model`"
        return self.build(recipe, device)
