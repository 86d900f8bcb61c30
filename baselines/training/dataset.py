"""Training pairs and micro-batches: random crops of images, degraded by the functions that make test sets.

Images that cannot be read are found by their headers before the first step, passed over, and named.

Source: Palette, section 4 and Appendix B; protocol, section 5; the mixes of masks are the paper's, the
distribution of the rectangles' sides is our choice.
"""

from __future__ import annotations

import hashlib
import logging
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from palette_bench.core.errors import Problem, SourceError, problem
from palette_bench.core.processes import in_threads
from palette_bench.core.rng import Stream
from palette_bench.core.types import Image, Mask, Progress
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.degradations.hole import CANVAS, draw_mask, freeform, punch, reduced
from palette_bench.tasks.degradations.jpeg import fast_jpeg
from palette_bench.tasks.preprocess import DecodeError, crop_area
from palette_bench.tasks.protocol import load

from .data import TrainingImages
from .draws import stream
from .recipe import Task

logger = logging.getLogger(__name__)

FIRST_QUALITY = 5
# 10,000 exp(-(q - 5) / 10), rounded, for the quality factors q = 5..30
QUALITY_WEIGHTS = (
    *(10000, 9048, 8187, 7408, 6703, 6065, 5488, 4966, 4493, 4066, 3679, 3329, 3012),
    *(2725, 2466, 2231, 2019, 1827, 1653, 1496, 1353, 1225, 1108, 1003, 907, 821),
)
_QUALITY_STEPS = np.cumsum(QUALITY_WEIGHTS, dtype=np.int64)
_RECTANGLES = (6554, 26214)  # hole pixels of rects-v1, bounds inclusive: 10 to 40 % of 256 x 256
_FOUR = ("right", "left", "top", "bottom")


@dataclass(frozen=True)
class TrainingPair:
    """One training sample on the host, before conversion to tensors.

    Attributes:
        task: task of the sample.
        reference: (S, S, 3) uint8.
        source: (S, S, 3) uint8; 127 in the hole; gray is repeated in three channels.
        mask: (S, S) bool, True = pixel to produce; all True for tasks without holes.
        passed: indices of unreadable images that were skipped.
    """

    task: Task
    reference: Image
    source: Image
    mask: Mask
    passed: tuple[int, ...]


@dataclass(frozen=True)
class TrainingPairs:
    """The training samples of a run, by number: sample = step * batch + position.

    No state carries over from one sample to the next, so any process can make any sample.

    Attributes:
        images: source of images; each epoch visits every image once, in its own order.
        tasks: one task is drawn uniformly for each sample.
        side: side of a sample, pixels.
        batch: samples per step, all ranks together.
        seed: run seed.
    """

    images: TrainingImages
    tasks: tuple[Task, ...]
    side: int
    batch: int
    seed: int

    def __getitem__(self, sample: int) -> TrainingPair:
        """Return one sample; negative numbers belong to no training step and serve previews."""
        epoch, turn = divmod(sample, len(self.images))
        pixels, passed = read_next(self.images, shuffled(turn, len(self.images), self.seed, epoch))
        task = self.tasks[self._stream(sample, "task").below(len(self.tasks))]
        reference = random_crop(pixels, self.side, task, self._stream(sample, "crop"))
        source, mask = degrade(reference, task, self._stream(sample, "degradation"))
        return TrainingPair(task, reference, source, mask, passed)

    def _stream(self, sample: int, purpose: str) -> Stream:
        return stream(self.seed, *divmod(sample, self.batch), purpose)


