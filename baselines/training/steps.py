"""The training loop: keyed samples in, checkpoints out, and the same weights however often it is stopped."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from palette_bench.core.errors import InputError, problem
from palette_bench.core.interrupt import Interrupted

from . import checkpoint
from .data import UNREADABLE_SHARE, unreadable
from .draws import KeyedDraws
from .examples import Examples
from .feeding import Share, micro_batches, to_examples
from .log import Clock, RunLog, memory_bytes
from .objective import Objective
from .pairs import MicroBatches, Pairs, Prepared
from .recipe import Recipe, to_toml
from .seat import BINS, Seat, Tally
from .world import World

logger = logging.getLogger(__name__)

_MOST_SKIPPED = 3  # steps in a row
_STRIP = 8  # pictures of a strip
_PREVIEW_STEP = -1  # its samples are keyed like any other and never trained on as such


@dataclass
class Progress:
    """Where a run is; what a checkpoint must remember beside tensors."""

    step: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    unreadable: set[int] = field(default_factory=set)
    resumptions: tuple[checkpoint.Resumption, ...] = ()


class Loop:
    """A run under way.

    Args:
        run: its folder.
        recipe: resolved.
        objective: networks and losses.
        pairs: the samples.
        world: the processes.
        configuration: everything that decides the weights, for checkpoints.
        environment: versions and device, for checkpoints.
    """

    def __init__(
        self,
        run: Path,
        recipe: Recipe,
        objective: Objective,
        pairs: Pairs,
        world: World,
        configuration: dict[str, Any],
        environment: dict[str, str],
    ) -> None:
        training = recipe.training
        micro = training.micro_batch or max(1, training.batch // world.size)
        self.recipe, self.objective, self.world = recipe, objective, world
        self.share = Share(training.batch, micro, world.rank, world.size)
        self.seats = [Seat(player, recipe, world) for player in objective.players]
        self.progress = Progress()
        self._run = run
        self._pairs = pairs
        self._draws = KeyedDraws(pairs.seed, recipe.speed.noise or "host")
        self._configuration = configuration
        self._environment = environment
        self._memory_format = torch.channels_last if recipe.speed.channels_last else torch.contiguous_format
        self._tally = Tally.empty(world.device)
        self._clock = Clock()

    # --- checkpoints --------------------------------------------------------------------------

    def resume(self, folder: Path, override: bool) -> None:
        """Go on from a checkpoint.

        Raises:
            InputError: PB605, it was trained under another configuration.
            WeightsError: PB712, its tensors are another network's.
        """
        found = checkpoint.read_checkpoint(folder)
        state = found.state
        resumptions = checkpoint.accept_configuration(state, self._configuration, override)
        for seat in self.seats:
            seat.load(found.tensors, moved=state.step > state.skipped)
        self.progress = Progress(
            state.step, state.skipped, state.skipped_in_a_row, set(state.unreadable), resumptions
        )

    def save(self) -> None:
        """Write a checkpoint of this step, on rank 0, and let older ones go."""
        if self.world.leads:
            tensors = {stem: part for seat in self.seats for stem, part in seat.state().items()}
            checkpoint.save(self._run, self._state(), tensors, to_toml(self.recipe))
            checkpoint.prune(self._run, self.recipe.checkpoints.keep_every)
        self.world.wait()

    def _state(self) -> checkpoint.State:
        now = self.progress
        network = next(seat for seat in self.seats if seat.player.name == "network")
        return checkpoint.State(
            schema=checkpoint.State.schema_name(),
            method=self.recipe.method,
            step=now.step,
            images_seen=now.step * self.share.batch,
            skipped=now.skipped,
            skipped_in_a_row=now.skipped_in_a_row,
            parameters=sum(p.numel() for p in network.player.module.parameters()),
            configuration=self._configuration,
            resumptions=now.resumptions,
            unreadable=tuple(sorted(now.unreadable)),
            environment=self._environment,
            files={},
        )

    # --- steps --------------------------------------------------------------------------------

    def train(self, steps: int, workers: int, log: RunLog | None, check: Callable[[], None]) -> None:
        """Take steps until `steps` are done, saving on the way and at the end.

        Args:
            steps: of the whole run.
            workers: processes that prepare samples; 0 takes a thread.
            log: of rank 0; None elsewhere.
            check: raises `Interrupted` once a stop signal has come.

        Raises:
            Interrupted: after the step, saved.
            InputError: PB309, too many unreadable pictures; PB610, three steps in a row not finite.
        """
        first = self.progress.step
        with micro_batches(self._pairs, self.share, first, steps, workers) as feed:
            self._clock.skip()
            for step in range(first, steps):
                prepared = self._wait_for(feed)
                self._count_unreadable(prepared)
                self._step(step, prepared)
                self._clock.tick()
                signal = self._stop_signal(check)
                self._record(log, steps, last=bool(signal))
                if signal or self._is_due(self.recipe.checkpoints.save_every) or step + 1 == steps:
                    self.save()
                    self._clock.skip()
                if signal:
                    raise Interrupted(signal)

    def _wait_for(self, feed: Iterator[Prepared]) -> list[Prepared]:
        began = time.monotonic()
        prepared = [next(feed) for _ in range(self.share.accumulation)]
        self._clock.waited(time.monotonic() - began)
        return prepared

    def _count_unreadable(self, prepared: list[Prepared]) -> None:
        """Remember pictures that were passed over.

        Raises:
            InputError: PB309, they are more than 0.1 % of all.
        """
        found = {index for part in prepared for index in part.passed} - self.progress.unreadable
        if not found:
            return
        self.progress.unreadable |= found
        for index in sorted(found):
            logger.warning("unreadable, the next one is taken: %s", self._pairs.pictures.name(index))
        if len(self.progress.unreadable) > UNREADABLE_SHARE * len(self._pairs.pictures):
            raise InputError(unreadable(self._pairs.pictures, self.progress.unreadable))

    def _examples(self, prepared: list[Prepared]) -> Iterator[Examples]:
        for part in prepared:
            yield to_examples(part, self._draws, self.world.device, self._memory_format)

    def _step(self, step: int, prepared: list[Prepared]) -> None:
        """Let every player take its step.

        Raises:
            InputError: PB610.
        """
        finite = True
        for seat in self.seats:
            examples = self._examples(prepared)
            tally, norm = seat.step(step, examples, self.share.accumulation, self._draws)
            finite = finite and math.isfinite(norm) and math.isfinite(float(tally.loss))
            if seat.player.name == "network":
                self._last = tally, norm
                self._tally.loss += tally.loss
                self._tally.weight += tally.weight
                self._tally.binned += tally.binned
        now = self.progress
        now.step = step + 1
        now.skipped += not finite
        now.skipped_in_a_row = 0 if finite else now.skipped_in_a_row + 1
        if now.skipped_in_a_row >= _MOST_SKIPPED:
            raise InputError(
                problem(
                    "PB610",
                    f"steps {step - _MOST_SKIPPED + 2:,} to {step + 1:,}",
                    expected="a finite loss and gradient",
                    found="infinity or not a number",
                    fix="lower learning_rate or switch autocast off; the last checkpoint is kept",
                )
            )

    def _is_due(self, every: int) -> bool:
        return bool(every) and self.progress.step % every == 0

    def _stop_signal(self, check: Callable[[], None]) -> int:
        """Return the signal that asked any rank to stop, or 0; all ranks return alike."""
        signal = 0
        try:
            check()
        except Interrupted as stop:
            signal = stop.exit_code - 128
        if self.world.size == 1:
            return signal
        signals = torch.zeros(self.world.size, dtype=torch.int64, device=self.world.device)
        signals[self.world.rank] = signal
        return int(self.world.sum(signals).max())

    # --- records ------------------------------------------------------------------------------

    def _record(self, log: RunLog | None, steps: int, last: bool) -> None:
        now = self.progress.step
        if last or now == steps or self._is_due(self.recipe.log.every):
            binned = self.world.sum(self._tally.binned)
            if log:
                line = self._line(binned)
                log.write(line)
                log.say(line, steps, self._clock.seconds)
            self._tally = Tally.empty(self.world.device)
        if log and self._is_due(self.recipe.log.strip_every):
            log.strip(now, self.preview())
            self._clock.skip()

    def _line(self, binned: torch.Tensor) -> dict[str, Any]:
        """Return one line of log.jsonl: means over the steps since the last one."""
        sums, counts = binned.tolist()
        loss = float(self._tally.loss / self._tally.weight)
        _, norm = self._last
        seconds = self._clock.seconds
        return {
            "step": self.progress.step,
            "images_seen": self.progress.step * self.share.batch,
            "loss": loss if math.isfinite(loss) else None,
            "loss_by_lambda": [
                sums[i] / counts[i] if counts[i] and math.isfinite(sums[i]) else None for i in range(BINS)
            ],
            "gradient_norm": norm if math.isfinite(norm) else None,
            "learning_rate": self.seats[0].optimizer.param_groups[0]["lr"],
            "images_per_second": self.share.batch / seconds if seconds else 0.0,
            "data_wait": self._clock.wait_share,
            "memory_bytes": memory_bytes(self.world.device),
            "skipped": self.progress.skipped,
        }

    def preview(self) -> list[torch.Tensor]:
        """Return sources, restored pictures and references of eight fixed samples, noise fixed too."""
        first = _PREVIEW_STEP * self.share.batch
        samples = list(range(first, first + min(_STRIP, self.share.batch)))
        examples = next(self._examples([MicroBatches(self._pairs)[samples]]))
        seat = next(seat for seat in self.seats if seat.player.name == "network")
        with torch.no_grad():
            if seat.average:
                with seat.average.applied() as network:
                    restored = self.objective.preview(network, examples, self._draws)
            else:
                restored = self.objective.preview(seat.player.module, examples, self._draws)
        return [examples.source, restored, examples.reference]

    def self_check(self) -> None:
        """Prove an untrained network: as many parameters as published, and the loss it must start from.

        Raises:
            InputError: PB611.
        """
        samples = next(self.share.samples(0, 1))
        examples = next(self._examples([MicroBatches(self._pairs)[samples]]))
        problems = []
        for seat in self.seats:
            count = sum(p.numel() for p in seat.player.module.parameters())
            if seat.player.parameters not in (None, count):
                expected, found = f"{seat.player.parameters:,} parameters", f"{count:,}"
                problems.append(problem("PB611", seat.player.name, expected=expected, found=found))
            if seat.player.first_loss is not None:
                met, loss = seat.expected_first_loss_met(examples, self._draws)
                if not met:
                    expected = f"a first loss of {seat.player.first_loss:.2f} +- 0.02"
                    problems.append(
                        problem("PB611", seat.player.name, expected=expected, found=f"{loss:.4f}")
                    )
        if problems:
            raise InputError(*problems)
