"""Restoring images of any size with a model trained at one size.

Three policies: `tile` (windows at the trained size), `scale` (the whole image at the trained size) and
`native` (the whole image at its own size). All pad by reflection, restore, and crop the padding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.nn.functional import interpolate

from palette_bench.core.errors import InputError, UsageError, suggest
from palette_bench.core.types import Image
from palette_bench.runtime.tensors import to_pixels, to_tensor
from palette_bench.submission.methods import UserImage
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.preprocess import crop_area

from .unet import Predictor

POLICIES = ("tile", "scale", "native")
SMALLEST = 16  # pixels
_GRID = 16  # block size of JPEG with halved chroma, pixels
_log = logging.getLogger(__name__)

# (image of an accepted size, whether to use windows) -> (H, W, 3) uint8 of this size, known pixels kept
Restore = Callable[[UserImage, bool], Image]


def restore_any_size(
    image: UserImage, policy: str | None, restore: Restore, side: int, multiple: int, warns: bool = True
) -> Image:
    """Return an image restored at its own size, (H, W, 3) uint8.

    Args:
        image: at least 16 px on each side.
        policy: "tile", "scale" or "native". None selects "scale" for colorization, whose colours need the
            whole image, and "tile" for the other tasks, which need every pixel.
        restore: the model.
        side: trained size, pixels.
        multiple: number that height and width must be multiples of.
        warns: whether `native` warns of a size other than `side`; False for sets, whose card records the
            policy.

    Raises:
        InputError: the image is too small, or its mask has another size.
        UsageError: unknown policy.
    """
    height, width = image.input.shape[:2]
    if min(height, width) < SMALLEST:
        raise InputError(f"{image.name}: {width} x {height} px; the smallest side allowed is {SMALLEST} px")
    if image.mask is not None and image.mask.shape != (height, width):
        raise InputError(
            f"{image.name}: the mask is {image.mask.shape[1]} x {image.mask.shape[0]} px, the image "
            f"{width} x {height}: give a mask of the image's size"
        )
    policy = policy or ("scale" if image.task == "colorization" else "tile")
    if policy not in POLICIES:
        raise UsageError(f"size policy {policy!r}: {suggest(policy, POLICIES)}")
    if image.task == "colorization":
        image = replace(image, input=np.repeat(luma(image.input)[:, :, None], 3, axis=2))
    if policy == "scale":
        return _scaled(image, restore, side)
    least, step = (side, _GRID) if policy == "tile" else (0, multiple)
    tall, wide = (max(least, -(-length // step) * step) for length in (height, width))
    if policy == "native" and warns and (tall, wide) != (side, side):
        _log.warning(
            "%s: restored at %d x %d px by a model trained at %d px, which may not know such images",
            *(image.name, wide, tall, side),
        )
    return restore(_padded(image, tall, wide), policy == "tile")[:height, :width]


def _scaled(image: UserImage, restore: Restore, side: int) -> Image:
    """Return an image restored as a square of the trained size and enlarged; known pixels are its own."""
    height, width = image.input.shape[:2]
    longest = max(height, width)
    square = _padded(image, longest, longest)
    mask = square.mask
    if mask is not None:
        # a small pixel is masked if any masked pixel overlaps it, by at least 1/510 of its area
        mask = crop_area(np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2), side)[:, :, 0] > 0
    small = to_tensor(restore(replace(square, input=crop_area(square.input, side), mask=mask), False)[None])
    restored = interpolate(small, (longest, longest), mode="bicubic", antialias=True).clamp(-1, 1)
    if image.task == "colorization":
        # Only the colours come from the small output, the luma is the input's at full size. The same amount
        # added to all channels leaves B - Y and R - Y, the chroma, unchanged.
        weights = torch.tensor([19595, 38470, 7471])[None, :, None, None] / 65536
        restored = restored + (to_tensor(square.input[None]) - (restored * weights).sum(1, keepdim=True))
    output = to_pixels(restored)[0, :height, :width]
    return output if image.mask is None else np.where(image.mask[:, :, None], output, image.input)


def _padded(image: UserImage, height: int, width: int) -> UserImage:
    """Return the image and its mask extended by reflection at the bottom and the right."""
    missing = ((0, height - image.input.shape[0]), (0, width - image.input.shape[1]))
    mask = None if image.mask is None else np.pad(image.mask, missing, mode="symmetric")
    return replace(image, input=np.pad(image.input, (*missing, (0, 0)), mode="symmetric"), mask=mask)


# --- windows ---


def overlap_of(side: int) -> int:
    """Return the overlap of neighbouring windows: 64 px at 256 px, in proportion at other sizes."""
    return side // 4


def starts(length: int, side: int) -> list[int]:
    """Return the start positions of windows along `length` >= `side` pixels; the last window ends there.

    If `side` is a multiple of 64 and `length` lies on the 16 px grid of JPEG, so do all starts, as in
    training.
    """
    return [*range(0, length - side, side - overlap_of(side)), length - side]


class TiledNetwork:
    """Wraps a network: called with a whole image, it runs on windows and blends their predictions.

    Predictions are blended at every step. All windows therefore work on one image and one noise field, and no
    seam can develop between them.

    Args:
        network: (n, 6, side, side) and codes (n, width) -> (n, 3, side, side).
        needed: (H, W) bool, the pixels to produce; windows without any are skipped. H, W >= side.
        side: the network's trained size, pixels.
        micro_batch: windows per call of the network.
    """

    def __init__(self, network: Predictor, needed: torch.Tensor, side: int, micro_batch: int) -> None:
        self._network, self._side, self._micro_batch = network, side, micro_batch
        height, width = needed.shape
        places = [(top, left) for top in starts(height, side) for left in starts(width, side)]
        self._places = [place for place in places if bool(self._cut(needed, place).any())]
        # ramps over the overlap, so that neighbours sum to 1
        distance = torch.arange(side) + 0.5
        ramp = (torch.minimum(distance, side - distance) / overlap_of(side)).clamp(max=1)
        self._weight = (ramp[:, None] * ramp).to(needed.device)
        self._total = torch.zeros(height, width, device=needed.device)
        for place in self._places:
            self._cut(self._total, place).add_(self._weight)

    def __call__(self, images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Return the blended prediction.

        Args:
            images: (1, 6, H, W) float32.
            code: (1, width) float32, the same for all windows.

        Returns:
            (1, 3, H, W) float32; 0 where there is no window.
        """
        blended = torch.zeros_like(images[:, :3])
        for first in range(0, len(self._places), self._micro_batch):
            some = self._places[first : first + self._micro_batch]
            windows = torch.cat([self._cut(images, place) for place in some])
            predictions = self._network(windows, code.expand(len(some), -1))
            for place, prediction in zip(some, predictions, strict=True):
                self._cut(blended, place).add_(prediction * self._weight)
        return blended / self._total.clamp(min=torch.finfo(torch.float32).tiny)

    def _cut(self, images: torch.Tensor, place: tuple[int, int]) -> torch.Tensor:
        top, left = place
        return images[..., top : top + self._side, left : left + self._side]
