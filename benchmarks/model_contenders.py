"""The sides of model_speed.py: the same network trained and sampled by diffusers and by us.

    python benchmarks/model_contenders.py SIDE FOLDER [WORK]

SIDE is `diffusers` or `ours` with levers: ours, ours+bf16, diffusers+bf16+compile. A process makes ready,
says so, and does one piece of work per line read from stdin, or the one WORK at once; it answers in lines of
JSON.
"""

# ruff: noqa: PLC0415  # a side imports its own packages: that is part of what is measured

from __future__ import annotations

import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

THEIR_LEVERS = ("bf16", "compile", "channels_last")
LEVERS = (*THEIR_LEVERS, "fused_adam", "device_noise")
POSITIONS = 500.0  # of the forward passes that are compared
SEED = 0


@dataclass(frozen=True)
class Work:
    """What both sides do, written by the parent into a folder.

    Attributes:
        folder: of options, images and weights; results go there, too.
        preset: of the network.
        unet2d: arguments of the same network in diffusers.
        device: "cpu" or "cuda".
        threads: of torch.
        batch: images per training step and per forward pass.
        warmup: training steps before the clock starts.
        steps: training steps timed.
        images: restored.
        evaluations: of the network per image.
    """

    folder: Path
    preset: str
    unet2d: dict[str, Any]
    device: str
    threads: int
    batch: int
    warmup: int
    steps: int
    images: int
    evaluations: int

    @classmethod
    def read(cls, folder: Path) -> Work:
        """Return the work in a folder."""
        return cls(folder, **json.loads((folder / "options.json").read_text()))

    def pixels(self, name: str, count: int) -> np.ndarray:
        """Return the first (count, S, S, 3) uint8 of "references" or "inputs"."""
        return np.load(self.folder / f"{name}.npy")[:count]

    def tensor(self, name: str) -> Tensor:
        """Return a batch of "references" or "inputs", (N, 3, S, S) float32 in [-1, 1]."""
        pixels = torch.from_numpy(self.pixels(name, self.batch)).to(self.device)
        return pixels.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous()


class Side(Protocol):
    """One way to train and sample the network.

    Attributes:
        levers: what it was asked to do otherwise.
    """

    levers: set[str]

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of our network."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the prediction, (N, 3, S, S) float32, at `POSITIONS`."""

    def step(self, number: int) -> None:
        """Train on the batch: forward, L2, backward, Adam, moving average."""

    def restore(self, first: int, last: int, out: Path) -> None:
        """Restore inputs first..last-1 and write them as PNG files."""


