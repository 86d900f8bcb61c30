"""Restoring with the reference model: choice of sampler and grid, keyed noise, and a check of the weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from palette_bench.benchset.images import photo_path
from palette_bench.core.errors import InputError, problem
from palette_bench.core.records import read_file
from palette_bench.core.rng import Stream, noise_digest, sampling_noise
from palette_bench.core.types import ImageId
from palette_bench.runtime.tensors import to_tensor
from palette_bench.submission.card import Sampling
from palette_bench.submission.methods import RestoreOptions
from palette_bench.tasks.preprocess import crop_area, decode

from ..training.dataset import degrade
from ..training.draws import device_normals
from ..training.recipe import Task
from ..training.restorer import TAKEN, ModelInput, TrainedModel, open_trained
from ..training.unet import Predictor
from .diffusion import Diffusion, PaletteRecipe
from .samplers import plan_for, read_name


@dataclass(frozen=True)
class KeyedNoise:
    """Standard normals by step; the normals of an image depend on its name, not on the batch.

    Attributes:
        seed: run seed.
        names: names of the N images.
        sample: index of the sample, where an input has several.
        size: height and width.
        device: device of the result.
        where: "host" is NumPy's Philox (pb-noise-v1); "device" draws other normals, under the same keys, on
            the device.
    """

    seed: int
    names: tuple[ImageId, ...]
    sample: int
    size: tuple[int, int]
    device: torch.device
    where: Literal["host", "device"]

    def __call__(self, step: int) -> torch.Tensor:
        """Return (N, 3, H, W) float32."""
        shape = (3, *self.size)
        if self.where == "device":
            digests = [noise_digest(self.seed, name, self.sample, step) for name in self.names]
            return device_normals(digests, shape, self.device)
        drawn = [sampling_noise(self.seed, name, self.sample, step, shape) for name in self.names]
        return torch.from_numpy(np.stack(drawn)).to(self.device)


@contextmanager
def ahead(draw: Callable[[int], torch.Tensor], steps: int) -> Iterator[Callable[[int], torch.Tensor]]:
    """Yield `draw` for calls with 0, 1, ..., steps - 1 in order; a thread computes the next draw in advance.

    One draw takes about as long as a step of a small network, and NumPy releases the interpreter lock
    meanwhile.
    """
    with ThreadPoolExecutor(1) as thread:
        begun = [thread.submit(draw, 0)]

        def take(step: int) -> torch.Tensor:
            drawn = begun.pop().result()
            if step + 1 < steps:
                begun.append(thread.submit(draw, step + 1))
            return drawn

        yield take


_log = logging.getLogger(__name__)


def open_model(options: RestoreOptions) -> TrainedModel:
    """Return the model of a training run, with its weights verified.

    Raises:
        UsageError: no run is given, the run belongs to another method, or the sampler or steps are
            impossible.
        StorageError: PB801; WeightsError: PB705, PB712; InputError: PB611, the weights do not denoise.
        DeviceError: PB707.
    """
    options.refuse_all_but(*TAKEN, "seed", "sampler", "steps", "noise")
    opened = open_trained("palette", PaletteRecipe, options)
    recipe, device = opened.recipe, opened.device
    diffusion = Diffusion(recipe)
    # A sampler or grid in the recipe applies only to the recipe's own number of steps; for other numbers,
    # both follow from the number.
    own = recipe.sampling
    steps, chosen = options.steps or own.steps, dict[str, Any](clip=own.clip)
    if options.sampler is not None:
        chosen |= read_name(options.sampler)
    elif steps == own.steps:
        chosen |= {"sampler": own.sampler, "grid": own.grid}
    plan = plan_for(diffusion.sampled, diffusion.trained, steps, **chosen)
    if expected_to_denoise(opened.run.step, recipe.training.warmup_steps, recipe.side):
        require_denoising(diffusion, opened.network, recipe.tasks, recipe.side, str(options.run))
    else:
        facts = (options.run, opened.run.step, recipe.side)
        _log.info("not checked whether %s denoises: %d steps at %d px", *facts)
    codes = diffusion.codes(plan, device)
    # the other samplers draw only the initial noise
    draws = plan.evaluations if plan.sampler.startswith("ancestral") else 1

    def restore_batch(network: Predictor, model_input: ModelInput) -> torch.Tensor:
        source, mask = model_input.tensors(device)
        size = (source.shape[2], source.shape[3])
        noise = KeyedNoise(options.seed, model_input.names, model_input.sample, size, device, options.noise)
        with ahead(noise, draws) as normal:
            return diffusion.sample(network, plan, codes, source, mask, normal)

    sampling = Sampling(sampler=str(plan), steps=plan.evaluations, seed=options.seed)
    embedding = recipe.network.gamma_embedding
    choices = {"diffusion": recipe.noise.model_dump(mode="json"), "gamma_embedding": embedding}
    return TrainedModel(opened, "Palette", sampling, restore_batch, choices, paper="arXiv:2111.05826")


# --- self-check: do the loaded weights denoise? ---

# One bundled photograph must come out cleaner than it went in. Wrong weights, a wrong gamma embedding or
# swapped inputs raise no error when they are loaded, and restore to noise.
PHOTOGRAPH = "astronaut.png"
GAMMA = 0.9  # y_t / sqrt(gamma) then has a PSNR of 15.6 dB to y
LEAST_GAIN = 3.0  # dB
SETTLED = 1000  # steps; with fewer, or within the warm-up, a network need not denoise
SMALLEST = 64  # px; smaller presets are for tests and synthetic images, not for photographs


def expected_to_denoise(steps: int, warmup_steps: int, side: int) -> bool:
    """Return whether a run of `steps` steps is expected to denoise photographs."""
    return steps >= max(SETTLED, warmup_steps) and side >= SMALLEST


def require_denoising(
    diffusion: Diffusion, network: Predictor, tasks: tuple[Task, ...], side: int, where: str
) -> None:
    """Raise unless the network gains at least 3 dB in each of its tasks.

    Args:
        diffusion: diffusion process of its training.
        network: network with loaded weights.
        tasks: tasks it was trained on.
        side: trained size, pixels.
        where: name of the weights, for the message.

    Raises:
        InputError: PB611, for every task that fails.
    """
    gains = {task: denoising_gain(diffusion, network, task, side) for task in tasks}
    expected = f"a photograph with noise of gamma {GAMMA} gains {LEAST_GAIN:g} dB"
    fix = "the weights or their recipe are not what was trained: compare with log.jsonl of the run"
    problems = [
        problem("PB611", f"{where}: {task}", expected=expected, found=f"{found:.1f} dB", fix=fix)
        for task, found in gains.items()
        if not found >= LEAST_GAIN
    ]
    if problems:
        raise InputError(*problems)


@torch.no_grad()
def denoising_gain(diffusion: Diffusion, network: Predictor, task: Task, side: int) -> float:
    """Return by how many dB y0 is nearer to the photograph than y_t / sqrt(gamma), where m is True."""
    photograph = crop_area(decode(read_file(photo_path(PHOTOGRAPH))), side)
    given, hole = degrade(photograph, task, Stream(f"self-check|{task}"))
    reference, source = to_tensor(photograph[None]), to_tensor(given[None])
    mask = torch.from_numpy(hole)[None, None]
    noise, fill = (torch.from_numpy(sampling_noise(0, "self-check", 0, k, reference.shape)) for k in (0, -1))
    if not hole.all():
        source = torch.where(mask, fill, source)
    gammas = np.array([GAMMA])
    noisy = diffusion.noised(reference, noise, torch.from_numpy(gammas)[:, None, None, None], mask)
    output = network(torch.cat([noisy, source], 1), diffusion.code(gammas, noisy.device)).float()
    predicted = diffusion.noise_of(output, noisy, GAMMA)
    image = (noisy - math.sqrt(1 - GAMMA) * predicted) / math.sqrt(GAMMA)
    errors = [((y - reference).square() * mask).mean() for y in (noisy / math.sqrt(GAMMA), image)]
    return float(10 * torch.log10(errors[0] / errors[1]))
