"""Optimisation of one network: average of its weights, sums of its losses, and its optimiser steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import get_ema_multi_avg_fn

from palette_bench.core.errors import Problem, WeightsError, problem
from palette_bench.runtime.distributed import ProcessGroup

from .draws import KeyedDraws
from .objective import BatchLosses, TrainableNetwork, TrainingBatch
from .recipe import Recipe


def decay_at(step: int, decay: float) -> float:
    """Return the average's decay at a step, from 0: min(decay, (1 + step) / (10 + step)), small at first."""
    return min(decay, (1 + step) / (10 + step))


class WeightAverage:
    """Exponential moving average of a module's parameters, float32; buffers are not averaged."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the current weights."""
        self._module, self._decay = module, decay
        self._averages = {name: p.detach().clone() for name, p in module.named_parameters()}

    def update(self, step: int) -> None:
        """Update the averages with the weights after a step, in one launch for all parameters."""
        update = get_ema_multi_avg_fn(decay_at(step, self._decay))  # type: ignore[no-untyped-call]
        weights = dict(self._module.named_parameters())
        update(list(self._averages.values()), [weights[name].detach() for name in self._averages], None)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the module's state dictionary with averages in place of parameters."""
        return {**self._module.state_dict(), **self._averages}

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Copy the averages from a checkpoint."""
        for name, average in self._averages.items():
            average.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """Yield the module with averaged weights; on exit its own weights are restored bit for bit."""
        parameters = dict(self._module.named_parameters())
        own = {name: p.detach().clone() for name, p in parameters.items()}
        try:
            self._put(parameters, self._averages)
            yield self._module
        finally:
            self._put(parameters, own)

    @staticmethod
    @torch.no_grad()
    def _put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
        for name, parameter in parameters.items():
            parameter.copy_(values[name])


BINS = 10
_ONE_RUN = "give the recipe and the checkpoint of one run"
_TOLERANCE = 0.02  # allowed error of the first loss
_FIRST_LAMBDA, _LAST_LAMBDA = -5.0, 7.0  # about the range of the paper's training schedule


@dataclass
class LossSums:
    """Sums of losses over images.

    Attributes:
        loss: sum of values * weights.
        weight: sum of weights.
        binned: (2, BINS) float64 sums of values and counts per bin of the noise level, lambda from -5 to 7.
    """

    loss: torch.Tensor
    weight: torch.Tensor
    binned: torch.Tensor

    @classmethod
    def empty(cls, device: torch.device) -> LossSums:
        """Return sums of 0."""
        zero = torch.zeros((), dtype=torch.float64, device=device)
        return cls(zero, zero.clone(), torch.zeros(2, BINS, dtype=torch.float64, device=device))

    def add(self, other: LossSums) -> None:
        """Add the sums over other images."""
        self.loss += other.loss
        self.weight += other.weight
        self.binned += other.binned

    def count(self, losses: BatchLosses) -> None:
        """Add the losses of a micro-batch."""
        values, weights = losses.values.detach().double(), losses.weights.detach().double()
        self.loss += (values * weights).sum()
        self.weight += weights.sum()
        if losses.log_snr is not None:
            width = (_LAST_LAMBDA - _FIRST_LAMBDA) / BINS
            index = ((losses.log_snr.to(values.device) - _FIRST_LAMBDA) / width).long().clamp(0, BINS - 1)
            self.binned[0].index_add_(0, index, values)
            self.binned[1].index_add_(0, index, torch.ones_like(values))

    @property
    def mean(self) -> float | None:
        """Return the weighted mean loss, or None without images."""
        return float(self.loss / self.weight) if self.weight else None


@dataclass(frozen=True)
class StepResult:
    """Result of one optimiser step.

    Attributes:
        tally: loss sums; `loss` and `weight` of all ranks, `binned` of this rank.
        norm: norm of the gradient.
    """

    tally: LossSums
    norm: float

    @property
    def finite(self) -> bool:
        """Return whether loss and gradient were finite; otherwise the weights were not updated."""
        return math.isfinite(self.norm) and math.isfinite(self.tally.loss)


class NetworkTrainer:
    """Trains one network of an objective: it holds the network, its optimiser and its weight average."""

    def __init__(self, trainable: TrainableNetwork, recipe: Recipe, world: ProcessGroup) -> None:
        """Apply the `[speed]` options to the network, wrap it for the process group, create its optimiser."""
        self.trainable, self._world, self._recipe = trainable, world, recipe
        if recipe.speed.channels_last:
            trainable.module.to(memory_format=torch.channels_last)
        if recipe.speed.compile:
            trainable.module.compile()
        self.network = world.wrap(trainable.module)
        self.names = [name for name, p in trainable.module.named_parameters() if p.requires_grad]
        self.parameters = [p for p in trainable.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(
            self.parameters,
            lr=trainable.learning_rate,
            betas=trainable.betas,
            eps=recipe.training.epsilon,
            fused=recipe.speed.fused_adam,
        )
        decay = recipe.training.ema_decay
        self.average = WeightAverage(trainable.module, decay) if trainable.averaged else None

    @property
    def count(self) -> int:
        """Return the number of parameters."""
        return sum(p.numel() for p in self.trainable.module.parameters())

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, from 0: linear warm-up, then constant (Palette, Appendix B).

        Over the recipe's last `cooldown_steps` the rate falls linearly to 0; the paper has no cooldown.
        """
        training = self._recipe.training
        warming = (step + 1) / max(1, training.warmup_steps)
        cooling = (training.steps - step) / max(1, training.cooldown_steps)
        return self.trainable.learning_rate * max(0.0, min(1.0, warming, cooling))

    def step(
        self, step: int, parts: Iterable[TrainingBatch], accumulation: int, draws: KeyedDraws
    ) -> StepResult:
        """Take one optimiser step, without an update if the loss or gradient is not finite."""
        self.optimizer.zero_grad()
        tally = LossSums.empty(self._world.device)
        shared = self.network if isinstance(self.network, DistributedDataParallel) else None
        for turn, batch in enumerate(parts, start=1):
            # ranks exchange gradients in the last micro-batch
            with shared.no_sync() if shared and turn < accumulation else nullcontext():
                losses = self._losses(self.network, batch, draws)
                (losses.values * losses.weights).sum().backward()  # type: ignore[no-untyped-call]
            tally.count(losses)
        self._world.sum(tally.loss)
        self._world.sum(tally.weight)
        # The global weight is known only now. Distributed training averages gradients over ranks; multiplying
        # by the number of ranks turns the mean into a sum.
        scale = (self._world.size / tally.weight).float()
        for parameter in self.parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(scale)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, math.inf))  # only computes the norm
        result = StepResult(tally, norm)
        if result.finite:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate(step)
            self.optimizer.step()
            if self.average:
                self.average.update(step)
        return result

    def _losses(self, network: nn.Module, batch: TrainingBatch, draws: KeyedDraws) -> BatchLosses:
        bf16 = self._recipe.speed.autocast == "bf16"
        with torch.autocast(self._world.device.type, torch.bfloat16, enabled=bf16):
            return self.trainable.loss(network, batch, draws)

    def faults(self, parts: Iterable[TrainingBatch], draws: KeyedDraws) -> Iterator[Problem]:
        """Yield PB611 if the untrained network has a wrong number of parameters or a wrong first loss.

        The loss may be off by 0.02. Where few pixels to produce make it uncertain, up to 64 images are
        evaluated and five standard errors are allowed.
        """
        if self.trainable.parameters not in (None, self.count):
            expected, found = f"{self.trainable.parameters:,} parameters", f"{self.count:,}"
            yield problem("PB611", self.trainable.name, expected=expected, found=found)
        if self.trainable.first_loss is None:
            return
        tally, values, error = LossSums.empty(self._world.device), torch.zeros(0), math.inf
        for batch in parts:
            with torch.no_grad():
                losses = self._losses(self.trainable.module, batch, draws)
            tally.count(losses)
            values = torch.cat([values, losses.values.float().cpu()])
            if len(values) >= 4:
                error = float(values.std()) / len(values) ** 0.5
            if len(values) >= 64 or 5 * error <= _TOLERANCE:
                break
        mean = math.nan if tally.mean is None else tally.mean
        granted = max(_TOLERANCE, 5 * error)
        if not abs(mean - self.trainable.first_loss) <= granted:
            expected = f"a first loss of {self.trainable.first_loss:.2f} +- {granted:.2f}"
            fix = "the output layer must start at zero and the noise have variance 1"
            yield problem("PB611", self.trainable.name, expected=expected, found=f"{mean:.4f}", fix=fix)

    def averaged(self) -> AbstractContextManager[nn.Module]:
        """Return a context with averaged weights in the module, or its own if no average is kept."""
        return self.average.applied() if self.average else nullcontext(self.trainable.module)

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the tensors of a checkpoint by file stem.

        Stems of networks other than "network" begin with the network's name.
        """
        prefix = "" if self.trainable.name == "network" else f"{self.trainable.name}-"
        tensors = {f"{prefix}weights": dict(self.trainable.module.state_dict())}
        if self.average:
            tensors[f"{prefix}ema"] = self.average.state()
        tensors[f"{prefix}optimizer"] = {
            f"{name}/{key}": value
            for name, p in zip(self.names, self.parameters, strict=True)
            for key, value in self.optimizer.state.get(p, {}).items()
        }
        return tensors

    def load(self, tensors: Mapping[str, Mapping[str, torch.Tensor]], moved: bool) -> None:
        """Load weights, average and optimiser state from a checkpoint.

        Args:
            tensors: tensors by file stem.
            moved: whether the optimiser had taken a step before the checkpoint.

        Raises:
            WeightsError: PB712, names or shapes do not match this network; nothing has changed then.
        """
        prefix = "" if self.trainable.name == "network" else f"{self.trainable.name}-"
        for stem in [f"{prefix}weights", *([f"{prefix}ema"] if self.average else [])]:
            require_matching_tensors(self.trainable.module, tensors.get(stem, {}), f"{stem}.safetensors")
        stem, state = f"{prefix}optimizer", dict[int, dict[str, Any]]()
        for key, value in tensors.get(stem, {}).items():
            name, _, part = key.rpartition("/")
            if name in self.names:
                state.setdefault(self.names.index(name), {})[part] = value
        if len(state) != (len(self.names) if moved else 0):
            where, found = f"{stem}.safetensors", f"{len(state):,}"
            expected = f"moments of {len(self.names):,} parameters"
            raise WeightsError.of("PB712", where, expected=expected, found=found, fix=_ONE_RUN)
        self.trainable.module.load_state_dict(dict(tensors[f"{prefix}weights"]))
        if self.average:
            self.average.load(tensors[f"{prefix}ema"])
        # learning rate and betas come from the recipe, not from the checkpoint
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def require_matching_tensors(module: nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Raise unless the tensors have this module's names and shapes.

    Raises:
        WeightsError: PB712, with the number of differences and the first three.
    """
    wanted = module.state_dict()
    faults = [f"missing {name}" for name in wanted if name not in tensors]
    faults += [f"unknown {name}" for name in tensors if name not in wanted]
    faults += [
        f"{name} is {tuple(tensors[name].shape)}, not {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in tensors and tensors[name].shape != value.shape
    ]
    if faults:
        found = f"{len(faults):,} differences, first: {'; '.join(faults[:3])}"
        expected = f"the {len(wanted):,} tensors of the recipe's network"
        raise WeightsError.of("PB712", where, expected=expected, found=found, fix=_ONE_RUN)