class Diffusers:
    """diffusers as its training example uses it: without levers eager, float32, TF32 off."""

    def __init__(self, work: Work, levers: set[str]) -> None:
        from diffusers import DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
        from diffusers.training_utils import EMAModel
        from PIL.Image import fromarray

        if "bf16" not in levers:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.work, self.levers = work, levers
        self.model = UNet2DModel(**work.unet2d).to(work.device)
        self.reduced = torch.autocast(work.device, torch.bfloat16, enabled="bf16" in levers)
        if "channels_last" in levers:
            self.model.to(memory_format=torch.channels_last)
        if "compile" in levers:
            self.model.compile()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)
        self.average = EMAModel(self.model.parameters(), decay=0.9999)
        self.chain = DDPMScheduler(num_train_timesteps=2000, beta_start=1e-6, beta_end=0.01)
        self.sampler = DPMSolverMultistepScheduler(
            num_train_timesteps=1000, beta_start=1e-4, beta_end=0.09, beta_schedule="linear"
        )
        self.references, self.inputs = work.tensor("references"), work.tensor("inputs")
        self.to_image = fromarray

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take the weights of our network."""
        from diffusers_unet import copy_weights

        from palette_bench.baselines.training.presets import PRESETS
        from palette_bench.baselines.training.unet import UNet

        ours = UNet(PRESETS[self.work.preset]).to(self.work.device)
        ours.load_state_dict(weights)
        copy_weights(ours, self.model)

    def forward(self, images: Tensor) -> Tensor:
        """Return the prediction."""
        with self.reduced:
            prediction: Tensor = self.model(images, POSITIONS).sample
        return prediction.float()

    def step(self, number: int) -> None:
        """Train on the batch."""
        noise = torch.randn_like(self.references)
        levels = torch.randint(0, 2000, (len(noise),), device=noise.device)
        noisy = self.chain.add_noise(self.references, noise, levels)
        with self.reduced:
            predicted = self.model(torch.cat([noisy, self.inputs], dim=1), levels).sample
        loss = torch.nn.functional.mse_loss(predicted.float(), noise)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.average.step(self.model.parameters())

    @torch.no_grad()
    def restore(self, first: int, last: int, out: Path) -> None:
        """Restore inputs by DPM-Solver++(2M)."""
        inputs = self.work.pixels("inputs", last)[first:]
        source = torch.from_numpy(inputs).to(self.work.device).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        noisy = torch.randn_like(source)
        self.sampler.set_timesteps(self.work.evaluations)
        for t in self.sampler.timesteps:
            with self.reduced:
                predicted = self.model(torch.cat([noisy, source], dim=1), t).sample.float()
            noisy = self.sampler.step(predicted, t, noisy).prev_sample
        pixels = noisy.add(1).mul(127.5).round().clamp(0, 255).to("cpu", torch.uint8).permute(0, 2, 3, 1)
        for i, image in enumerate(pixels.numpy(), start=first):
            self.to_image(image).save(out / f"{i:05d}.png")


class Ours:
    """The reference model as `train` and `restore` run it, with levers."""

    def __init__(self, work: Work, levers: set[str]) -> None:
        from safetensors.torch import save_file

        from palette_bench.baselines.palette.diffusion import DenoisingObjective, PaletteRecipe
        from palette_bench.baselines.palette.restore import open_model
        from palette_bench.baselines.training.draws import KeyedDraws
        from palette_bench.baselines.training.objective import TrainingBatch
        from palette_bench.baselines.training.optimisation import NetworkTrainer
        from palette_bench.baselines.training.recipe import read_recipe, to_toml
        from palette_bench.core import png
        from palette_bench.core.atomic import FileBatch as Files
        from palette_bench.runtime.distributed import ProcessGroup
        from palette_bench.submission.methods import Batch, RestoreOptions

        if "bf16" not in levers:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        self.work, self.levers = work, levers
        device = torch.device(work.device)
        recipe = read_recipe(PaletteRecipe, self._recipe()).resolved("palette", "jpeg", "host")
        self.seat = NetworkTrainer(
            DenoisingObjective(recipe, device).trainables[0], recipe, ProcessGroup(device=device)
        )
        self.draws = KeyedDraws(SEED, recipe.speed.noise)
        source = work.tensor("inputs")
        whole = torch.ones_like(source[:, :1], dtype=torch.bool)
        self.examples = TrainingBatch(
            0, np.arange(work.batch), ("jpeg",) * work.batch, work.tensor("references"), source, whole
        )
        module, file = self.seat.trainable.module, work.folder / f"ours-{os.getpid()}.safetensors"
        metadata = {"recipe": to_toml(recipe), "method": "palette", "step": "0"}
        save_file({name: t.cpu().contiguous() for name, t in module.state_dict().items()}, file, metadata)
        options = RestoreOptions(
            run=file,
            steps=work.evaluations,
            device=work.device,
            fast="bf16" in levers,
            noise=recipe.speed.noise,
        )
        self.model = open_model(options)
        self.model.network = module  # trained here, and compiled by a lever of its own
        self.batch, self.files, self.encode = Batch, Files, png.encode

    def _recipe(self) -> str:
        """Return the recipe of this preset, batch and levers."""
        speed = {name: name in self.levers for name in ("compile", "channels_last", "fused_adam")}
        return "\n".join(
            (
                'schema = "palette-bench/recipe/1.0"',
                'method = "palette"',
                f'[network]\npreset = "{self.work.preset}"',
                f"[training]\nbatch = {self.work.batch}",
                f'[speed]\nautocast = "{"bf16" if "bf16" in self.levers else "off"}"',
                f'noise = "{"device" if "device_noise" in self.levers else "host"}"',
                *(f"{name} = {str(on).lower()}" for name, on in speed.items()),
            )
        )

    def load(self, weights: dict[str, Tensor]) -> None:
        """Take weights."""
        self.seat.trainable.module.load_state_dict(weights)

    def forward(self, images: Tensor) -> Tensor:
        """Return the prediction."""
        from palette_bench.baselines.training.unet import sinusoids

        network = self.seat.network
        positions = torch.full((len(images),), POSITIONS, device=images.device)
        if "channels_last" in self.levers:
            images = images.to(memory_format=torch.channels_last)
        with torch.autocast(self.work.device, torch.bfloat16, enabled="bf16" in self.levers):
            prediction: Tensor = network(images, sinusoids(positions, self.seat.trainable.module.spec.width))
        return prediction

    def step(self, number: int) -> None:
        """Train on the batch."""
        self.seat.step(number, [replace(self.examples, step=number)], 1, self.draws)

    def restore(self, first: int, last: int, out: Path) -> None:
        """Restore inputs by DPM-Solver++(2M)."""
        names = tuple(f"{i:05d}" for i in range(first, last))
        jpeg: Any = SimpleNamespace(public=SimpleNamespace(task="jpeg"))  # all that is asked of a set
        outputs = self.model.restore(self.batch(names, self.work.pixels("inputs", last)[first:], None, jpeg))
        with self.files() as files:
            for name, output in zip(names, outputs, strict=True):
                files.write(out / f"{name}.png", self.encode(output))


def make_side(name: str, work: Work) -> Side:
    """Return a side, ready."""
    kind, *levers = name.split("+")
    if kind == "diffusers" and set(levers) <= set(THEIR_LEVERS):
        return Diffusers(work, set(levers))
    if kind == "ours" and set(levers) <= set(LEVERS):
        return Ours(work, set(levers))
    theirs, ours = ", ".join(THEIR_LEVERS), ", ".join(LEVERS)
    raise ValueError(f"no side {name!r}: write diffusers with any of {theirs}, or ours with any of {ours}")


# work and clock


def elapsed(work: Work, run: Callable[[], object]) -> float:
    """Return wall seconds of a call, the device's part included."""
    start = time.perf_counter()
    run()
    if work.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def agree(side: Side, work: Work) -> dict[str, Any]:
    """Write the prediction of the given weights, so that the parent can compare."""
    side.load(torch.load(work.folder / "weights.pt", map_location=work.device, weights_only=True))
    images = torch.cat([work.tensor("references"), work.tensor("inputs")], dim=1)
    with torch.no_grad():
        found = side.forward(images)
    file = work.folder / f"{time.time_ns()}.npy"
    np.save(file, found.float().cpu().numpy())
    return {"result": str(file)}


