"""Training runs of a study: recipes, put together from size and system, training, and a cost forecast."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core import atomic
from palette_bench.core.errors import UsageError
from palette_bench.core.records import Part, Record, read_file, validate
from palette_bench.core.types import SILENT, Progress
from palette_bench.submission.methods import Batch, RestoreOptions, Restorer, TrainOptions, load_baseline

from ..training import checkpoint
from ..training.log import LOG
from ..training.method import PackagedMethod
from ..training.recipe import Recipe, to_toml
from .study import Sections, StudyRun


@dataclass(frozen=True)
class PlannedRun:
    """A training run with its recipe and its folder.

    Attributes:
        run: run of the study.
        recipe: recipe, which is also written beside the run.
        folder: folder of the run.
        device: device that trains and restores.
    """

    run: StudyRun
    recipe: Recipe
    folder: Path
    device: str

    @property
    def steps(self) -> int:
        """Return the number of steps of the whole run."""
        return self.recipe.training.steps

    @property
    def images(self) -> int:
        """Return the number of images that the whole run sees."""
        return self.steps * self.recipe.training.batch

    @property
    def done(self) -> int:
        """Return the step of the last checkpoint; 0 without one."""
        last = checkpoint.newest(self.folder) if self.folder.is_dir() else None
        return checkpoint.read_state(last).step if last else 0

    def train(self, data: Path, steps: int | None = None, progress: Progress = SILENT) -> None:
        """Train to the end, or until `steps` steps are done; continue from the last checkpoint.

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
        """Return the trained model; its sampling noise is the same for all runs of a study.

        Args:
            choices: `steps` and `sampler`, for methods that sample.
        """
        options = RestoreOptions(run=self.folder, device=self.device, **choices)
        return contestant(self.run.system.method).restorer(options)

    @property
    def samples(self) -> bool:
        """Return whether the method restores in a number of steps that can be chosen."""
        return "sampling" in type(self.recipe).model_fields

    @property
    def evaluations(self) -> int:
        """Return the number of network evaluations per output."""
        return int(self.recipe.model_dump()["sampling"]["steps"]) if self.samples else 1

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of the run's log in order; of a step that was repeated, only the last line."""
        lines = [json.loads(line) for line in read_file(self.folder / LOG).decode().splitlines()]
        return [by_step for _, by_step in sorted({line["step"]: line for line in lines}.items())]


def contestant(method: str) -> PackagedMethod:
    """Return a method that `train` can train.

    Raises:
        UsageError: the method is not installed, or is trained elsewhere.
    """
    found = load_baseline(method)
    if not isinstance(found, PackagedMethod):
        raise UsageError(f"{method} is trained elsewhere: studies compare what `train` trains")
    return found


def recipe_of(run: StudyRun, sections: Sections, images: float, name: str) -> Recipe:
    """Return the recipe of a run: the size's sections, then the system's changes to them.

    Args:
        run: run of a study.
        sections: sections of the size; those that the method's recipes do not have are left out.
        images: number of images to see, rounded up to whole batches.
        name: name of the training images, for cards.

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


# --- forecast ---

logger = logging.getLogger(__name__)

PATIENCE = 25  # minutes; for longer studies a smaller scale is suggested
RECORD = "forecast.json"
_TRIED_STEPS = 2  # sampling steps of the trial


class RunCost(Part):
    """Expected cost of one run, seconds."""

    training: float
    sampling: float


class Forecast(Record):
    """`forecast.json`: the expected cost of all runs, predicted once, before the rest of the study."""

    kind: ClassVar[str] = "study-forecast"
    costs: dict[str, RunCost]

    @property
    def minutes(self) -> float:
        """Return the minutes of training and sampling of all runs."""
        return sum(cost.training + cost.sampling for cost in self.costs.values()) / 60


def train_all(
    out: Path,
    trainees: Mapping[str, PlannedRun],
    demands: Mapping[str, tuple[int, Batch]],
    data: Path,
    trial: int,
    scale: float,
    progress: Progress,
) -> None:
    """Predict the cost of a study from a trial of every run, log it, then train all runs to the end.

    The trial steps are kept: runs continue from them. Further seeds are assumed to cost as much as the first.

    Args:
        out: folder of the study; an existing forecast of the same runs is kept.
        trainees: runs by name.
        demands: by name of the run, network evaluations for all its outputs, and a batch to time it on.
        data: training images.
        trial: number of steps of the trial.
        scale: factor for the numbers of images and inputs.
        progress: where to report progress.
    """
    forecast = Forecast.read(out / RECORD) if (out / RECORD).is_file() else None
    if forecast is None or forecast.costs.keys() != trainees.keys():
        costs: dict[str, RunCost] = {}
        for name, trainee in trainees.items():
            # runs are named SYSTEM.SEED
            first = name.rpartition(".")[0] + ".0"
            if first in costs:
                costs[name] = costs[first]
                continue
            trainee.train(data, min(trial, trainee.steps), progress)
            training = trainee.images / trainee.log()[-1]["images_per_second"]
            # one evaluation of one image is timed on a batch with few steps
            restorer = trainee.restorer(**({"steps": _TRIED_STEPS} if trainee.samples else {}))
            evaluations, batch = demands[name]
            restorer.restore(batch)  # the first call also warms up
            began = time.monotonic()
            restorer.restore(batch)
            timed = len(batch.ids) * (_TRIED_STEPS if trainee.samples else 1)
            sampling = evaluations * ((time.monotonic() - began) / timed)
            logger.info("%s: about %.0f s of training, %.0f s of sampling", name, training, sampling)
            costs[name] = RunCost(training=training, sampling=sampling)
        forecast = Forecast(schema=Forecast.schema_name(), costs=costs)
        forecast.write(out / RECORD)
    logger.info("%s", advice(forecast, scale))
    for trainee in trainees.values():
        logger.info("training %s: %d of %d steps done", trainee.run.name, trainee.done, trainee.steps)
        trainee.train(data, progress=progress)


def batch_of(folder: Path, most: int) -> Batch:
    """Return the first `most` images of a set as a batch, to time a restorer on."""
    benchset = ContestantSet.open(folder)
    ids = tuple(benchset.ids[:most])
    masks = [mask for i in ids if (mask := benchset.mask(i)) is not None]
    inputs = np.stack([benchset.input(i) for i in ids])
    return Batch(ids, inputs, np.stack(masks) if masks else None, benchset)


def advice(forecast: Forecast, scale: float) -> str:
    """Return a message on the time ahead, with a scale that would fit if the time is long."""
    line = f"about {forecast.minutes:.1f} minutes of training and sampling ahead"
    if forecast.minutes <= PATIENCE:
        return line
    fitting = scale * PATIENCE / forecast.minutes
    return f"{line}; another folder and --scale {fitting:.2g} would take about {PATIENCE}"
