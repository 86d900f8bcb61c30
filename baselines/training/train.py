"""Training a method: recipe, data and processes are set up, and the run folder records everything."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Literal

import torch

from palette_bench.benchset.sources import file_sha256
from palette_bench.core import atomic
from palette_bench.core.errors import UsageError, suggest
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.journal import locked
from palette_bench.core.processes import stoppable
from palette_bench.core.records import read_file
from palette_bench.core.types import SILENT, Progress
from palette_bench.runtime.device import reproducible_arithmetic
from palette_bench.runtime.distributed import ProcessGroup, training_group
from palette_bench.submission.cost import hardware_name
from palette_bench.submission.methods import TrainOptions
from palette_bench.submission.training_runs import OPTIONS, RunOptions
from palette_bench.tasks import canary

from . import checkpoint
from .adm import load_adm
from .checkpoint import open_run
from .data import open_images
from .dataset import UNREADABLE_SHARE, TrainingPairs, check_headers
from .loader import BatchShard
from .log import Heartbeat, RunLog
from .objective import TrainedMethod
from .optimisation import require_matching_tensors
from .recipe import Recipe, inherited, read_recipe, to_toml
from .resources import check_space, forecast, report_and_check, require_compiler, threads
from .trainer import RunConfig, Trainer

logger = logging.getLogger(__name__)

RECIPE = "recipe.resolved.toml"
ENVIRONMENT = "environment.json"


def train(method: TrainedMethod, options: TrainOptions, progress: Progress = SILENT) -> None:
    """Train a method into `options.run`, or continue from its last checkpoint.

    Raises:
        UsageError: the options contradict each other or the recipe.
        InputError: PB309, PB605, PB610, PB611 and errors of recipe or data.
        StackError: PB707, PB708, PB710-PB712. StorageError: PB804.
        Interrupted: a stop signal came; the step is finished and saved.
    """
    recipe = choose_recipe(method, options)
    heartbeat = Heartbeat()
    with (
        stoppable() as check,
        threads(options.threads, fixed=options.deterministic),
        training_group(options.device) as processes,
        reproducible_arithmetic(deterministic=options.deterministic),
        locked(options.run) if processes.is_main else contextlib.nullcontext(),
        heartbeat.beating() if processes.is_main else contextlib.nullcontext(),
    ):
        if processes.is_main:
            atomic.sweep(options.run)
            atomic.sweep(options.run / checkpoint.FOLDER)
        steps, last = recipe.training.steps, checkpoint.newest(options.run)
        plan = _plan(recipe, options, processes, progress)
        # what the run needs must be there before memory is allocated
        if recipe.speed.compile:
            require_compiler(processes.device)
        needs = forecast(method, recipe)
        report_and_check(needs, recipe, plan.share.micro, processes.device, method.texts, options.force)
        if processes.is_main and not options.force:
            done = checkpoint.read_state(last).step if last else 0
            check_space(options.run, needs, recipe, done)
        found = set() if last else check_headers(plan.pairs.images, plan.unreadable, processes, progress)
        check()
        heartbeat.begin("preparing the network")
        loop = _begin(method, plan, options, last)
        loop.progress.unreadable |= found
        log = None
        if processes.is_main:
            atomic.write_text(plan.run / RECIPE, to_toml(recipe))
            atomic.write_text(plan.run / ENVIRONMENT, json.dumps(plan.environment, indent=2) + "\n")
            RunOptions.of(options, recipe.method).write(plan.run / OPTIONS)
            log = RunLog(plan.run, loop.progress.step, heartbeat)
        with contextlib.closing(log) if log else contextlib.nullcontext():
            loop.train(min(options.until or steps, steps), options.workers, log, check)


def choose_recipe(method: TrainedMethod, options: TrainOptions) -> Recipe:
    """Return the resolved recipe: the one named, else the task's own, else the method's.

    `options.recipe` names a recipe of the method or a file. The schedule is fitted to a run of
    `options.steps`.

    Raises:
        UsageError: there is no recipe of that name.
        RecordError: the recipe is malformed; reports all problems at once.
    """
    known = method.texts
    name = options.recipe or (options.task if options.task in known else method.name)
    if name in known:
        text = known[name]
    elif Path(name).is_file():
        text = inherited(read_file(Path(name)).decode(errors="replace"), known, name)
    else:
        raise UsageError(f"{method.name} has no recipe {name!r}, nor is it a file: {suggest(name, known)}")
    noise: Literal["host", "device"] = "host" if options.device == "cpu" else "device"
    written = read_recipe(method.recipe_model, text, name).resolved(method.name, options.task, noise)
    recipe = written.of_length(options.steps)
    before, fitted = written.training, recipe.training
    if (before.warmup_steps, before.cooldown_steps) != (fitted.warmup_steps, fitted.cooldown_steps):
        logger.info(
            "schedule fitted to %s steps: warm-up %s -> %s, cooldown %s -> %s",
            *(f"{n:,}" for n in (fitted.steps, before.warmup_steps, fitted.warmup_steps)),
            *(f"{n:,}" for n in (before.cooldown_steps, fitted.cooldown_steps)),
        )
    return recipe


def _plan(recipe: Recipe, options: TrainOptions, processes: ProcessGroup, progress: Progress) -> RunConfig:
    """Return the configuration of the run, checked to be equal on all ranks."""
    batch = recipe.training.batch
    micro = recipe.training.micro_batch or max(1, batch // processes.size)
    share = BatchShard(batch, micro, processes.rank, processes.size)
    with progress("listing images", 1) as advance:
        images = open_images(options.data, recipe.data.saw_test_images)
        advance(1)
    init = options.init
    configuration = {
        "recipe": recipe.choices(),
        "seed": options.seed,
        "data": images.fingerprint,
        "pictures": len(images),
        "init": init and (file_sha256(init) if init.is_file() else open_run(init).sha256),
        checkpoint.LENGTH: recipe.training.steps,
    }
    processes.require_equal("configuration", fingerprint(configuration))
    pairs = TrainingPairs(images, recipe.tasks, recipe.side, batch, options.seed)
    versions, device = canary.environment(), processes.device
    environment = {
        **{key: versions[key] for key in ("palette_bench", "python", "numpy", "pillow", "os")},
        "torch": torch.__version__,
        "device": f"{device.type} ({hardware_name(str(device))})",
        "processes": str(share.world),
        "micro_batch": str(share.micro),
        "threads": str(torch.get_num_threads()),
        "deterministic": str(options.deterministic).lower(),
    }
    default = int(UNREADABLE_SHARE * len(images))
    allowed = default if options.unreadable is None else options.unreadable
    return RunConfig(options.run, recipe, pairs, processes, share, configuration, environment, allowed)


def _begin(method: TrainedMethod, plan: RunConfig, options: TrainOptions, last: Path | None) -> Trainer:
    """Return the trainer at the last checkpoint, or at step 0 with given or new weights.

    Raises:
        UsageError: the run has taken more steps than it should have in all.
        WeightsError: PB705, PB712, the weights of --init are not of their kind, or of another network.
    """
    torch.manual_seed(options.seed)  # decides the initial weights
    objective = method.build(plan.recipe, plan.world.device)
    init, kind = options.init, options.init_kind
    if init and not last:
        network = next(part.module for part in objective.trainables if part.name == "network")
        tensors = open_run(init).tensors if kind is None else load_adm(init, kind, plan.recipe.network.spec)
        require_matching_tensors(network, tensors, str(init))
        network.load_state_dict(dict(tensors))
    loop = Trainer(plan, objective)
    if not last and not init:
        loop.self_check()
    if not last:
        return loop
    loop.resume(last, options.override)
    done, steps = loop.progress.step, plan.recipe.training.steps
    if done > steps:
        raise UsageError(
            f"{options.run} has taken {done:,} steps and shall have {steps:,}: give --steps {done:,} or "
            "more, or another -o folder"
        )
    if done == steps:
        logger.info("all %s steps are done; a larger --steps goes on", f"{done:,}")
        return loop
    logger.info("going on after step %s, to step %s", f"{done:,}", f"{steps:,}")
    for change in loop.progress.resumptions[-1:]:
        if change.step == done:
            logger.info("recorded: %s", "; ".join(change.differing))
    return loop
