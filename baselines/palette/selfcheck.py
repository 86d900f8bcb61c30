"""Check that loaded weights denoise: one bundled photograph must come out cleaner than it went in.

Wrong weights, a wrong gamma embedding or swapped inputs raise no error when they are loaded, and restore to
noise.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from palette_bench.benchset.images import photo_path
from palette_bench.core.errors import InputError, problem
from palette_bench.core.records import read_file
from palette_bench.core.rng import Stream, sampling_noise
from palette_bench.runtime.tensors import to_tensor
from palette_bench.tasks.preprocess import crop_area, decode

from ..training.dataset import degrade
from ..training.recipe import Task
from ..training.unet import Predictor
from .diffusion import Diffusion

PHOTOGRAPH = "astronaut.png"
GAMMA = 0.9  # y_t / sqrt(gamma) then has a PSNR of 15.6 dB to y
LEAST_GAIN = 3.0  # dB
SETTLED = 1000  # steps; with fewer, or within the warm-up, a network need not denoise
SMALLEST = 64  # px; smaller presets are for tests and synthetic images, not for photographs


def applies(steps: int, warmup_steps: int, side: int) -> bool:
    """Return whether a run of `steps` steps is expected to denoise photographs."""
    return steps >= max(SETTLED, warmup_steps) and side >= SMALLEST


def check(diffusion: Diffusion, network: Predictor, tasks: tuple[Task, ...], side: int, where: str) -> None:
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
    gains = {task: gain(diffusion, network, task, side) for task in tasks}
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
def gain(diffusion: Diffusion, network: Predictor, task: Task, side: int) -> float:
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
