"""What a recipe of the reference model holds; the defaults are the paper's."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator

from palette_bench.core.errors import suggest
from palette_bench.core.records import Part

from ..training.recipe import Count, Network, PaperTraining, Recipe, Share
from .samplers import DEFAULT_STEPS, Clip, Grid, Sampler
from .schedule import FORMS, Schedule


class LinearChain(Part):
    """A chain whose beta = 1 - alpha rises linearly; the paper gives both pairs, as beta is inferred."""

    steps: Count
    beta_first: Share
    beta_last: Share

    def schedule(self) -> Schedule:
        """Return its levels."""
        return Schedule.linear(self.steps, self.beta_first, self.beta_last)


class NoiseOptions(Part):
    """The chains (Palette, Appendix B), and what happens to known pixels of tasks with holes."""

    training: LinearChain = LinearChain(steps=2000, beta_first=1e-6, beta_last=0.01)
    sampling: LinearChain = LinearChain(steps=1000, beta_first=1e-4, beta_last=0.09)
    known: Literal["clean", "noised"] = "clean"  # in y_t: themselves, or as noisy as the hole
    predicts: Literal["noise", "velocity"] = "noise"  # velocity: ours, for networks that see few images


class PaletteNetwork(Network):
    """The network, and how it is told the noise level."""

    preset: str = "palette-256"
    gamma_embedding: str = "sqrt-gamma"

    @field_validator("gamma_embedding")
    @classmethod
    def _known_form(cls, form: str) -> str:
        if form not in FORMS:
            raise ValueError(f"a form of gamma embedding: {suggest(form, FORMS)}")
        return form


class PaletteTraining(PaperTraining):
    """The optimiser's part and the loss."""

    loss: Literal["l2", "l1"] = "l2"  # of the noise, where pixels are to be produced; l1: Palette, Table 6
    reduction: Literal["image", "pixel"] = "image"  # mean of images' means, or of pixels of all images


class SamplingOptions(Part):
    """How the model restores unless told otherwise."""

    steps: Count = DEFAULT_STEPS  # network evaluations per image
    sampler: Sampler | None = None  # none: the one that suits the steps
    grid: Grid | None = None  # none: the paper's if the steps are its own, else log-snr
    clip: Clip = "static"


class PaletteRecipe(Recipe):
    """A recipe of the reference model."""

    method: str = "palette"
    network: PaletteNetwork = PaletteNetwork()
    training: PaletteTraining = PaletteTraining()
    noise: NoiseOptions = NoiseOptions()
    sampling: SamplingOptions = SamplingOptions()

    def choices(self) -> dict[str, Any]:
        """Return every key that can move a weight: all but those of restoring and bookkeeping."""
        return {key: value for key, value in super().choices().items() if key != "sampling"}
