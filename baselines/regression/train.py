"""What the training loop needs to know of the regression baseline."""

from __future__ import annotations

from collections.abc import Mapping

from ..training.objective import Method
from .recipe import RegressionRecipe
from .regressing import Regressing


def method(recipes: Mapping[str, str]) -> Method[RegressionRecipe]:
    """Return the regression baseline, with these recipes by name."""
    return Method("regression", RegressionRecipe, recipes, Regressing)
