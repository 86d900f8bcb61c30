"""Training a method: recipe, data and processes become a loop, and a run folder tells everything."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from palette_bench import __version__
from palette_bench.core import atomic
from palette_bench.core.errors import UsageError, suggest
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.interrupt import stoppable
from palette_bench.core.journal import locked
from palette_bench.core.records import read_file
from palette_bench.core.types import SILENT, Progress
from palette_bench.submission.contestant import TrainOptions

from . import checkpoint
from .data import open_pictures
from .log import RunLog
from .objective import Objective, TrainedMethod
from .pairs import Pairs
from .recipe import Recipe, read_recipe, to_toml
from .run import open_run
from .seat import prove
from .steps import Loop
from .world import World, world

logger = logging.getLogger(__name__)

RECIPE = "recipe.resolved.toml"
ENVIRONMENT = "environment.json"


def train(method: TrainedMethod, options: TrainOptions, progress: Progress = SILENT) -> None:
    """Train a method into `options.run`, or go on where its last checkpoint stands.

    Raises:
        UsageError: the options contradict each other or the recipe.
        InputError: PB309, PB605, PB610, PB611 and what is wrong with recipe or data.
        StackError: PB707, PB710, PB712.
        Interrupted: a stop signal came; the step is finished and saved.
    """
    recipe = choose_recipe(method, options)
    with (
        stoppable() as check,
        world(options.device) as processes,
        _settings(options.deterministic),
        _held(options.run, processes),
    ):
        with progress("listing pictures", 1) as advance:
            pictures = open_pictures(options.data, recipe.data.saw_test_images)
            advance(1)
        pairs = Pairs(pictures, recipe.tasks, recipe.side, recipe.training.batch, options.seed)
        configuration = _configuration(recipe, options, pairs)
        processes.agree("configuration", fingerprint(configuration))
        torch.manual_seed(options.seed)  # initial weights
        objective = method.objective(recipe, processes.device)
        environment = _environment(processes, options.deterministic)
        loop = Loop(options.run, recipe, objective, pairs, processes, configuration, environment)
        log = _begin(loop, options, recipe, environment)
        with contextlib.closing(log) if log else contextlib.nullcontext():
            loop.train(options.steps or recipe.training.steps, options.workers, log, check)


def choose_recipe(method: TrainedMethod, options: TrainOptions) -> Recipe:
    """Return the resolved recipe: one of the method's by name, a file, or the task's own.

    Raises:
        UsageError: there is none of that name.
        RecordError: it is malformed; all problems at once.
    """
    known = method.recipes()
    name = options.recipe or options.task
    if name in known:
        text = known[name]
    elif Path(name).is_file():
        text = read_file(Path(name)).decode(errors="replace")
    else:
        raise UsageError(f"{method.name} has no recipe {name!r}, nor is it a file: {suggest(name, known)}")
    noise: Literal["host", "device"] = "host" if options.device == "cpu" else "device"
    return read_recipe(method.recipe_model, text, name).resolved(method.name, options.task, noise)


@contextlib.contextmanager
def _held(run: Path, processes: World) -> Iterator[None]:
    """Hold the run's folder against other runs, on rank 0."""
    with locked(run) if processes.leads else contextlib.nullcontext():
        if processes.leads:
            atomic.sweep(run)
            atomic.sweep(run / checkpoint.FOLDER)
        yield


def _begin(loop: Loop, options: TrainOptions, recipe: Recipe, environment: dict[str, str]) -> RunLog | None:
    """Resume, or start from given weights or nothing; write what the run is made of."""
    folder = checkpoint.newest(options.run)
    if folder:
        loop.resume(folder, options.override)
        logger.info("going on after step %s", f"{loop.progress.step:,}")
    elif options.init:
        _initialise(loop.objective, recipe, options)
    else:
        loop.self_check()
    if not loop.world.leads:
        return None
    atomic.write_text(options.run / RECIPE, to_toml(recipe))
    atomic.write_text(options.run / ENVIRONMENT, json.dumps(environment, indent=2) + "\n")
    return RunLog(options.run, loop.progress.step)


def _initialise(objective: Objective, recipe: Recipe, options: TrainOptions) -> None:
    """Load the weights given with --init into the network that restores, and into its average."""
    assert options.init is not None
    network = next(player.module for player in objective.players if player.name == "network")
    if options.init_kind is None:
        tensors = dict(open_run(options.init).tensors)
    else:
        from .adm import load_adm  # noqa: PLC0415  # only imports need it

        tensors = dict(load_adm(options.init, options.init_kind, recipe.network.spec))
    prove(network, tensors, str(options.init))
    network.load_state_dict(tensors)


def _configuration(recipe: Recipe, options: TrainOptions, pairs: Pairs) -> dict[str, Any]:
    """Return everything that decides the weights, as JSON values."""
    return {
        "recipe": recipe.choices(),
        "seed": options.seed,
        "data": pairs.pictures.fingerprint,
        "pictures": len(pairs.pictures),
        "init": options.init_kind and f"{options.init_kind}",
    }


def _environment(processes: World, deterministic: bool) -> dict[str, str]:
    device = processes.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "palette_bench": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "device": f"{device.type} ({name})",
        "processes": str(processes.size),
        "threads": str(torch.get_num_threads()),
        "deterministic": str(deterministic).lower(),
    }


@contextlib.contextmanager
def _settings(deterministic: bool) -> Iterator[None]:
    """Run under the settings of level L0, if asked. Source: trust, section 1.1."""
    if not deterministic:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    before = torch.are_deterministic_algorithms_enabled()
    matmul, convolutions = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = matmul, convolutions
