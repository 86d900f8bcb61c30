"""What the training loop needs to know of the GAN baseline."""

from __future__ import annotations

from collections.abc import Mapping

from ..training.objective import Method
from .game import Game
from .recipe import GanRecipe


def method(recipes: Mapping[str, str]) -> Method[GanRecipe]:
    """Return the GAN baseline, with these recipes by name."""
    return Method("gan", GanRecipe, recipes, Game)
