"""Preprocessing of images for networks: crops of classifiers, and resizes of whole images.

Source: metrics, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from palette_bench.core.errors import InputError, UsageError, suggest

# --- crops of classifiers ---

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _central(pixels: Tensor, side: int, name: str) -> Tensor:
    height, width = pixels.shape[2:]
    if min(height, width) < side:
        raise InputError(f"{name} needs images of at least {side} x {side} pixels, not {width} x {height}")
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[:, :, top : top + side, left : left + side]


def center224(pixels: Tensor) -> Tensor:
    """Return the central 224 x 224 pixels of (N, 3, H, W) images without resampling.

    The accuracies of the weights were measured on this crop.

    Raises:
        InputError: a side is under 224 pixels.
    """
    return _central(pixels, 224, "center224")


def whole224_bicubic(pixels: Tensor) -> Tensor:
    """Return the whole image resized to 224 x 224, bicubic without antialias, not clipped.

    Source: metrics, section 2.2 (as in NVlabs/I2SB).
    """
    return functional.interpolate(
        pixels, size=(224, 224), mode="bicubic", align_corners=False, antialias=False
    )


def whole256(pixels: Tensor) -> Tensor:
    """Return the image unchanged.

    Raises:
        InputError: the image is not 256 x 256.
    """
    if pixels.shape[2:] != (256, 256):
        raise InputError(f"whole256 needs images of 256 x 256 pixels, not {_size(pixels)}")
    return pixels


def _size(pixels: Tensor) -> str:
    return f"{pixels.shape[3]} x {pixels.shape[2]}"


@dataclass(frozen=True)
class Crop:
    """A crop: its description in the fingerprint, the side of its result, and its function."""

    words: str
    side: int
    cut: Callable[[Tensor], Tensor]


CROPS = {
    "center224": Crop("center224", 224, center224),
    "whole224-bicubic": Crop("whole224-bicubic", 224, whole224_bicubic),
    "whole256": Crop("whole256", 256, whole256),
}


def find_crop(name: str, others: Sequence[str] = ()) -> Crop:
    """Return the entry of CROPS; `others` are further names to suggest in the error.

    Raises:
        UsageError: unknown name.
    """
    if name not in CROPS:
        raise UsageError(f"unknown crop {name!r}: {suggest(name, [*CROPS, *others])}")
    return CROPS[name]


def resized_crop(scaled: int, side: int, interpolation: str) -> Crop:
    """Return the crop of a model's own recipe: a resize with antialias, then a central crop.

    Args:
        scaled: side after the resize, pixels.
        side: side of the central square, pixels.
        interpolation: `bilinear` or `bicubic`.

    Raises:
        UsageError: another interpolation.
    """
    if interpolation not in ("bilinear", "bicubic"):
        raise UsageError(
            f"crop 'own': the model's interpolation is {interpolation!r}, not bilinear or bicubic"
        )

    def cut(pixels: Tensor) -> Tensor:
        if pixels.shape[2] != pixels.shape[3]:
            raise InputError(f"crop own needs square images, not {_size(pixels)}")
        resized = functional.interpolate(
            pixels, size=(scaled, scaled), mode=interpolation, align_corners=False, antialias=True
        )
        return _central(resized.clamp(0, 255), side, "own")

    return Crop(f"own: {interpolation} to {scaled}, antialias, float, clipped; centre {side}", side, cut)


@dataclass(frozen=True)
class Preprocess:
    """A crop, followed by (x / 255 - mean) / std per channel."""

    crop: Crop
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def words(self) -> str:
        """Return a description for the fingerprint, which changes whenever the preprocessing does."""
        return f"{self.crop.words}; (x / 255 - {self.mean}) / {self.std}"

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the input of the first layer for (N, 3, H, W) floating-point pixels in [0, 255]."""
        mean, std = (
            torch.tensor(v, dtype=pixels.dtype, device=pixels.device).view(1, 3, 1, 1)
            for v in (self.mean, self.std)
        )
        return (self.crop.cut(pixels) / 255 - mean) / std


# --- resizes of whole images ---

SIDE = 299  # of the FID network's inputs
_PILLOW_ONE = 1 << 22


def tf1(pixels: Tensor, side: int = SIDE) -> Tensor:
    """Return (N, 3, side, side) by TensorFlow 1's bilinear resize: src = dst * in / out, no antialias.

    The last row and column are repeated and the images resized to side + 1 with aligned corners, which gives
    the scale (in + 1 - 1) / (side + 1 - 1) = in / side. The last row and column of the result are dropped.

    Args:
        pixels: (N, 3, H, W) floating point.
        side: side of the result, pixels.

    Source: the scale is that of TensorFlow 1 and torch-fidelity; this way of computing it is ours.
    """
    padded = functional.pad(pixels, (0, 1, 0, 1), mode="replicate")
    larger = functional.interpolate(padded, size=(side + 1, side + 1), mode="bilinear", align_corners=True)
    return larger[:, :, :side, :side]


