"""Recipe of the regression baseline; the defaults are those of the paper's model."""

from __future__ import annotations

from typing import Literal

from ..training.recipe import Network, PaperTraining, Recipe


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
