"""What the training loop needs to know of the reference model."""

from __future__ import annotations

from collections.abc import Mapping

from ..training.objective import Method
from .diffusion import Denoising
from .recipe import PaletteRecipe


def method(recipes: Mapping[str, str]) -> Method[PaletteRecipe]:
    """Return the reference model, with these recipes by name."""
    return Method("palette", PaletteRecipe, recipes, Denoising)