def clean(pixels: Tensor, side: int = SIDE) -> Tensor:
    """Return (N, 3, side, side) by a bicubic resize with antialias in floating point, clipped to [0, 255].

    The resize runs in float64, because torch's kernel weights in float32 are off by up to 3e-3 of 255.

    Source: clean-fid's resizer (Pillow's bicubic on each channel as float).
    """
    resized = functional.interpolate(
        pixels.double(), size=(side, side), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.clamp_(0, 255).to(pixels.dtype)


def pytorch(pixels: Tensor) -> Tensor:
    """Return (N, 3, 299, 299) by a bilinear resize with half-pixel centres, no antialias.

    Source: pytorch-fid.
    """
    return functional.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


def pillow_bicubic(pixels: Tensor, side: int) -> Tensor:
    """Return (N, 3, side, side) as Pillow's bicubic resize of 8-bit images, to the bit.

    Pillow resizes rows, then columns, with antialias and weights of 22 bits, and rounds to whole levels after
    each. All products and sums here are whole numbers below 2^53, so every device gives the same levels.

    Args:
        pixels: (N, 3, H, W) floating point, whole levels in [0, 255].
        side: side of the result, pixels.

    Source: Pillow, `Resample.c`, which torchvision's `Resize` calls for images of Pillow.
    """
    rows, columns = (
        torch.from_numpy(_pillow_weights(size, side)).to(pixels.device) for size in pixels.shape[2:]
    )
    levels = _whole_levels(pixels.double() @ columns.T)
    return _whole_levels(rows @ levels).to(pixels.dtype)


def _whole_levels(sums: Tensor) -> Tensor:
    return (sums / _PILLOW_ONE + 0.5).floor_().clamp_(0, 255)


@cache
def _pillow_weights(size: int, side: int) -> NDArray[np.float64]:
    """Return the (side, size) weights of Pillow's bicubic kernel, a = -0.5, as whole multiples of 2^-22."""
    scale = size / side
    centres = (np.arange(side) + 0.5) * scale
    x = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(scale, 1.0)
    near, far = (1.5 * x - 2.5) * x * x + 1, -0.5 * (((x - 5) * x + 8) * x - 4)
    kernel = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    weights = kernel / kernel.sum(axis=1, keepdims=True) * _PILLOW_ONE
    return np.asarray(np.trunc(weights + np.copysign(0.5, weights)))


def pillow_square(side: int) -> Crop:
    """Return the crop of CMMD: the largest central square, resized to `side` by `pillow_bicubic`.

    Source: google-research/cmmd, `io_util._center_crop_and_resize`.
    """

    def cut(pixels: Tensor) -> Tensor:
        return pillow_bicubic(_central(pixels, min(pixels.shape[2:]), "pillow_square"), side)

    return Crop(f"central square; Pillow's bicubic to {side}, 8 bit", side, cut)


@dataclass(frozen=True)
class Mode:
    """A resize and its normalisation (x - centre) / scale."""

    words: str
    resize: Callable[[Tensor], Tensor]
    centre: float
    scale: float

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return the input of the first layer for (N, 3, H, W) floating-point pixels in [0, 255]."""
        return (self.resize(pixels) - self.centre) / self.scale


# resize modes of the FID network
MODES = {
    "tf1": Mode("tf1: bilinear to 299, src = dst * in/out, no antialias; (x - 128) / 128", tf1, 128.0, 128.0),
    "clean": Mode("clean: bicubic to 299, antialias, float, clipped; (x - 128) / 128", clean, 128.0, 128.0),
    "pytorch": Mode(
        "pytorch: bilinear to 299, half-pixel, no antialias; x / 127.5 - 1", pytorch, 127.5, 127.5
    ),
}


def find_mode(name: str) -> Mode:
    """Return the entry of MODES.

    Raises:
        UsageError: unknown name.
    """
    if name not in MODES:
        raise UsageError(f"unknown preprocess mode {name!r}: {suggest(name, MODES)}")
    return MODES[name]


# The same names, for networks with normalised inputs. Source: torch-fidelity (tf1), and dgm-eval without
# (pytorch) and with --clean_resize (clean).
_WHOLE: dict[str, tuple[str, Callable[[Tensor, int], Tensor]]] = {
    "tf1": ("tf1: bilinear to {}, src = dst * in/out, no antialias", tf1),
    "clean": ("clean: bicubic to {}, antialias, float, clipped", clean),
    "pytorch": ("pytorch: Pillow's bicubic to {}, 8 bit", pillow_bicubic),
}


def whole_image(mode: str, side: int) -> Crop:
    """Return the resize of a whole image to a square, as the crop of a network with normalised inputs.

    Args:
        mode: `tf1`, `clean` or `pytorch`.
        side: side of the square, pixels.

    Raises:
        UsageError: unknown mode.
    """
    find_mode(mode)
    words, resize = _WHOLE[mode]
    return Crop(words.format(side), side, lambda pixels: resize(pixels, side))
