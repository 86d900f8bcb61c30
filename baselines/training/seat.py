"""A player in training: its network, optimiser and average, and one step of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from palette_bench.core.errors import WeightsError, problem

from .ema import Average
from .examples import Draws, Examples
from .objective import Player
from .recipe import Recipe
from .world import World

BINS = 10
_FIRST_LAMBDA, _LAST_LAMBDA = -5.0, 7.0  # about the range of the paper's training schedule


@dataclass
class Tally:
    """Sums over the micro-batches of a step.

    Attributes:
        loss: sum of values * weights.
        weight: sum of weights.
        binned: (2, BINS) float64 sums of values and counts by noise level, lambda from -5 to 7.
    """

    loss: torch.Tensor
    weight: torch.Tensor
    binned: torch.Tensor

    @classmethod
    def empty(cls, device: torch.device) -> Tally:
        """Return a tally of nothing."""
        zero = torch.zeros((), dtype=torch.float64, device=device)
        return cls(zero, zero.clone(), torch.zeros(2, BINS, dtype=torch.float64, device=device))


class Seat:
    """One player of an objective during training."""

    def __init__(self, player: Player, recipe: Recipe, world: World) -> None:
        """Prepare the network for the switches of `[speed]`, wrap it for the world, build its optimiser."""
        self.player = player
        self._world = world
        self._recipe = recipe
        self._autocast = recipe.speed.autocast == "bf16"
        if recipe.speed.channels_last:
            player.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # no stub
        if recipe.speed.compile:
            player.module.compile()
        self.network = world.wrap(player.module)
        self.names = [name for name, p in player.module.named_parameters() if p.requires_grad]
        self.parameters = [p for p in player.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(
            self.parameters,
            lr=player.learning_rate,
            betas=player.betas,
            eps=recipe.training.epsilon,
            fused=recipe.speed.fused_adam,
        )
        self.average = Average(player.module, recipe.training.ema_decay) if player.averaged else None

    def step(
        self, step: int, parts: Iterable[Examples], accumulation: int, draws: Draws
    ) -> tuple[Tally, float]:
        """Take one optimiser step, unless something is not finite.

        Returns:
            The sums over all ranks, and the norm of the gradient; not finite if the step was skipped.
        """
        self.optimizer.zero_grad()
        tally = Tally.empty(self._world.device)
        for turn, examples in enumerate(parts, start=1):
            self._accumulate(examples, draws, tally, last=turn == accumulation)
        self._world.sum(tally.loss)
        self._world.sum(tally.weight)
        norm = self._normalise(tally.weight)
        if torch.isfinite(torch.stack([tally.loss, norm])).all():
            self._move(step)
        return tally, float(norm)

    def _accumulate(self, examples: Examples, draws: Draws, tally: Tally, last: bool) -> None:
        """Add the gradient of sum(values * weights); ranks exchange it in the last micro-batch."""
        wrapped = self.network if isinstance(self.network, DistributedDataParallel) else None
        with wrapped.no_sync() if wrapped and not last else nullcontext():
            with torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._autocast):
                losses = self.player.loss(self.network, examples, draws)
            total = (losses.values * losses.weights).sum()
            total.backward()  # type: ignore[no-untyped-call]
        tally.loss += total.detach()
        tally.weight += losses.weights.detach().sum()
        if losses.log_snr is not None:
            _bin(tally.binned, losses.values.detach(), losses.log_snr)

    def _normalise(self, weight: torch.Tensor) -> torch.Tensor:
        """Divide gradients by the global weight, now that it is known; return their norm.

        Distributed training has averaged over ranks, which the number of ranks undoes.
        """
        scale = (self._world.size / weight).float()
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        for gradient in gradients:
            gradient.mul_(scale)
        return torch.nn.utils.get_total_norm(gradients).double()

    def _move(self, step: int) -> None:
        warmup = self._recipe.training.warmup_steps
        rate = self.player.learning_rate * min(1.0, (step + 1) / max(1, warmup))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        if self.average:
            self.average.update(step)

    def expected_first_loss_met(self, examples: Examples, draws: Draws) -> tuple[bool, float]:
        """Return whether the untrained network's loss is the expected one, and the loss.

        Within 0.02, or five standard errors where few pixels make it uncertain.
        """
        with torch.no_grad(), torch.autocast(self._world.device.type, torch.bfloat16, enabled=self._autocast):
            losses = self.player.loss(self.player.module, examples, draws)
        values, weights = losses.values.double(), losses.weights.double()
        mean = (values * weights).sum() / weights.sum()
        error = values.std() / len(values) ** 0.5 if len(values) > 1 else values.new_tensor(1.0)
        gap = abs(float(mean) - cast(float, self.player.first_loss))
        return gap <= max(0.02, 5 * float(error)), float(mean)

    def state(self) -> dict[str, dict[str, torch.Tensor]]:
        """Return the tensors of a checkpoint by file stem; the optimiser's are named apart by player."""
        prefix = "" if self.player.name == "network" else f"{self.player.name}-"
        tensors = {f"{prefix}weights": dict(self.player.module.state_dict())}
        if self.average:
            tensors[f"{prefix}ema"] = self.average.state()
        tensors[f"{prefix}optimizer"] = {
            f"{name}/{key}": value
            for name, p in zip(self.names, self.parameters, strict=True)
            for key, value in self.optimizer.state.get(p, {}).items()
        }
        return tensors

    def load(self, tensors: Mapping[str, Mapping[str, torch.Tensor]], moved: bool) -> None:
        """Go on from a checkpoint's tensors; `moved`: the optimiser has taken a step before.

        Raises:
            WeightsError: PB712, names or shapes are not this network's; nothing has changed then.
        """
        prefix = "" if self.player.name == "network" else f"{self.player.name}-"
        expected = [f"{prefix}weights", *([f"{prefix}ema"] if self.average else [])]
        for stem in expected:
            prove(self.player.module, tensors.get(stem, {}), f"{stem}.safetensors")
        self.player.module.load_state_dict(dict(tensors[f"{prefix}weights"]))
        if self.average:
            self.average.load(tensors[f"{prefix}ema"])
        self._load_optimizer(tensors.get(f"{prefix}optimizer", {}), f"{prefix}optimizer.safetensors", moved)

    def _load_optimizer(self, tensors: Mapping[str, torch.Tensor], where: str, moved: bool) -> None:
        state: dict[int, dict[str, Any]] = {}
        for key, value in tensors.items():
            name, _, part = key.rpartition("/")
            if name in self.names:
                state.setdefault(self.names.index(name), {})[part] = value
        if len(state) != (len(self.names) if moved else 0):
            raise _contradiction(where, f"moments of {len(self.names):,} parameters", f"{len(state):,}")
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def prove(module: nn.Module, tensors: Mapping[str, torch.Tensor], where: str) -> None:
    """Accept tensors that have this module's names and shapes.

    Raises:
        WeightsError: PB712, all differences counted, the first three named.
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
        raise _contradiction(where, f"the {len(wanted):,} tensors of the recipe's network", found)


def _contradiction(where: str, expected: str, found: str) -> WeightsError:
    fix = "give the recipe and the checkpoint of one run"
    return WeightsError(problem("PB712", where, expected=expected, found=found, fix=fix))


def _bin(binned: torch.Tensor, values: torch.Tensor, log_snr: torch.Tensor) -> None:
    """Add losses and counts to the bins of their noise level."""
    width = (_LAST_LAMBDA - _FIRST_LAMBDA) / BINS
    index = ((log_snr.to(values.device) - _FIRST_LAMBDA) / width).long().clamp(0, BINS - 1)
    binned[0].index_add_(0, index, values.double())
    binned[1].index_add_(0, index, torch.ones_like(values, dtype=torch.float64))
