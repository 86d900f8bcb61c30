"""What a method tells the training loop: its networks, their losses, and a preview."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import torch
from torch import nn

from .examples import Draws, Examples
from .recipe import Recipe

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Losses:
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
class Player:
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
    loss: Callable[[nn.Module, Examples, Draws], Losses]
    averaged: bool = True
    parameters: int | None = None
    first_loss: float | None = None


class Objective(Protocol):
    """A method in training; players take their steps in order."""

    players: tuple[Player, ...]

    def preview(self, network: nn.Module, examples: Examples, draws: Draws) -> torch.Tensor:
        """Return restored pictures, (N, 3, S, S) float32 in [-1, 1], known pixels kept, for the strips."""


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
class Method(Generic[R]):
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
