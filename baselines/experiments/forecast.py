"""How long a study will take, from a few steps of every run and a batch of every sampler."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core.records import Part, Record
from palette_bench.core.types import SILENT, Progress
from palette_bench.submission.contestant import Batch

from .training import Trainee

logger = logging.getLogger(__name__)

PATIENCE = 25  # minutes of a study; beyond, the program says how to spend less
RECORD = "forecast.json"
_TRIED_STEPS = 2  # network evaluations of the trial


@dataclass(frozen=True)
class Asked:
    """What will be asked of a run once it is trained.

    Attributes:
        evaluations: of its network, for all outputs together.
        batch: pictures to try it on.
    """

    evaluations: int
    batch: Batch


class Cost(Part):
    """What one system's run is expected to cost, seconds."""

    training: float
    sampling: float


class Forecast(Record):
    """`forecast.json`: predicted once, before a study begins in earnest."""

    kind: ClassVar[str] = "study-forecast"
    costs: dict[str, Cost]

    @property
    def minutes(self) -> float:
        """Return the minutes of training and sampling of all runs."""
        return sum(cost.training + cost.sampling for cost in self.costs.values()) / 60


def foretell(
    out: Path,
    trainees: Mapping[str, Trainee],
    asked: Mapping[str, Asked],
    data: Path,
    trial: int,
    progress: Progress = SILENT,
) -> Forecast:
    """Train every run for `trial` steps, restore a batch with each, and predict the whole.

    The steps count: runs go on from them. Every further seed costs what its first costs.

    Args:
        out: folder of the study; a forecast of the same runs is kept.
        trainees: runs by name.
        asked: of each run.
        data: training pictures.
        trial: steps.
        progress: where to report.
    """
    if (out / RECORD).is_file():
        known = Forecast.read(out / RECORD)
        if known.costs.keys() == trainees.keys():
            return known
    costs: dict[str, Cost] = {}
    for name, trainee in trainees.items():
        first = name.rpartition(".")[0] + ".0"
        costs[name] = costs.get(first) or _cost(trainee, asked[name], data, trial, progress)
    forecast = Forecast(schema=Forecast.schema_name(), costs=costs)
    forecast.write(out / RECORD)
    return forecast


def _cost(trainee: Trainee, asked: Asked, data: Path, trial: int, progress: Progress) -> Cost:
    trainee.train(data, min(trial, trainee.steps), progress)
    training = trainee.images / trainee.log()[-1]["images_per_second"]
    sampling = asked.evaluations * _seconds_per_evaluation(trainee, asked.batch)
    logger.info("%s: about %.0f s of training, %.0f s of sampling", trainee.run.name, training, sampling)
    return Cost(training=training, sampling=sampling)


def _seconds_per_evaluation(trainee: Trainee, batch: Batch) -> float:
    """Return what one picture's network evaluation takes, from a batch at few steps."""
    tried = trainee.restorer(**({"steps": _TRIED_STEPS} if trainee.samples else {}))
    tried.restore(batch)  # the first call also warms up
    began = time.monotonic()
    tried.restore(batch)
    pictures = len(batch.ids) * (_TRIED_STEPS if trainee.samples else 1)
    return (time.monotonic() - began) / pictures


def batch_of(folder: Path, most: int) -> Batch:
    """Return the first pictures of a set, to try a restorer on."""
    benchset = ContestantSet.open(folder)
    ids = tuple(benchset.ids[:most])
    masks = [mask for i in ids if (mask := benchset.mask(i)) is not None]
    inputs = np.stack([benchset.input(i) for i in ids])
    return Batch(ids, inputs, np.stack(masks) if masks else None, benchset)


def advice(forecast: Forecast, scale: float) -> str:
    """Return a line on the time ahead, with the scale that would fit if it is long."""
    line = f"about {forecast.minutes:.1f} minutes of training and sampling ahead"
    if forecast.minutes <= PATIENCE:
        return line
    fitting = scale * PATIENCE / forecast.minutes
    return f"{line}; another folder and --scale {fitting:.2g} would take about {PATIENCE}"
