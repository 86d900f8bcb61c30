"""How long a study will take, from a few steps of every run and a batch of every sampler."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core.records import Part, Record
from palette_bench.core.types import SILENT, Progress
from palette_bench.submission.contestant import Batch, Restorer

from .answering import Place, size_of
from .training import Trainee

logger = logging.getLogger(__name__)

PATIENCE = 25  # minutes of a study; beyond, the program says how to spend less
RECORD = "forecast.json"
_TRIED_STEPS = 2  # network evaluations of the trial


@dataclass(frozen=True)
class Spending:
    """What is tried, and what sampling will be asked.

    Attributes:
        trial: training steps to time.
        batch: pictures restored at once.
        samples: of each input.
    """

    trial: int
    batch: int
    samples: int


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
    trainees: Mapping[str, Trainee],
    targets: Mapping[str, Sequence[str]],
    place: Place,
    data: Path,
    spending: Spending,
    progress: Progress = SILENT,
) -> Forecast:
    """Train every run for `trial` steps, restore a batch with each, and predict the whole.

    The steps count: runs go on from them. Every further seed costs what its first costs.

    Args:
        trainees: runs by name.
        targets: the sets each answers.
        place: of the study.
        data: training pictures.
        spending: how long to try, and what sampling will be asked.
        progress: where to report.
    """
    if (place.out / RECORD).is_file():
        known = Forecast.read(place.out / RECORD)
        if known.costs.keys() == trainees.keys():
            return known
    costs: dict[str, Cost] = {}
    for name, trainee in trainees.items():
        first = name.rpartition(".")[0] + ".0"
        costs[name] = costs.get(first) or _cost(trainee, targets[name], place, data, spending, progress)
    forecast = Forecast(schema=Forecast.schema_name(), costs=costs)
    forecast.write(place.out / RECORD)
    return forecast


def _cost(
    trainee: Trainee,
    targets: Sequence[str],
    place: Place,
    data: Path,
    spending: Spending,
    progress: Progress,
) -> Cost:
    trainee.train(data, min(spending.trial, trainee.steps), progress)
    training = trainee.images / trainee.log()[-1]["images_per_second"]
    pictures = sum(size_of(place, target) for target in targets) * spending.samples
    sampling = pictures * _seconds_per_picture(trainee, place.benchset(targets[0]), spending.batch)
    logger.info("%s: about %.0f s of training, %.0f s of sampling", trainee.run.name, training, sampling)
    return Cost(training=training, sampling=sampling)


def _seconds_per_picture(trainee: Trainee, folder: Path, size: int) -> float:
    """Return what restoring a picture takes: a batch at few steps, times the steps there are."""
    tried = trainee.restorer(**({"steps": _TRIED_STEPS} if trainee.samples else {}))
    batch = _batch(folder, size)
    tried.restore(batch)  # the first call also warms up
    began = time.monotonic()
    tried.restore(batch)
    seconds = (time.monotonic() - began) / len(batch.ids)
    return seconds * _evaluations(trainee.restorer()) / _evaluations(tried)


def _evaluations(restorer: Restorer) -> int:
    return restorer.about.sampling.steps or 1


def _batch(folder: Path, most: int) -> Batch:
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
