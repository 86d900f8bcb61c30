"""Resources: what the machine grants this process, and what a run needs, before its first step."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from palette_bench.core.atomic import in_bytes, require_space
from palette_bench.core.errors import DeviceError, StackError
from palette_bench.core.text import duration

from . import checkpoint
from .objective import TrainedMethod
from .recipe import Recipe
from .unet import UNet, flop

logger = logging.getLogger(__name__)

# --- the machine: memory, processors, threads, a compiler ---

_CGROUP = Path("/sys/fs/cgroup")  # a container sees its own limits here


def memory_available(device: torch.device, cgroup: Path = _CGROUP) -> int | None:
    """Return the bytes still available on a device; None if they are unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type not in ("cpu", "mps"):
        return None
    lines = _text(Path("/proc/meminfo")).splitlines()
    known = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    if not known:
        with contextlib.suppress(ValueError, OSError):  # macOS: only the total is known
            known.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    # what is left of a container's memory limit; inactive file cache is reclaimable and counts
    limit, used = _text(cgroup / "memory.max").strip(), _text(cgroup / "memory.current").strip()
    if limit.isdecimal() and used.isdecimal():
        stat = dict(line.split() for line in _text(cgroup / "memory.stat").splitlines())
        known.append(int(limit) - int(used) + int(stat.get("inactive_file", 0)))
    return min(known, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def processors(cgroup: Path = _CGROUP) -> int:
    """Return how many processors this process may use: its affinity, limited by a container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota, _, period = _text(cgroup / "cpu.max").strip().partition(" ")
    granted = round(int(quota) / int(period)) if quota.isdecimal() and period.isdecimal() else count
    return max(1, min(count, granted))


@contextlib.contextmanager
def threads(wanted: int | None, fixed: bool = False) -> Iterator[int]:
    """Set torch's number of threads and yield it; restore the previous number on exit.

    By default torch's number is limited to the processors that are granted and idle: a thread that waits for
    a processor makes all others wait at the end of every operation. Beside one busy process, two threads on
    two cores took up to three times as long as one.

    Args:
        wanted: number of threads; None chooses.
        fixed: whether the choice must not depend on the load of the machine.
    """
    before, free = torch.get_num_threads(), processors()
    if not fixed and "OMP_NUM_THREADS" not in os.environ:
        with contextlib.suppress(OSError):  # no load average: all count as idle
            free = min(free, max(1, (os.cpu_count() or 1) - round(os.getloadavg()[0])))
    torch.set_num_threads(wanted or min(before, free))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def require_compiler(device: torch.device) -> None:
    """Raise unless torch can compile: it calls a compiler of the system.

    Raises:
        StackError: PB711, there is no compiler.
    """
    known = ("CXX", ("g++", "clang++", "c++")) if device.type == "cpu" else ("CC", ("gcc", "clang", "cc"))
    names = (os.environ.get(known[0], ""), *known[1])
    if not any(shutil.which(name) for name in names if name):
        fix = "install a compiler, or set compile = false: only the speed differs"
        expected = f"one of {', '.join(known[1])}"
        raise StackError.of("PB711", "[speed] compile = true", expected=expected, found="none", fix=fix)


# --- forecast of a run ---

_FLOP_PER_THREAD = 5e10  # per second and CPU thread: a guess; the log has the actual speed
_LONG = 7 * 86400  # seconds; for longer runs a recipe for CPUs is named
_CLEARLY = 1.2  # times the available memory: the estimate is good to about a tenth
_FOR_CPU = "mini-cpu"


@dataclass(frozen=True)
class ResourceForecast:
    """Resources of a run, known from its networks alone.

    Attributes:
        parameters: parameters of all networks.
        state: bytes of weights, gradients, Adam's moments and averages.
        activations: bytes that the gradient of one image needs, in U-Nets; 0 without a U-Net.
        checkpoint: bytes of a checkpoint.
        flop: operations per image and step; 0 without a U-Net.
    """

    parameters: int
    state: int
    activations: int
    checkpoint: int
    flop: int

    def memory(self, images: int) -> int:
        """Return the bytes of a step on `images` images at a time.

        Writing a checkpoint holds a file twice, at a time when no activations are held.
        """
        return self.state + max(images * self.activations, self.checkpoint)


def forecast(method: TrainedMethod, recipe: Recipe) -> ResourceForecast:
    """Return the resources of a run, from networks built on the meta device: float32, 4 bytes a number.

    Bfloat16 is taken to halve the activations. A discriminator's activations are not counted.
    """
    meta = torch.device("meta")
    with meta:
        trainables = method.build(recipe, meta).trainables
    counts = [sum(p.numel() for p in trainable.module.parameters()) for trainable in trainables]
    averaged = sum(count for count, trainable in zip(counts, trainables, strict=True) if trainable.averaged)
    held = [activation_bytes(p.module) for p in trainables if isinstance(p.module, UNet)]
    per_number = 0.5 if recipe.speed.autocast == "bf16" else 1.0
    return ResourceForecast(
        parameters=sum(counts),
        state=16 * sum(counts) + 4 * averaged,
        activations=int(per_number * sum(held)),
        checkpoint=12 * sum(counts) + 4 * averaged,
        flop=3 * flop(recipe.network.spec) if held else 0,  # backward: twice forward
    )


def activation_bytes(network: UNet) -> int:
    """Return the bytes that autograd keeps for the backward pass of one image, found on the meta device."""
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor  # one storage saved twice counts once
        return tensor

    side, meta = network.spec.side, torch.device("meta")
    own = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        code = torch.empty(1, network.spec.width, device=meta)
        loss = network(torch.empty(1, 6, side, side, device=meta), code)
    del loss
    return sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)


def report_and_check(
    found: ResourceForecast,
    recipe: Recipe,
    micro: int,
    device: torch.device,
    recipes: Mapping[str, str],
    force: bool,
) -> None:
    """Log what the run needs, and raise if memory is clearly too small.

    Args:
        found: forecast of the run.
        recipe: resolved recipe.
        micro: images per forward pass.
        device: device that will train.
        recipes: recipes of the method, name -> TOML text.
        force: whether to continue though memory is too small.

    Raises:
        DeviceError: PB707, the run clearly needs more memory than is available.
    """
    training = recipe.training
    counts = (f"{n:,}" for n in (found.parameters, training.steps, training.batch))
    where = f"{device} (threads: {torch.get_num_threads()})" if device.type == "cpu" else device
    text = "training %s: %s parameters, %s steps of %s images at %d px on %s"
    logger.info(text, recipe.method, *counts, recipe.side, where)
    cooldown = f", falling to 0 over the last {training.cooldown_steps:,}" if training.cooldown_steps else ""
    text = "learning rate: %.1e, after a warm-up of %s steps%s"
    logger.info(text, training.learning_rate, f"{training.warmup_steps:,}", cooldown)
    needed, available = found.memory(micro), memory_available(device)
    parts = f"weights, gradients, Adam, average {in_bytes(found.state)}; " + (
        f"activations of {micro:,} images {in_bytes(micro * found.activations)}; "
        f"writing a checkpoint {in_bytes(found.checkpoint)}"
    )
    free = "unknown" if available is None else in_bytes(available)
    logger.info("memory: about %s (%s), available %s", in_bytes(needed), parts, free)
    mini, text = "", recipes.get(_FOR_CPU, "")
    if device.type == "cpu" and text:
        task = tomllib.loads(text).get("task", recipe.task)
        mini = f"--recipe {_FOR_CPU}" + (f" --task {task}" if task != recipe.task else "")
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
        raise DeviceError.of(
            "PB707",
            f"memory of --device {device}",
            expected=f"about {in_bytes(needed)}: {parts}",
            found=f"{free} available",
            fix=f"take {mini}{', ' if mini else ''}{less}; --force goes on all the same",
        )


def check_space(run: Path, found: ResourceForecast, recipe: Recipe, done: int) -> None:
    """Raise unless there is space for the checkpoints to come: the newest, one being written, and those kept.

    Raises:
        StorageError: PB804.
    """
    steps, every, keep = recipe.training.steps, recipe.checkpoints.save_every, recipe.checkpoints.keep_every
    to_come = -(-(steps - done) // every)
    kept = steps // keep - done // keep if keep else 0
    count = min(to_come, kept + checkpoint.KEPT + 1)
    fix = "free space, give another folder with -o, or a larger [checkpoints] keep_every; --force goes on"
    free = require_space(run, count * found.checkpoint, fix)
    if count:
        sizes = in_bytes(found.checkpoint), in_bytes(free)
        logger.info("space: %d x %s of checkpoints, %s free", count, *sizes)
