"""The recipe of the smoke weights: strict TOML, every choice a key."""

from __future__ import annotations

import math
from importlib.resources import files
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from palette_bench.core.records import Part, Record, Text, read_file

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Data(Part):
    """What the card says of the pictures."""

    name: Text
    licence: Text


class Training(Part):
    """The optimiser's part: SGD with Nesterov momentum over a fixed number of epochs."""

    epochs: Count
    batch: Count
    rate: Annotated[float, Field(gt=0)]
    warmup_epochs: Annotated[float, Field(ge=0)]
    momentum: Annotated[float, Field(gt=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    label_smoothing: Share
    ema_decay: Share


class Augmentation(Part):
    """How a picture varies each time it is seen."""

    flip: bool
    least_area: Annotated[float, Field(gt=0, le=1)]
    stretch: Annotated[float, Field(ge=1)]
    jitter: Share
    cutout: Annotated[int, Field(ge=0, le=64)]


class SmokeRecipe(Record):
    """Everything that decides the weights, beside the pictures."""

    kind: ClassVar[str] = "smoke-recipe"
    seed: Annotated[int, Field(ge=0)]
    autocast: Literal["off", "bf16"]
    data: Data
    training: Training
    augmentation: Augmentation

    def rate(self, step: int, per_epoch: int) -> float:
        """Return the learning rate of a step, counted from 0: a line up to the peak, half a cosine to 0."""
        warmup = self.training.warmup_epochs * per_epoch
        if step < warmup:
            return self.training.rate * (step + 1) / (warmup + 1)
        done = (step - warmup) / (self.training.epochs * per_epoch - warmup)
        return self.training.rate * (1 + math.cos(math.pi * done)) / 2


def read_recipe(file: Path | None, epochs: int | None) -> SmokeRecipe:
    """Return the recipe of a file, or the shipped one; `epochs` replaces its own.

    Raises:
        RecordError: PB401-PB403, PB411; all problems at once.
        StorageError: PB801.
    """
    data = read_file(file) if file else (files(__package__) / "recipe.toml").read_bytes()
    recipe = SmokeRecipe.parse(data, file.name if file else "recipe.toml")
    training = recipe.training.model_copy(update={"epochs": epochs or recipe.training.epochs})
    return recipe.model_copy(update={"training": training})
