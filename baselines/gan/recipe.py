"""Recipe of the GAN baseline. The paper names no GAN of its own: every default is our choice."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from palette_bench.core.records import Part

from ..training.recipe import Count, Network, Rate, Recipe, Share, TrainingOptions
from .discriminator import SMALLEST

Weight = Annotated[float, Field(ge=0)]


class GanNetwork(Network):
    """The generator: by default the paper's network, with normals in place of the noise level's sinusoids."""

    preset: str = "palette-256"
    z: Literal["normal", "zero"] = "normal"  # "zero": the deterministic variant


class GanTraining(TrainingOptions):
    """Optimiser options; the two networks take steps in turn.

    Learning rate, weight average and the losses listed here are the generator's.
    """

    batch: Count = 64
    steps: Count = 300_000
    learning_rate: Rate = 1e-4
    warmup_steps: int = Field(default=1000, ge=0)
    ema_decay: Share = 0.999
    betas: tuple[Share, Share] = (0.0, 0.99)
    adversarial: Literal["hinge", "non-saturating"] = "hinge"
    feature_matching: Weight = 10.0
    l1: Weight = 10.0


class DiscriminatorOptions(Part):
    """Options of the discriminator."""

    scales: Count | None = None  # None: 3 above 128 px, 2 from 48 to 128 px, 1 below
    learning_rate: Rate = 4e-4
    regularisation: Literal["spectral-norm", "r1", "none"] = "spectral-norm"
    r1_weight: Weight = 2e-4  # gamma / (height x width / batch), the rule of StyleGAN2-ADA
    r1_every: Count = 16  # steps between penalties; each is weighted by this number


class GanRecipe(Recipe):
    """A recipe of the GAN baseline."""

    method: str = "gan"
    network: GanNetwork = GanNetwork()
    training: GanTraining = GanTraining()
    discriminator: DiscriminatorOptions = DiscriminatorOptions()

    @property
    def scales(self) -> int:
        """Return the number of scales of the discriminator."""
        return self.discriminator.scales or (3 if self.side > 128 else 2 if self.side >= 48 else 1)

    @model_validator(mode="after")
    def _has_patches(self) -> Self:
        coarsest = self.side >> (self.scales - 1)
        if coarsest < SMALLEST:
            raise ValueError(
                f"a discriminator of {self.scales} scales sees images of {self.side} px at {coarsest} px, "
                f"and its patches need {SMALLEST}: take fewer scales or larger images"
            )
        return self

    def resolved(self, method: str, task: str, noise: Literal["host", "device"]) -> Self:
        """Return the recipe with every open choice made, `scales` included; see `Recipe.resolved`."""
        recipe = super().resolved(method, task, noise)
        discriminator_options = recipe.discriminator.model_copy(update={"scales": recipe.scales})
        return recipe.model_copy(update={"discriminator": discriminator_options})
