"""From pictures to weights file and card, however often it is stopped on the way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palette_bench.core import atomic
from palette_bench.core.interrupt import stoppable
from palette_bench.core.journal import locked
from palette_bench.core.types import SILENT, Progress
from palette_bench.runtime.device import reproducible_arithmetic

from ..training.checkpoint import FOLDER
from .pictures import accept_validation, read_labelled
from .recipe import SmokeRecipe
from .train import Trainer
from .weights_file import write_weights


def make(
    run: Path,
    recipe: SmokeRecipe,
    data: Sequence[Path],
    validation: Sequence[Path],
    minutes: float,
    progress: Progress = SILENT,
) -> Path | None:
    """Train into `run`, or go on there; return the path of the weights, None if the time was over first.

    Args:
        run: folder of the run.
        recipe: every choice.
        data: training pictures in class folders or tars.
        validation: pictures of the same classes, only measured on.
        minutes: after which to save and stop.
        progress: told of reading and measuring.

    Raises:
        UsageError: fewer pictures than a batch holds.
        InputError: PB605, PB610, and what is wrong with the pictures.
        StorageError: PB801-PB803.
        Interrupted: a stop signal came; the step is finished and saved.
    """
    train, val = (read_labelled(paths, progress) for paths in (data, validation))
    accept_validation(train, val)
    with stoppable() as check, locked(run), reproducible_arithmetic():
        for folder in (run, run / FOLDER):
            atomic.sweep(folder)
        trainer = Trainer(run, recipe, train)
        trainer.train(minutes, check)
        if trainer.step < trainer.steps:
            return None
        return write_weights(run, trainer.settle(), recipe, train, val, progress)
