"""What the training loop needs to know of the reference model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ..training.objective import Objective
from ..training.recipe import Recipe
from .diffusion import Denoising
from .recipe import PaletteRecipe


@dataclass(frozen=True)
class PaletteMethod:
    """The reference model as a `TrainedMethod`.

    Attributes:
        texts: name -> TOML text of its recipes.
    """

    texts: Mapping[str, str]
    name: str = "palette"
    recipe_model: type[Recipe] = PaletteRecipe

    def recipes(self) -> Mapping[str, str]:
        """Return name -> TOML text of the recipes that come with it."""
        return self.texts

    def objective(self, recipe: Recipe, device: torch.device) -> Objective:
        """Return the network and its loss, fresh, on the device."""
        assert isinstance(recipe, PaletteRecipe), "recipes are read as `recipe_model`"
        return Denoising(recipe, device)
