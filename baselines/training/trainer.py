"""The training loop; keyed samples and full checkpoints make the weights independent of interruptions."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from palette_bench.core.errors import InputError, Problem, SourceError
from palette_bench.core.processes import Interrupted
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.submission.cost import peak_memory

from . import checkpoint
from .dataset import HostBatch, MicroBatches, TrainingPairs, unreadable
from .draws import KeyedDraws
from .loader import BatchShard, micro_batches, to_examples
from .log import RunLog, StepClock
from .objective import Objective, TrainingBatch
from .optimisation import LossSums, NetworkTrainer
from .recipe import Recipe, to_toml

logger = logging.getLogger(__name__)

_MOST_SKIPPED = 3  # consecutive skipped steps that stop the run
_STRIP = 8  # images in a strip
_TOO_MANY = 255  # in place of a signal number: more images are unreadable than allowed
_NOT_HALVED = "the warm-up is over and the loss is still %.2f, above %.2f: look at recipe and data"
_PREVIEW_STEP = -1  # keys the preview's samples; training never reaches this step


@dataclass
class TrainingProgress:
    """Progress of a run: what a checkpoint stores beside tensors."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    unreadable: set[int] = field(default_factory=set)
    resumptions: tuple[checkpoint.Resumption, ...] = ()


@dataclass(frozen=True)
class RunConfig:
    """Configuration of a run: what is trained, on which data and by which processes.

    Attributes:
        run: folder of the run.
        recipe: resolved recipe.
        pairs: training samples.
        world: process group.
        share: this rank's part of a step.
        configuration: everything that determines the weights, as JSON values.
        environment: versions, device and other causes of different rounding.
        unreadable: how many unreadable images may be skipped.
    """

    run: Path
    recipe: Recipe
    pairs: TrainingPairs
    world: ProcessGroup
    share: BatchShard
    configuration: dict[str, Any]
    environment: dict[str, str]
    unreadable: int = 0


