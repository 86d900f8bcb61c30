"""Training pairs: a random crop of an image, and what the judge's own functions make of it.

Source: Palette, section 4 and Appendix B; protocol, section 5; the mixes of masks are the paper's, the law
of the rectangles' sides is our choice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import numpy as np
import torch
from numpy.typing import NDArray

from palette_bench.core.rng import Stream
from palette_bench.core.types import Image, Mask
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.degradations.hole import punch
from palette_bench.tasks.degradations.jpeg import fast_jpeg
from palette_bench.tasks.degradations.masks import CANVAS, draw_mask, freeform, reduced
from palette_bench.tasks.preprocess import crop_area
from palette_bench.tasks.protocol import load

from .data import TrainingImages, read_next
from .draws import stream
from .recipe import Task

FIRST_QUALITY = 5
# 10,000 exp(-(q - 5) / 10), rounded, for the quality factors q = 5..30
QUALITY_WEIGHTS = (
    *(10000, 9048, 8187, 7408, 6703, 6065, 5488, 4966, 4493, 4066, 3679, 3329, 3012),
    *(2725, 2466, 2231, 2019, 1827, 1653, 1496, 1353, 1225, 1108, 1003, 907, 821),
)
_RECTANGLES = (6554, 26214)  # hole pixels of rects-v1, both included: 10 to 40 % of 256 x 256
_FOUR = ("right", "left", "top", "bottom")


@dataclass(frozen=True)
class TrainingPair:
    """One training sample before it becomes tensors.

    Attributes:
        task: what is asked.
        reference: (S, S, 3) uint8.
        source: (S, S, 3) uint8; 127 in the hole, gray three times.
        mask: (S, S) bool, True = to be produced; all True without a hole.
        passed: indices of images that could not be read.
    """

    task: Task
    reference: Image
    source: Image
    mask: Mask
    passed: tuple[int, ...]


@dataclass(frozen=True)
class TrainingPairs:
    """The training samples of a run, by number: sample = step * batch + position.

    Nothing is remembered from one sample to the next, so any process can make any of them.

    Attributes:
        images: to draw from; each epoch takes every one once, in an order of its own.
        tasks: one is drawn uniformly for each sample.
        side: of a sample, pixels.
        batch: samples per step, all ranks together.
        seed: of the run.
    """

    images: TrainingImages
    tasks: tuple[Task, ...]
    side: int
    batch: int
    seed: int

    def __getitem__(self, sample: int) -> TrainingPair:
        """Return one sample; numbers below 0 are no training step's and serve previews."""
        epoch, turn = divmod(sample, len(self.images))
        pixels, passed = read_next(self.images, shuffled(turn, len(self.images), self.seed, epoch))
        task = self.tasks[self._stream(sample, "task").below(len(self.tasks))]
        reference = random_crop(pixels, self.side, task, self._stream(sample, "crop"))
        source, mask = degrade(reference, task, self._stream(sample, "degradation"))
        return TrainingPair(task, reference, source, mask, passed)

    def _stream(self, sample: int, purpose: str) -> Stream:
        return stream(self.seed, *divmod(sample, self.batch), purpose)


