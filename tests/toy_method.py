"""A method for tests of training: two convolutions that denoise, trained in milliseconds a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import torch
from torch import nn

from palette_bench.baselines.training.draws import KeyedDraws
from palette_bench.baselines.training.objective import (
    BatchLosses,
    TrainableNetwork,
    TrainedMethod,
    TrainingBatch,
)
from palette_bench.baselines.training.recipe import Recipe
from palette_bench.baselines.training.train import train
from palette_bench.core.png import encode
from palette_bench.submission.methods import TrainOptions

RECIPE = """\
schema = "palette-bench/recipe/1.0"
method = "toy"
[network]
preset = "palette-toy"
[training]
batch = {batch}
micro_batch = {micro_batch}
steps = 6
learning_rate = 1e-2
warmup_steps = 3
cooldown_steps = {cooldown_steps}
ema_decay = 0.9
[checkpoints]
save_every = {save_every}
[log]
every = 1
strip_every = {strip_every}
[speed]
{speed}
"""
DEFAULTS = {
    "batch": 8,
    "micro_batch": 8,
    "cooldown_steps": 0,
    "save_every": 2,
    "strip_every": 0,
    "speed": "",
}


class Toy(TrainedMethod):
    """A method whose loss can be tampered with."""

    def __init__(
        self, spoilt: frozenset[int] = frozenset(), first_loss: float | None = 1.0, **keys: Any
    ) -> None:
        """Take the steps at which the loss is no number, the loss promised, and keys of the recipe."""
        text = RECIPE.format(**{**DEFAULTS, **keys})
        super().__init__(
            "toy",
            Recipe,
            dict.fromkeys(("colorization", "inpainting", "uncropping", "jpeg", "multi"), text),
            lambda recipe, device: ToyObjective(recipe, device, spoilt, first_loss),
        )

    @property
    def text(self) -> str:
        return self.texts["jpeg"]


class ToyObjective:
    def __init__(
        self, recipe: Recipe, device: torch.device, spoilt: frozenset[int], first_loss: float | None
    ) -> None:
        module = nn.Sequential(nn.Conv2d(6, 8, 3, padding=1), nn.SiLU(), nn.Conv2d(8, 3, 3, padding=1)).to(
            device
        )
        nn.init.zeros_(module[2].weight)
        nn.init.zeros_(module[2].bias)
        self.spoilt = spoilt
        rates = recipe.training.learning_rate, recipe.training.betas
        self.trainables = (
            TrainableNetwork("network", module, *rates, self.loss, parameters=659, first_loss=first_loss),
        )

    def loss(self, network: nn.Module, examples: TrainingBatch, draws: KeyedDraws) -> BatchLosses:
        gammas = torch.from_numpy(draws.uniform(examples, "gamma"))
        noise = draws.normal(examples, "noise", tuple(examples.reference.shape[1:]))
        level = gammas.float()[:, None, None, None]
        noisy = level.sqrt() * examples.reference + (1 - level).sqrt() * noise
        found = network(
            torch.cat([torch.where(examples.mask, noisy, examples.reference), examples.source], dim=1)
        )
        gaps = ((found.float() - noise) ** 2 * examples.mask).sum((1, 2, 3))
        pixels = examples.mask.sum((1, 2, 3)) * 3
        if examples.step in self.spoilt:
            gaps = gaps * float("nan")
        return BatchLosses(gaps / pixels, pixels.float(), torch.log(gammas / (1 - gammas)) / 2)

    def preview(self, network: nn.Module, examples: TrainingBatch, draws: KeyedDraws) -> torch.Tensor:
        found: torch.Tensor = network(torch.cat([examples.source, examples.source], dim=1))
        return torch.where(examples.mask, found, examples.reference)


def write_images(folder: Path, count: int = 12, size: tuple[int, int] = (20, 24)) -> Path:
    """Write smooth random images, (20, 24) unless told."""
    draws = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        pixels = draws.integers(0, 256, (*size, 3), dtype=np.uint8)
        (folder / f"p{number:03d}.png").write_bytes(encode(pixels))
    return folder


def write_pack(file: Path, count: int = 12, side: int = 16) -> Path:
    pixels = np.random.default_rng(7).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    safetensors.numpy.save_file({"images": pixels}, file)
    return file


def run_toy(method: TrainedMethod, data: Path, run: Path, **options: Any) -> None:
    """Train a method of the tests, or another, deterministically with one thread."""
    torch.set_num_threads(1)
    train(
        method, TrainOptions(data=(data,), run=run, deterministic=True, **{"task": "inpainting", **options})
    )


def files_of(run: Path, step: int) -> dict[str, bytes]:
    """Return the bytes of a checkpoint's weights files, by name."""
    folder = run / "checkpoints" / f"step-{step:08d}"
    return {file.name: file.read_bytes() for file in folder.glob("*.safetensors")}


def weights_of(run: Path, step: int) -> dict[str, bytes]:
    """Return the bytes of a checkpoint's tensors, by file and name."""
    loaded = {name: safetensors.numpy.load(data) for name, data in files_of(run, step).items()}
    return {f"{name}: {key}": t.tobytes() for name, tensors in loaded.items() for key, t in tensors.items()}
