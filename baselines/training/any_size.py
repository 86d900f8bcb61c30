"""Restoring images of any size with a model trained at one size.

Three policies: `tile` (windows at the trained size), `scale` (the whole image at the trained size) and
`native` (the whole image at its own size). All pad by reflection, restore, and crop the padding.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from palette_bench.core.errors import InputError, UsageError, suggest
from palette_bench.core.types import Image, Mask
from palette_bench.runtime.tensors import to_pixels, to_tensor
from palette_bench.submission.methods import UserImage
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.preprocess import crop_area

SMALLEST = 16  # pixels
_GRID = 16  # block size of JPEG with halved chroma, pixels
_log = logging.getLogger(__name__)

# (image of an accepted size, whether to use windows) -> (H, W, 3) uint8 of this size, known pixels kept
Restore = Callable[[UserImage, bool], Image]


@dataclass(frozen=True)
class ModelFit:
    """A model and the sizes it accepts.

    Attributes:
        side: trained size, pixels.
        multiple: number that height and width must be multiples of.
        restore: the model.
        warns: whether `native` warns of a size other than `side`; False for sets, whose card records the
            policy.
    """

    side: int
    multiple: int
    restore: Restore
    warns: bool = True


def restore_any_size(image: UserImage, policy: str | None, fit: ModelFit) -> Image:
    """Return an image restored at its own size, (H, W, 3) uint8.

    Args:
        image: at least 16 px on each side.
        policy: "tile", "scale" or "native". None selects "scale" for colorization, whose colours need the
            whole image, and "tile" for the other tasks, which need every pixel.
        fit: the model.

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
    return POLICIES[policy](image, fit)


def _tile(image: UserImage, fit: ModelFit) -> Image:
    height, width = (max(fit.side, _next_multiple(n, _GRID)) for n in image.input.shape[:2])
    return _cropped(fit.restore(_padded(image, height, width), True), image)


def _native(image: UserImage, fit: ModelFit) -> Image:
    height, width = (_next_multiple(n, fit.multiple) for n in image.input.shape[:2])
    if fit.warns and (height, width) != (fit.side, fit.side):
        _log.warning(
            "%s: restored at %d x %d px by a model trained at %d px, which may not know such images",
            *(image.name, width, height, fit.side),
        )
    return _cropped(fit.restore(_padded(image, height, width), False), image)


def _scale(image: UserImage, fit: ModelFit) -> Image:
    longest = max(image.input.shape[:2])
    square = _padded(image, longest, longest)
    small = replace(square, input=crop_area(square.input, fit.side), mask=_mask_at(square.mask, fit.side))
    restored = _resized(fit.restore(small, False), longest)
    if image.task == "colorization":
        # only the colours come from the small output; the luma is the input's at full size
        restored = _with_luma(restored, square.input)
    output = _cropped(to_pixels(restored)[0], image)
    return output if image.mask is None else np.where(image.mask[:, :, None], output, image.input)


POLICIES: Mapping[str, Callable[[UserImage, ModelFit], Image]] = {
    "tile": _tile,
    "scale": _scale,
    "native": _native,
}


def _next_multiple(length: int, multiple: int) -> int:
    return -(-length // multiple) * multiple


def _padded(image: UserImage, height: int, width: int) -> UserImage:
    """Return the image and its mask extended by reflection at the bottom and the right."""
    missing = ((0, height - image.input.shape[0]), (0, width - image.input.shape[1]))
    mask = None if image.mask is None else np.pad(image.mask, missing, mode="symmetric")
    return replace(image, input=np.pad(image.input, (*missing, (0, 0)), mode="symmetric"), mask=mask)


def _cropped(output: Image, image: UserImage) -> Image:
    return output[: image.input.shape[0], : image.input.shape[1]]


def _mask_at(mask: Mask | None, side: int) -> Mask | None:
    """Return a square mask resized to (side, side).

    A resized pixel is masked if any masked source pixel overlaps it, by at least 1/510 of its area.
    """
    if mask is None:
        return None
    shares = crop_area(np.repeat(mask[:, :, None] * np.uint8(255), 3, axis=2), side)
    return shares[:, :, 0] > 0


def _resized(image: Image, side: int) -> torch.Tensor:
    """Return a square image resized bicubically, (1, 3, side, side) float32 in [-1, 1]."""
    return interpolate(to_tensor(image[None]), (side, side), mode="bicubic", antialias=True).clamp(-1, 1)


def _with_luma(image: torch.Tensor, gray: NDArray[np.uint8]) -> torch.Tensor:
    """Return the image with its own chroma and the luma of `gray`.

    Adding the same amount to all channels leaves B - Y and R - Y, the chroma, unchanged.
    """
    weights = torch.tensor([19595, 38470, 7471])[None, :, None, None] / 65536
    return image + (to_tensor(gray[None]) - (image * weights).sum(1, keepdim=True))


# --- windows ---

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


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

    def __init__(self, network: Network, needed: torch.Tensor, side: int, micro_batch: int) -> None:
        self._network = network
        self._side = side
        self._micro_batch = micro_batch
        height, width = needed.shape
        places = [(top, left) for top in starts(height, side) for left in starts(width, side)]
        self._places = [place for place in places if bool(self._cut(needed, place).any())]
        self._weight = _window_weight(side).to(needed.device)
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
        for place, prediction in self._predictions(images, code):
            self._cut(blended, place).add_(prediction * self._weight)
        return blended / self._total.clamp(min=torch.finfo(torch.float32).tiny)

    def _predictions(
        self, images: torch.Tensor, code: torch.Tensor
    ) -> Iterator[tuple[tuple[int, int], torch.Tensor]]:
        for first in range(0, len(self._places), self._micro_batch):
            some = self._places[first : first + self._micro_batch]
            windows = torch.cat([self._cut(images, place) for place in some])
            yield from zip(some, self._network(windows, code.expand(len(some), -1)), strict=True)

    def _cut(self, images: torch.Tensor, place: tuple[int, int]) -> torch.Tensor:
        top, left = place
        return images[..., top : top + self._side, left : left + self._side]


def _window_weight(side: int) -> torch.Tensor:
    """Return (side, side) float32 weights: ramps over the overlap, so that neighbours sum to 1."""
    distance = torch.arange(side) + 0.5
    ramp = (torch.minimum(distance, side - distance) / overlap_of(side)).clamp(max=1)
    return ramp[:, None] * ramp