def shuffled(turn: int, count: int, seed: int, epoch: int) -> int:
    """Return which of `count` images comes at `turn` of an epoch: a permutation without a table.

    A Feistel network over the next even power of two; what falls outside walks on along its cycle.
    Four rounds with a pseudo-random function give a pseudo-random permutation (Luby and Rackoff 1988);
    six are run because the halves are small.
    """
    half = max(1, -(-(count - 1).bit_length() // 2))
    found = turn
    while True:
        left, right = found >> half, found & ((1 << half) - 1)
        for turn_key in range(6):
            left, right = right, left ^ _mixed(f"{seed}|{epoch}|{turn_key}|{right}", half)
        found = left << half | right
        if found < count:
            return found


def _mixed(text: str, bits: int) -> int:
    digest = hashlib.sha256(f"pb-train-v1|order|{text}".encode("ascii")).digest()
    return int.from_bytes(digest[:8], "little") & ((1 << bits) - 1)


def random_crop(pixels: Image, side: int, task: Task, draws: Stream) -> Image:
    """Return a random largest square averaged to (side, side, 3); at 256 px inpainting takes a window.

    Source: Palette, section 4: inpainting's crops are not resampled; the judge's `crop_area` averages.
    """
    height, width = pixels.shape[:2]
    short = min(height, width)
    size = side if task == "inpainting" and side == CANVAS and short >= side else short
    top, left = draws.below(height - size + 1), draws.below(width - size + 1)
    return crop_area(pixels[top : top + size, left : left + size], side)


def degrade(reference: Image, task: Task, draws: Stream) -> tuple[Image, Mask]:
    """Return source, (S, S, 3) uint8, and mask, (S, S) bool, of a reference."""
    side = len(reference)
    everything = np.ones((side, side), bool)
    if task == "colorization":
        return np.repeat(luma(reference)[:, :, None], 3, axis=2), everything
    if task == "jpeg":
        return fast_jpeg(reference, random_quality(draws)), everything
    mask = inpainting_mask(draws) if task == "inpainting" else uncropping_mask(draws)
    mask = mask if side == CANVAS else reduced(mask, side)
    return punch(reference, mask), mask


@cache
def _quality_steps() -> NDArray[np.int64]:
    return np.array(list(accumulate(QUALITY_WEIGHTS)), np.int64)


def random_quality(draws: Stream) -> int:
    """Return a quality factor in 5..30, likelier the lower: p proportional to exp(-q / 10).

    Source: Palette, section 4; a table of integers, so that no libm takes part.
    """
    steps = _quality_steps()
    return FIRST_QUALITY + int(np.searchsorted(steps, draws.below(int(steps[-1])), side="right"))


def inpainting_mask(draws: Stream) -> Mask:
    """Return (256, 256) bool: free-form strokes of any area, or for 2 of 5 samples rectangles.

    Source: Palette, section 4: 60 % free-form, 40 % rectangular.
    """
    return freeform(draws) if draws.below(5) < 3 else rectangles(draws)


def rectangles(draws: Stream) -> Mask:
    """Return rects-v1, (256, 256) bool: one to five boxes with a union of 10 to 40 %.

    Source: protocol, section 5.3.
    """
    count = 1 + draws.below(5)
    while True:
        mask = np.zeros((CANVAS, CANVAS), bool)
        for _ in range(count):
            width, height = 32 + draws.below(97), 32 + draws.below(97)
            x, y = draws.below(CANVAS + 1 - width), draws.below(CANVAS + 1 - height)
            mask[y : y + height, x : x + width] = True
        if _RECTANGLES[0] <= int(mask.sum()) <= _RECTANGLES[1]:
            return mask


def uncropping_mask(draws: Stream) -> Mask:
    """Return (256, 256) bool: one of the four halves, or for every other sample all four sides.

    Source: Palette, section 4.
    """
    name = "four-sides" if draws.below(2) else _FOUR[draws.below(4)]
    mask, _ = draw_mask(load("palette-2022").variant("uncropping", name), CANVAS, draws)
    return mask


@dataclass(frozen=True)
class HostBatch:
    """A micro-batch of pairs, still on the host and small.

    Attributes:
        step: the optimiser step.
        positions: (N,) int64, places in the global batch.
        tasks: N names.
        reference: (N, S, S, 3) uint8.
        source: (N, S, S, 3) uint8.
        mask: (N, S, S) bool.
        passed: indices of images that could not be read.
    """

    step: int
    positions: NDArray[np.int64]
    tasks: tuple[str, ...]
    reference: torch.Tensor
    source: torch.Tensor
    mask: torch.Tensor
    passed: tuple[int, ...]


@dataclass(frozen=True)
class MicroBatches:
    """A map-style dataset whose item is a whole micro-batch, keyed by its sample numbers."""

    pairs: TrainingPairs

    def __getitem__(self, samples: Sequence[int]) -> HostBatch:
        """Return the micro-batch of samples of one step."""
        found = [self.pairs[sample] for sample in samples]
        return HostBatch(
            step=samples[0] // self.pairs.batch,
            positions=np.array(samples, np.int64) % self.pairs.batch,
            tasks=tuple(pair.task for pair in found),
            reference=torch.from_numpy(np.stack([pair.reference for pair in found])),
            source=torch.from_numpy(np.stack([pair.source for pair in found])),
            mask=torch.from_numpy(np.stack([pair.mask for pair in found])),
            passed=tuple(index for pair in found for index in pair.passed),
        )