def forward(side: Side, work: Work) -> dict[str, Any]:
    """Return images per second of forward passes without gradients, the first left out."""
    images = torch.cat([work.tensor("references"), work.tensor("inputs")], dim=1)
    with torch.no_grad():
        seconds = [elapsed(work, lambda: side.forward(images)) for _ in range(max(3, work.steps // 4))]
    return {"rate": work.batch / statistics.median(seconds[1:])}


def train(side: Side, work: Work) -> dict[str, Any]:
    """Return images per second of training steps, median after the warm-up."""
    seconds = [elapsed(work, lambda i=i: side.step(i)) for i in range(work.warmup + work.steps)]
    return {"rate": work.batch / statistics.median(seconds[work.warmup :])}


def restore_all(side: Side, work: Work) -> None:
    """Restore every input into a folder of this process."""
    out = work.folder / f"out-{os.getpid()}"
    out.mkdir(exist_ok=True)
    for first in range(0, work.images, work.batch):
        side.restore(first, min(first + work.batch, work.images), out)


def restore(side: Side, work: Work) -> dict[str, Any]:
    """Return image evaluations per second of the whole loop, with noise and PNG files."""
    return {"rate": work.images * work.evaluations / elapsed(work, lambda: restore_all(side, work))}


def whole(side: Side, work: Work) -> dict[str, Any]:
    """Train, then restore; return the seconds, without those of getting ready."""

    def run() -> None:
        for i in range(work.warmup + work.steps):
            side.step(i)
        restore_all(side, work)

    return {"seconds": elapsed(work, run)}


def product(side: Side, work: Work) -> dict[str, Any]:
    """Return the FLOP/s of a square matrix product in this side's precision: what the device can give."""
    reduced = "bf16" in side.levers
    n = 8192 if work.device == "cuda" else 1024
    square = torch.randn(n, n, device=work.device, dtype=torch.bfloat16 if reduced else torch.float32)
    seconds = [elapsed(work, lambda: square @ square) for _ in range(12)]
    return {"rate": 2 * n**3 / statistics.median(seconds[2:])}


def memory(side: Side, work: Work) -> dict[str, Any]:
    """Return the peak memory so far, bytes: of the device, or of the process on a CPU."""
    if work.device == "cuda":
        return {"bytes": torch.cuda.max_memory_allocated()}
    lines = Path("/proc/self/status").read_text().splitlines()
    return {"bytes": 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))}


WORKS = {work.__name__: work for work in (agree, forward, train, restore, whole, product, memory)}


def answers(name: str, folder: Path, orders: Iterator[str]) -> Iterator[dict[str, Any]]:
    """Yield one answer when ready and one per order, or the error that ended it."""
    try:
        work = Work.read(folder)
        torch.set_num_threads(work.threads)
        warnings.simplefilter("ignore")
        torch.manual_seed(SEED)
        side = make_side(name, work)
        yield {"ready": True}
        for order in orders:
            yield WORKS[order.strip()](side, work)
    except Exception as error:  # whatever a side raises is a result: it is printed beside its name
        reason = str(error).strip() or type(error).__name__
        yield {"error": f"{type(error).__name__}: {reason.splitlines()[0][:160]}"}


def main() -> None:
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print to stdout
    side, folder, *order = sys.argv[1:]
    for line in answers(side, Path(folder), iter(order or sys.stdin)):
        print(json.dumps(line), file=answer, flush=True)


if __name__ == "__main__":
    main()