class Trainer:
    """Trains the networks of an objective.

    Attributes:
        plan: configuration of the run.
        progress: progress of the run.
    """

    def __init__(self, plan: RunConfig, objective: Objective) -> None:
        """Create a `NetworkTrainer` for each network of the objective, at step 0."""
        self.plan = plan
        self.progress = TrainingProgress()
        self._objective = objective
        parts = objective.trainables
        self._trainers = {part.name: NetworkTrainer(part, plan.recipe, plan.world) for part in parts}
        speed = plan.recipe.speed
        self._draws = KeyedDraws(plan.pairs.seed, speed.noise or "host")
        self._memory_format = torch.channels_last if speed.channels_last else torch.contiguous_format
        self._tallies = {name: LossSums.empty(plan.world.device) for name in self._trainers}
        self._norm = math.nan
        self._clock = StepClock()

    # --- checkpoints --------------------------------------------------------------------------

    def resume(self, folder: Path, override: bool) -> None:
        """Continue from a checkpoint.

        Raises:
            InputError: PB605, the checkpoint was trained under another configuration.
            WeightsError: PB712, the tensors belong to another network.
        """
        state, tensors = checkpoint.read_checkpoint(folder)
        resumptions = checkpoint.accept_configuration(state, self.plan.configuration, override)
        for trainer in self._trainers.values():
            trainer.load(tensors, moved=state.step > state.skipped)
        skipped = state.skipped, state.skipped_in_a_row
        self.progress = TrainingProgress(state.step, *skipped, set(state.unreadable), resumptions)

    def save(self) -> None:
        """Write a checkpoint of this step on rank 0, and remove older ones."""
        self._name_unreadable(self.plan.world.union(self.progress.unreadable))
        if self.plan.world.is_main:
            states = [trainer.state() for trainer in self._trainers.values()]
            tensors = {stem: part for state in states for stem, part in state.items()}
            now = self.progress
            record = checkpoint.CheckpointState(
                schema=checkpoint.CheckpointState.schema_name(),
                method=self.plan.recipe.method,
                step=now.step,
                images_seen=now.step * self.plan.share.batch,
                skipped=now.skipped,
                skipped_in_a_row=now.skipped_in_a_row,
                parameters=self._trainers["network"].count,
                configuration=self.plan.configuration,
                resumptions=now.resumptions,
                unreadable=tuple(sorted(now.unreadable)),
                environment=self.plan.environment,
                files={},
            )
            checkpoint.save(self.plan.run, record, tensors, to_toml(self.plan.recipe))
            checkpoint.prune(self.plan.run, self.plan.recipe.checkpoints.keep_every)
        self.plan.world.wait()
        self._clock.skip()

    # --- steps --------------------------------------------------------------------------------

    def train(self, until: int, workers: int, log: RunLog | None, check: Callable[[], None]) -> None:
        """Train until `until` steps are done; save regularly and at the end.

        Args:
            until: number of steps, counted from the start of the run; at most the recipe's.
            workers: number of processes that prepare samples; 0 uses a thread.
            log: log of rank 0; None on other ranks.
            check: raises `Interrupted` after a stop signal.

        Raises:
            Interrupted: a stop signal came; the step is finished and saved.
            SourceError: PB309, too many images are unreadable; the run is saved.
            InputError: PB610, three steps in a row were not finite.
        """
        first, steps = self.progress.step, self.plan.recipe.training.steps
        with micro_batches(self.plan.pairs, self.plan.share, first, until, workers) as feed:
            self._clock.skip()
            for step in range(first, until):
                if log:
                    log.begin(f"step {step + 1:,} of {steps:,}")
                began = time.monotonic()
                try:
                    host_batch = [next(feed) for _ in range(self.plan.share.accumulation)]
                except SourceError:
                    # other ranks could not join in saving
                    if self.plan.world.size == 1 and self.progress.step:
                        self.save()
                    raise
                self._clock.waited(time.monotonic() - began)
                self._name_unreadable({index for part in host_batch for index in part.passed})
                self._step(step, host_batch)
                self._clock.tick()
                signal = self._stop_signal(check)
                ends = bool(signal) or step + 1 == until
                self._record(log, steps, ends)
                if ends or self._is_due(self.plan.recipe.checkpoints.save_every):
                    self.save()
                    broken, images = self.progress.unreadable, self.plan.pairs.images
                    # all ranks have exchanged their findings and saved
                    if len(broken) > self.plan.unreadable:
                        raise SourceError(unreadable(images, broken, self.plan.unreadable))
                if signal:
                    raise Interrupted(signal)

    def _name_unreadable(self, found: set[int]) -> None:
        """Log each skipped image once, and record it."""
        for index in sorted(found - self.progress.unreadable):
            logger.warning("unreadable, the next one is taken: %s", self.plan.pairs.images.name(index))
        self.progress.unreadable |= found

    def _step(self, step: int, host_batch: list[HostBatch]) -> None:
        """Take one step of every network, in order.

        Raises:
            InputError: PB610, three steps in a row were not finite.
        """
        results = {}
        for name, trainer in self._trainers.items():
            batch = (self._examples(part) for part in host_batch)
            results[name] = trainer.step(step, batch, self.plan.share.accumulation, self._draws)
        self._norm = results["network"].norm
        finite = all(result.finite for result in results.values())
        if finite:
            for name, result in results.items():
                self._tallies[name].add(result.tally)
        now = self.progress
        now.step += 1
        now.skipped += not finite
        now.skipped_in_a_row = 0 if finite else now.skipped_in_a_row + 1
        if now.skipped_in_a_row >= _MOST_SKIPPED:
            raise InputError.of(
                "PB610",
                f"steps {now.step - _MOST_SKIPPED + 1:,} to {now.step:,}",
                expected="a finite loss and gradient",
                found="infinity or not a number",
                fix="lower learning_rate or switch autocast off; the last checkpoint is kept",
            )

    def _examples(self, host_batch: HostBatch) -> TrainingBatch:
        return to_examples(host_batch, self._draws, self.plan.world.device, self._memory_format)

    def _is_due(self, every: int) -> bool:
        return bool(every) and self.progress.step % every == 0

    def _stop_signal(self, check: Callable[[], None]) -> int:
        """Return the stop signal of any rank, `_TOO_MANY`, or 0; all ranks return the same."""
        signal = _TOO_MANY if len(self.progress.unreadable) > self.plan.unreadable else 0
        try:
            check()
        except Interrupted as stop:
            signal = stop.signum
        if self.plan.world.size == 1:
            return signal
        signals = torch.zeros(self.plan.world.size, dtype=torch.int64, device=self.plan.world.device)
        signals[self.plan.world.rank] = signal
        return int(self.plan.world.sum(signals).max())

    # --- records ------------------------------------------------------------------------------

    def _record(self, log: RunLog | None, steps: int, ends: bool) -> None:
        """Write what is due after a step; warn if the loss has not halved by the end of the warm-up."""
        if ends or self._is_due(self.plan.recipe.log.every):
            binned = self.plan.world.sum(self._tallies["network"].binned)
            if log:
                line = self._line(binned)
                log.write(line)
                log.say(line, steps, self._clock.seconds)
                first = self._trainers["network"].trainable.first_loss
                ended, step = self.plan.recipe.training.warmup_steps, self.progress.step
                loss = math.inf if line["loss"] is None else line["loss"]
                just_ended = step - self.plan.recipe.log.every < ended <= step
                if first is not None and just_ended and loss > first / 2:
                    logger.warning(_NOT_HALVED, loss, first / 2)
            self._tallies = {name: LossSums.empty(self.plan.world.device) for name in self._trainers}
        elif log and log.is_due():
            log.say(self._line(self._tallies["network"].binned), steps, self._clock.seconds)
        if log and self._is_due(self.plan.recipe.log.strip_every):
            log.strip(self.progress.step, self.preview())
        self._clock.skip()

    def _line(self, binned: torch.Tensor) -> dict[str, Any]:
        """Return one line of log.jsonl, with means over the finite steps since the line before."""
        sums, counts = binned.tolist()
        seconds = self._clock.seconds
        others = {f"loss_{name}": tally.mean for name, tally in self._tallies.items() if name != "network"}
        return {
            "step": self.progress.step,
            "images_seen": self.progress.step * self.plan.share.batch,
            "loss": self._tallies["network"].mean,
            **others,
            "loss_by_lambda": [s / n if n else None for s, n in zip(sums, counts, strict=True)],
            "gradient_norm": self._norm if math.isfinite(self._norm) else None,
            "learning_rate": self._trainers["network"].rate(self.progress.step - 1),
            "images_per_second": self.plan.share.batch / seconds if seconds else 0.0,
            "data_wait": self._clock.wait_share,
            "memory_bytes": peak_memory(str(self.plan.world.device)),
            "skipped": self.progress.skipped,
        }

    def preview(self) -> list[torch.Tensor]:
        """Return sources, restored images and references of eight fixed samples, with fixed noise."""
        first = _PREVIEW_STEP * self.plan.share.batch
        samples = range(first, first + min(_STRIP, self.plan.share.batch))
        batch = self._examples(MicroBatches(self.plan.pairs)[samples])
        with torch.no_grad(), self._trainers["network"].averaged() as network:
            restored = self._objective.preview(network, batch, self._draws)
        return [batch.source, restored, batch.reference]

    def self_check(self) -> None:
        """Check the untrained networks: the published number of parameters, and the known first loss.

        Raises:
            InputError: PB611, a network differs.
        """
        samples = replace(self.plan.share, rank=0)  # the same samples on all ranks: all stop or none
        problems: list[Problem] = []
        for trainer in self._trainers.values():
            parts = (self._examples(MicroBatches(self.plan.pairs)[part]) for part in samples.samples(0, 64))
            problems += trainer.faults(parts, self._draws)
        if problems:
            raise InputError(*problems)
