"""What a run will take - memory, space, time - told before its first step."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from palette_bench.core.atomic import in_bytes, require_space
from palette_bench.core.errors import DeviceError, problem

from . import checkpoint
from .log import duration
from .machine import memory_available
from .objective import TrainedMethod
from .recipe import Recipe
from .unet import UNet, flop

logger = logging.getLogger(__name__)

_FLOP_PER_THREAD = 5e10  # a second, of one thread of a CPU of our days: a guess, the log tells the truth
_LONG = 7 * 86400  # seconds; beyond, a recipe for CPUs is named
_CLEARLY = 1.2  # times what there is: the estimate is good to a tenth or so
_FOR_CPU = "mini-cpu"


@dataclass(frozen=True)
class ResourceForecast:
    """What is known of a run from its networks alone.

    Attributes:
        parameters: of all networks.
        state: bytes of weights, gradients, Adam's moments and averages.
        activations: bytes the gradient of one image needs; 0 where the network is not the U-Net.
        checkpoint: bytes of a checkpoint.
        flop: operations of one image's step; 0 likewise.
    """

    parameters: int
    state: int
    activations: int
    checkpoint: int
    flop: int

    def memory(self, images: int) -> int:
        """Return the bytes of a step on so many images at a time.

        Writing a checkpoint takes its file twice, when no activations are held.
        """
        return self.state + max(images * self.activations, self.checkpoint)


def forecast(method: TrainedMethod, recipe: Recipe) -> ResourceForecast:
    """Build the networks without memory and count: float32, 4 bytes a number.

    Bfloat16 halves most activations; a discriminator's are not counted.
    """
    meta = torch.device("meta")
    with meta:
        players = method.objective(recipe, meta).players
    counts = [sum(p.numel() for p in player.module.parameters()) for player in players]
    averaged = sum(count for count, player in zip(counts, players, strict=True) if player.averaged)
    held = [activation_bytes(p.module) for p in players if isinstance(p.module, UNet)]
    per_number = 0.5 if recipe.speed.autocast == "bf16" else 1.0
    return ResourceForecast(
        parameters=sum(counts),
        state=16 * sum(counts) + 4 * averaged,
        activations=int(per_number * sum(held)),
        checkpoint=12 * sum(counts) + 4 * averaged,
        flop=3 * flop(recipe.network.spec) if held else 0,  # backward: twice forward
    )


def activation_bytes(network: UNet) -> int:
    """Return what the backward pass of one image keeps, by asking autograd on a device without memory."""
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor  # one storage saved twice counts once
        return tensor

    side, meta = network.spec.side, torch.device("meta")
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(
            torch.empty(1, 6, side, side, device=meta), torch.empty(1, network.spec.width, device=meta)
        )
    del loss
    return sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)


def tell_and_prove(
    found: ResourceForecast,
    recipe: Recipe,
    micro: int,
    device: torch.device,
    recipes: Mapping[str, str],
    force: bool,
) -> None:
    """Tell what the run takes.

    Args:
        found: of its networks.
        recipe: resolved.
        micro: images at a time.
        device: that will train.
        recipes: of the method, name -> TOML text.
        force: go on though memory is short.

    Raises:
        DeviceError: PB707, it clearly takes more memory than there is.
    """
    training = recipe.training
    logger.info(
        "training %s: %s parameters, %s steps of %s images at %d px on %s",
        recipe.method,
        f"{found.parameters:,}",
        f"{training.steps:,}",
        f"{training.batch:,}",
        recipe.side,
        f"{device} (threads: {torch.get_num_threads()})" if device.type == "cpu" else device,
    )
    logger.info(
        "learning rate: %.1e, after a warm-up of %s steps%s",
        training.learning_rate,
        f"{training.warmup_steps:,}",
        f", falling to 0 over the last {training.cooldown_steps:,}" if training.cooldown_steps else "",
    )
    needed, available = found.memory(micro), memory_available(device)
    parts = f"weights, gradients, Adam, average {in_bytes(found.state)}; " + (
        f"activations of {micro:,} images {in_bytes(micro * found.activations)}; "
        f"writing a checkpoint {in_bytes(found.checkpoint)}"
    )
    there = "unknown" if available is None else in_bytes(available)
    logger.info("memory: about %s (%s), available %s", in_bytes(needed), parts, there)
    mini = _for_cpu(recipe, recipes) if device.type == "cpu" else ""
    seconds = found.flop * training.batch * training.steps / (_FLOP_PER_THREAD * torch.get_num_threads())
    if device.type == "cpu" and seconds > _LONG:
        logger.warning(
            "on this CPU the run takes about %s, at %.0f GFLOP/s a thread%s",
            duration(seconds),
            _FLOP_PER_THREAD / 1e9,
            f"; {mini} is made for a CPU" if mini else "",
        )
    if available is not None and needed > _CLEARLY * available and not force:
        less = "a smaller [training] micro_batch or [network] preset, checkpointing, or another --device"
        raise DeviceError(
            problem(
                "PB707",
                f"memory of --device {device}",
                expected=f"about {in_bytes(needed)}: {parts}",
                found=f"{there} available",
                fix=f"take {mini}{', ' if mini else ''}{less}; --force goes on all the same",
            )
        )


def _for_cpu(recipe: Recipe, recipes: Mapping[str, str]) -> str:
    """Return the options that train the method on a CPU; nothing if this is such a run, or there is none."""
    text = recipes.get(_FOR_CPU, "")
    task = tomllib.loads(text).get("task", recipe.task)
    return f"--recipe {_FOR_CPU}" + (f" --task {task}" if task != recipe.task else "") if text else ""


def prove_space(run: Path, found: ResourceForecast, recipe: Recipe, done: int) -> None:
    """Prove that the checkpoints still to come have space: the newest, one in the making, and those kept.

    Raises:
        StorageError: PB804.
    """
    steps, every, keep = recipe.training.steps, recipe.checkpoints.save_every, recipe.checkpoints.keep_every
    to_come = -(-(steps - done) // every)
    kept = steps // keep - done // keep if keep else 0
    count = min(to_come, kept + checkpoint.KEPT + 1)
    fix = "free space, give another folder with -o, or a larger [checkpoints] keep_every; --force goes on"
    needed = count * found.checkpoint
    free = require_space(run, needed, fix)
    if count:
        logger.info(
            "space: %d x %s of checkpoints, %s free", count, in_bytes(found.checkpoint), in_bytes(free)
        )
