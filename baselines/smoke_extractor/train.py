"""Training the smoke weights: keyed steps, a checkpoint after every epoch, and at the end file and card."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from palette_bench.core.errors import InputError, UsageError, problem
from palette_bench.core.interrupt import Interrupted
from palette_bench.scoring.features.smoke import SmokeNetwork
from palette_bench.tasks import canary

from ..training import checkpoint
from ..training.ema import Average
from ..training.log import Clock, RunLog, memory_bytes
from .pictures import Labelled, order, varied
from .recipe import SmokeRecipe

logger = logging.getLogger(__name__)

CPU = torch.device("cpu")
_LOG_EVERY = 20  # steps


class Trainer:
    """A run under way.

    Attributes:
        network: with the weights of the last step.
        average: of its weights.
        step: steps done.
        steps: of the whole run.
    """

    def __init__(self, run: Path, recipe: SmokeRecipe, pictures: Labelled) -> None:
        """Begin at step 0, or where the last sound checkpoint of `run` stands.

        Raises:
            UsageError: fewer pictures than a batch holds.
            InputError: PB605, the checkpoint is another recipe's or other pictures'.
            StorageError: PB801, checkpoints exist and none is sound.
        """
        if len(pictures) < recipe.training.batch:
            raise UsageError(f"{len(pictures):,} pictures do not fill a batch of {recipe.training.batch:,}")
        self._run, self._recipe, self._pictures = run, recipe, pictures
        self._per_epoch = len(pictures) // recipe.training.batch  # the rest of an epoch's order is left out
        self.step, self.steps = 0, recipe.training.epochs * self._per_epoch
        torch.manual_seed(recipe.seed)
        self.network = SmokeNetwork(len(pictures.classes)).to(memory_format=torch.channels_last)
        self.average = Average(self.network, recipe.training.ema_decay)
        self._optimiser = _optimiser(self.network, recipe)
        last = checkpoint.newest(run)
        if last:
            self._resume(last)

    # --- checkpoints --------------------------------------------------------------------------

    def _configuration(self) -> dict[str, Any]:
        recipe = self._recipe.model_dump(mode="json", by_alias=True, exclude={"data"})
        return {"recipe": recipe, "data": self._pictures.digest, "pictures": len(self._pictures)}

    def _resume(self, folder: Path) -> None:
        found = checkpoint.read_checkpoint(folder)
        checkpoint.accept_configuration(found.state, self._configuration(), override=False)
        self.network.load_state_dict(dict(found.tensors["weights"]))
        self.average.load(found.tensors["ema"])
        for name, parameter in self.network.named_parameters():
            self._optimiser.state[parameter] = {"momentum_buffer": found.tensors["optimizer"][name].clone()}
        self.step = found.state.step
        logger.info("going on after step %s", f"{self.step:,}")

    def _save(self) -> None:
        momenta = {
            name: self._optimiser.state[parameter]["momentum_buffer"]
            for name, parameter in self.network.named_parameters()
        }
        state = checkpoint.State(
            schema=checkpoint.State.schema_name(),
            method="smoke-extractor",
            step=self.step,
            images_seen=self.step * self._recipe.training.batch,
            skipped=0,
            skipped_in_a_row=0,
            parameters=sum(parameter.numel() for parameter in self.network.parameters()),
            configuration=self._configuration(),
            environment=environment(),
            files={},
        )
        tensors = {"weights": self.network.state_dict(), "ema": self.average.state(), "optimizer": momenta}
        checkpoint.save(self._run, state, tensors, self._recipe.to_json())
        checkpoint.prune(self._run, None)

    # --- steps --------------------------------------------------------------------------------

    def train(self, minutes: float, check: Callable[[], None]) -> None:
        """Take steps to the last one, or until the time is over; every epoch and every end is saved.

        Args:
            minutes: of this call.
            check: raises `Interrupted` once a stop signal has come.

        Raises:
            Interrupted: after the step, saved.
            InputError: PB610, the loss is not finite.
        """
        over = time.monotonic() + 60 * minutes
        clock, done = Clock(), []
        with closing(RunLog(self._run, self.step)) as log:
            while self.step < self.steps:
                done.append(self._take_step())
                clock.tick()
                if self.step % _LOG_EVERY == 0 or self.step == self.steps:
                    self._tell(log, clock, done)
                    done = []
                stop, late = _stop_of(check), time.monotonic() >= over
                if stop or late or self.step % self._per_epoch == 0:
                    self._save()
                if stop:
                    raise stop
                if late:
                    return

    def _take_step(self) -> tuple[float, float]:
        """Take one step; return its loss, and the share of its pictures classified right."""
        images, labels = self._batch()
        with torch.autocast("cpu", torch.bfloat16, enabled=self._recipe.autocast == "bf16"):
            logits = self.network(self.network.prepare(images))["logits"].float()
        smoothing = self._recipe.training.label_smoothing
        loss = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        if not math.isfinite(loss.item()):
            fix = "lower the rate or switch autocast off; the last checkpoint is kept"
            raise InputError(problem("PB610", f"step {self.step + 1:,}", found=str(loss.item()), fix=fix))
        for group in self._optimiser.param_groups:
            group["lr"] = self._recipe.rate(self.step, self._per_epoch)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # untyped in older torch
        self._optimiser.step()
        self.average.update(self.step)
        self.step += 1
        return loss.item(), (logits.argmax(dim=1) == labels).float().mean().item()

    def _batch(self) -> tuple[Tensor, Tensor]:
        """Return the next step's pictures, varied, and their labels."""
        epoch, turn = divmod(self.step, self._per_epoch)
        batch = self._recipe.training.batch
        chosen = order(self._recipe.seed, epoch, len(self._pictures))[turn * batch : (turn + 1) * batch]
        indices = torch.from_numpy(chosen)
        how = self._recipe.augmentation
        images = varied(self._pictures.pixels[indices], chosen.tolist(), self._recipe.seed, epoch, how)
        return images.to(memory_format=torch.channels_last), self._pictures.labels[indices]

    def _tell(self, log: RunLog, clock: Clock, done: list[tuple[float, float]]) -> None:
        """Log the means over the steps done since the last line."""
        loss, right = (statistics.fmean(values) for values in zip(*done, strict=True))
        line = {
            "step": self.step,
            "epoch": self.step / self._per_epoch,
            "loss": loss,
            "train_top1": right,
            "learning_rate": self._recipe.rate(self.step - 1, self._per_epoch),
            "images_per_second": self._recipe.training.batch / clock.seconds,
            "data_wait": clock.wait_share,
            "memory_bytes": memory_bytes(CPU),
        }
        log.write(line)
        log.say(line, self.steps, clock.seconds)

    # --- the end ------------------------------------------------------------------------------

    @torch.no_grad()
    def settle(self) -> SmokeNetwork:
        """Return the averaged network, its batch norms those of the training pictures as they are.

        In training the norms saw the weights of the last step, and varied pictures.
        """
        network = SmokeNetwork(len(self._pictures.classes)).to(memory_format=torch.channels_last)
        network.load_state_dict(self.average.state())
        for norm in network.modules():
            if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
                norm.reset_running_stats()
                norm.momentum = None  # a plain mean over batches
        shuffled, batch = order(self._recipe.seed, 0, len(self._pictures)), self._recipe.training.batch
        for first in range(0, len(shuffled) - batch + 1, batch):
            chosen = torch.from_numpy(shuffled[first : first + batch])
            network(network.prepare(self._pictures.pixels[chosen].float()))
        return network.eval()


def _stop_of(check: Callable[[], None]) -> Interrupted | None:
    """Return the stop signal that has come, if one has."""
    try:
        check()
    except Interrupted as stop:
        return stop
    return None


def _optimiser(network: nn.Module, recipe: SmokeRecipe) -> torch.optim.SGD:
    """Return the optimiser; norms and biases do not decay."""
    training = recipe.training
    groups: list[dict[str, Any]] = [
        {"params": [p for p in network.parameters() if p.ndim >= 2], "weight_decay": training.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim < 2]},
    ]
    return torch.optim.SGD(groups, lr=training.rate, momentum=training.momentum, nesterov=True)


def environment() -> dict[str, str]:
    """Return the versions and the device of this run."""
    versions = canary.environment()
    return {
        **{key: versions[key] for key in ("palette_bench", "python", "numpy", "pillow", "os")},
        "torch": torch.__version__,
        "device": f"cpu ({torch.backends.cpu.get_cpu_capability()})",
        "threads": str(torch.get_num_threads()),
    }
