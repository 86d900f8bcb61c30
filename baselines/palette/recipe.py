"""Recipe of the reference model; the defaults are the paper's."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from palette_bench.core.errors import suggest
from palette_bench.core.records import Part

from ..training.recipe import Count, Network, PaperTraining, Recipe, Share
from .samplers import DEFAULT_STEPS, Clip, Grid, Sampler
from .schedule import FORMS, Schedule


class LinearChain(Part):
    """A noise schedule whose beta = 1 - alpha rises linearly.

    The paper gives both pairs of end values; that they are values of beta is inferred.
    """

    steps: Count
    beta_first: Share
    beta_last: Share

    def schedule(self) -> Schedule:
        """Return the schedule's levels."""
        return Schedule.linear(self.steps, self.beta_first, self.beta_last)


class NoiseOptions(Part):
    """The noise schedules (Palette, Appendix B), and the treatment of known pixels in tasks with holes."""

    training: LinearChain = LinearChain(steps=2000, beta_first=1e-6, beta_last=0.01)
    sampling: LinearChain = LinearChain(steps=1000, beta_first=1e-4, beta_last=0.09)
    known: Literal["clean", "noised"] = "clean"  # known pixels in y_t: unchanged, or as noisy as the hole
    predicts: Literal["noise", "velocity"] = "noise"  # "velocity" is ours, for networks that see few images


class PaletteNetwork(Network):
    """The network, and how the noise level is encoded for it."""

    preset: str = "palette-256"
    gamma_embedding: str = "sqrt-gamma"

    @field_validator("gamma_embedding")
    @classmethod
    def _known_form(cls, form: str) -> str:
        if form not in FORMS:
            raise ValueError(f"a form of gamma embedding: {suggest(form, FORMS)}")
        return form


class PaletteTraining(PaperTraining):
    """Optimiser options and the loss."""

    loss: Literal["l2", "l1"] = "l2"  # of the noise, over pixels to produce; l1: Palette, Table 6
    reduction: Literal["image", "pixel"] = "image"  # mean of images' means, or over all images' pixels


class SamplingOptions(Part):
    """How the model restores by default."""

    steps: Count = DEFAULT_STEPS  # network evaluations per image
    sampler: Sampler | None = None  # None: chosen from the number of steps
    grid: Grid | None = None  # None: "paper" for the sampling schedule's own steps, else "log-snr"
    clip: Clip = "static"


class PaletteRecipe(Recipe):
    """A recipe of the reference model."""

    method: str = "palette"
    network: PaletteNetwork = PaletteNetwork()
    training: PaletteTraining = PaletteTraining()
    noise: NoiseOptions = NoiseOptions()
    sampling: SamplingOptions = SamplingOptions()

    def choices(self) -> dict[str, Any]:
        """Return every key that can change a weight: all except those of restoring and bookkeeping."""
        return {key: value for key, value in super().choices().items() if key != "sampling"}