def shuffled(turn: int, count: int, seed: int, epoch: int) -> int:
    """Return which of `count` images comes at position `turn` of an epoch: a permutation without a table.

    A Feistel network permutes the next even power of two; a result outside the range is permuted again until
    it is inside. Four rounds with a pseudo-random function give a pseudo-random permutation (Luby and Rackoff
    1988); six are used because the halves are small.
    """
    half = max(1, -(-(count - 1).bit_length() // 2))
    found = turn
    while True:
        left, right = found >> half, found & ((1 << half) - 1)
        for turn_key in range(6):
            key = f"pb-train-v1|order|{seed}|{epoch}|{turn_key}|{right}".encode("ascii")
            mixed = int.from_bytes(hashlib.sha256(key).digest()[:8], "little") & ((1 << half) - 1)
            left, right = right, left ^ mixed
        found = left << half | right
        if found < count:
            return found


def random_crop(pixels: Image, side: int, task: Task, draws: Stream) -> Image:
    """Return a random largest square crop averaged to (side, side, 3); for 256 px inpainting a random window.

    Source: Palette, section 4: crops for inpainting are not resampled. Other tasks average with `crop_area`,
    as test sets do.
    """
    height, width = pixels.shape[:2]
    short = min(height, width)
    size = side if task == "inpainting" and side == CANVAS and short >= side else short
    top, left = draws.below(height - size + 1), draws.below(width - size + 1)
    return crop_area(pixels[top : top + size, left : left + size], side)


def degrade(reference: Image, task: Task, draws: Stream) -> tuple[Image, Mask]:
    """Return the source, (S, S, 3) uint8, and the mask, (S, S) bool, of a reference."""
    side = len(reference)
    everything = np.ones((side, side), bool)
    if task == "colorization":
        return np.repeat(luma(reference)[:, :, None], 3, axis=2), everything
    if task == "jpeg":
        return fast_jpeg(reference, random_quality(draws)), everything
    mask = inpainting_mask(draws) if task == "inpainting" else uncropping_mask(draws)
    mask = mask if side == CANVAS else reduced(mask, side)
    return punch(reference, mask), mask


def random_quality(draws: Stream) -> int:
    """Return a random JPEG quality in 5..30, with p proportional to exp(-q / 10).

    Source: Palette, section 4. The weights are a table of integers, so that results do not depend on a libm.
    """
    drawn = draws.below(int(_QUALITY_STEPS[-1]))
    return FIRST_QUALITY + int(np.searchsorted(_QUALITY_STEPS, drawn, side="right"))


def inpainting_mask(draws: Stream) -> Mask:
    """Return a mask, (256, 256) bool: free-form strokes of any area, or rectangles for 2 of 5 samples.

    Source: Palette, section 4: 60 % free-form, 40 % rectangular.
    """
    return freeform(draws) if draws.below(5) < 3 else rectangles(draws)


def rectangles(draws: Stream) -> Mask:
    """Return a rects-v1 mask, (256, 256) bool: one to five rectangles whose union covers 10 to 40 %.

    Source: protocol, section 5.3.
    """
    count = 1 + draws.below(5)
    while True:
        # rejection sampling: draw again until the area is allowed
        mask = np.zeros((CANVAS, CANVAS), bool)
        for _ in range(count):
            width, height = 32 + draws.below(97), 32 + draws.below(97)
            x, y = draws.below(CANVAS + 1 - width), draws.below(CANVAS + 1 - height)
            mask[y : y + height, x : x + width] = True
        if _RECTANGLES[0] <= int(mask.sum()) <= _RECTANGLES[1]:
            return mask


def uncropping_mask(draws: Stream) -> Mask:
    """Return a mask, (256, 256) bool: all four sides with probability 1/2, else one of the four halves.

    Source: Palette, section 4.
    """
    name = "four-sides" if draws.below(2) else _FOUR[draws.below(4)]
    mask, _ = draw_mask(load("palette-2022").variant("uncropping", name), CANVAS, draws)
    return mask


@dataclass(frozen=True)
class HostBatch:
    """A micro-batch of training pairs on the host, as small uint8 tensors.

    Attributes:
        step: optimiser step.
        positions: (N,) int64, positions in the global batch.
        tasks: N task names.
        reference: (N, S, S, 3) uint8.
        source: (N, S, S, 3) uint8.
        mask: (N, S, S) bool.
        passed: indices of unreadable images that were skipped.
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
    """A map-style dataset: the key is a list of sample numbers, the item a whole micro-batch."""

    pairs: TrainingPairs

    def __getitem__(self, samples: Sequence[int]) -> HostBatch:
        """Return the micro-batch of the given samples, all of one step."""
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


# --- unreadable images ---

UNREADABLE_SHARE = 0.001  # of all images, allowed by default; more stop the run
_AT_ONCE = 64  # images per task of a thread
_TRIES = 64  # consecutive unreadable images, after which the file system is suspected


def check_headers(images: TrainingImages, allowed: int, world: ProcessGroup, progress: Progress) -> set[int]:
    """Return the indices of images with an unreadable header or of a refused kind; each rank checks a part.

    Args:
        images: training images of the run.
        allowed: how many such images may be skipped.
        world: process group of the run.
        progress: where rank 0 reports progress.

    Raises:
        SourceError: PB309, there are more than `allowed`; names all of them, by reason.
    """
    own = range(world.rank, len(images), world.size)
    parts = [own[start : start + _AT_ONCE] for start in range(0, len(own), _AT_ONCE)]

    def broken(part: range) -> list[tuple[int, str]]:
        found = []
        for index in part:
            try:
                images.prove(index)
            except DecodeError as error:
                found.append((index, str(error)))
        return found

    mine: set[tuple[int, str]] = set()
    with progress("checking headers", len(own)) as advance:
        for part, found in zip(parts, in_threads(broken, parts), strict=True):
            mine.update(found)
            advance(len(part))
    reasons = dict(world.union(mine))
    if len(reasons) > allowed:
        by_reason: dict[str, list[int]] = defaultdict(list)
        for index, reason in sorted(reasons.items()):
            by_reason[reason].append(index)
        over = f", or pass over them: --unreadable {len(reasons)}"
        raise SourceError(*(unreadable(images, i, allowed, reason, over) for reason, i in by_reason.items()))
    for index, reason in sorted(reasons.items()):
        logger.warning("unreadable, passed over: %s (%s)", images.name(index), reason)
    return set(reasons)


def read_next(images: TrainingImages, index: int) -> tuple[Image, tuple[int, ...]]:
    """Return the image at `index`, or the next readable one, and the indices that were skipped.

    Raises:
        SourceError: PB309, too many consecutive images are unreadable.
    """
    passed: list[int] = []
    for step in range(min(_TRIES, len(images))):
        found = (index + step) % len(images)
        try:
            return images.pixels(found), tuple(passed)
        except DecodeError:
            passed.append(found)
    raise SourceError(unreadable(images, passed))


def unreadable(
    images: TrainingImages,
    indices: Collection[int],
    allowed: int | None = None,
    found: str = "not a JPEG or PNG inside, truncated, 16-bit, transparent or animated",
    over: str | None = None,
) -> Problem:
    """Return PB309 with the names of unreadable images.

    Args:
        images: training images of the run.
        indices: the unreadable ones.
        allowed: how many a run may have; None for the default share.
        found: what is wrong with them.
        over: how to pass over them; None for the option, where a number is allowed.
    """
    most = f"{UNREADABLE_SHARE:.1%}" if allowed is None else f"{allowed:,}"
    if over is None:
        over = "" if allowed is None else f" or pass over them: --unreadable {len(indices)}"
    return problem(
        "PB309",
        "training images",
        expected=f"at most {most} of {len(images):,} unreadable",
        found=found,
        fix=f"replace or remove these files{over}",
        ids=[images.name(index) for index in sorted(indices)],
    )
