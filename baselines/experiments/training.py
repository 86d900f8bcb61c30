"""Runs of a study: their recipes, put together from size and system, and their training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palette_bench.core import atomic
from palette_bench.core.errors import UsageError
from palette_bench.core.records import read_file, validate
from palette_bench.core.types import SILENT, Progress
from palette_bench.submission.contestant import RestoreOptions, Restorer, TrainOptions, load_baseline

from ..training import checkpoint
from ..training.contestant import Contestant
from ..training.log import LOG
from ..training.recipe import Recipe, to_toml
from .study import Run, Sections


@dataclass(frozen=True)
class Trainee:
    """A run with its recipe and its place.

    Attributes:
        run: of the study.
        recipe: as written beside the run.
        folder: of the run.
        device: that trains and restores.
    """

    run: Run
    recipe: Recipe
    folder: Path
    device: str

    @property
    def steps(self) -> int:
        """Return the steps of the whole run."""
        return self.recipe.training.steps

    @property
    def images(self) -> int:
        """Return the images the whole run sees."""
        return self.steps * self.recipe.training.batch

    @property
    def done(self) -> int:
        """Return the steps of the last checkpoint."""
        last = checkpoint.newest(self.folder) if self.folder.is_dir() else None
        return checkpoint.read_state(last).step if last else 0

    def train(self, data: Path, steps: int | None = None, progress: Progress = SILENT) -> None:
        """Train to the end, or to so many steps; what is done is kept.

        Raises:
            InputError: PB605, PB610, PB611 as `train`; Interrupted: the step is finished and saved.
        """
        if self.done >= (steps or self.steps):
            return
        file = self.folder.with_name(f"{self.folder.name}.toml")
        atomic.write_text(file, to_toml(self.recipe))
        options = TrainOptions(
            task=self.run.task,
            data=(data,),
            run=self.folder,
            recipe=str(file),
            seed=self.run.seed,
            device=self.device,
            until=steps,
        )
        contestant(self.run.system.method).train(options, progress)

    def restorer(self, **choices: Any) -> Restorer:
        """Return the trained model; sampling noise is the same for all runs of a study.

        Args:
            choices: `steps` and `sampler`, for methods that sample.
        """
        options = RestoreOptions(run=self.folder, device=self.device, **choices)
        return contestant(self.run.system.method).restorer(options)

    @property
    def samples(self) -> bool:
        """Return whether the method restores in steps that can be chosen."""
        return "sampling" in type(self.recipe).model_fields

    @property
    def evaluations(self) -> int:
        """Return the network evaluations of an output."""
        return int(self.recipe.model_dump()["sampling"]["steps"]) if self.samples else 1

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of the run's log, in order; those a resumed run wrote again, once."""
        lines = [json.loads(line) for line in read_file(self.folder / LOG).decode().splitlines()]
        return [by_step for _, by_step in sorted({line["step"]: line for line in lines}.items())]


def contestant(method: str) -> Contestant:
    """Return a method that the training loop trains.

    Raises:
        UsageError: it is not installed, or not one.
    """
    found = load_baseline(method)
    if not isinstance(found, Contestant):
        raise UsageError(f"{method} is trained elsewhere: studies compare what `train` trains")
    return found


def recipe_of(run: Run, sections: Sections, images: float, name: str) -> Recipe:
    """Return the recipe of a run: the size's sections, then what the system changes of them.

    Args:
        run: of a study.
        sections: of the size; those that the method's recipes do not have are left out.
        images: to see, rounded up to whole batches.
        name: of the training pictures, for cards.

    Raises:
        RecordError: PB402, PB403, the sections do not fit the method.
    """
    model = contestant(run.system.method).method().recipe_model
    value: dict[str, Any] = {
        "schema": model.schema_name(),
        "method": run.system.method,
        "task": run.task,
        "tasks": list(run.tasks),
        "data": {"name": name, "saw_test_images": "no"},
    }
    for changes in (sections, run.system.recipe):
        for section in changes.keys() & model.model_fields.keys():
            value[section] = {**value.get(section, {}), **changes[section]}
    value["training"]["steps"] = max(1, -int(-images // value["training"]["batch"]))
    return validate(model, value, f"{run.name}.toml")


def identity_of(trainees: Mapping[str, Trainee]) -> dict[str, Any]:
    """Return everything that decides the weights of a study's runs, beside the pictures."""
    return {
        name: {"recipe": t.recipe.choices(), "images": t.images, "seed": t.run.seed}
        for name, t in sorted(trainees.items())
    }
