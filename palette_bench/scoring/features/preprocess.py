"""Preprocessing of images for networks: crops of classifiers, and resize modes of the FID network.

Source: metrics, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
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


# --- resize modes of the FID network ---

SIDE = 299


def tf1(pixels: Tensor) -> Tensor:
    """Return (N, 3, 299, 299) by TensorFlow 1's bilinear resize: src = dst * in / out, no antialias.

    The last row and column are repeated and the images resized to 300 with aligned corners, which gives the
    scale (in + 1 - 1) / (300 - 1) = in / 299. The last row and column of the result are dropped.

    Args:
        pixels: (N, 3, H, W) floating point.

    Source: the scale is that of TensorFlow 1 and torch-fidelity; this way of computing it is ours.
    """
    padded = functional.pad(pixels, (0, 1, 0, 1), mode="replicate")
    larger = functional.interpolate(padded, size=(SIDE + 1, SIDE + 1), mode="bilinear", align_corners=True)
    return larger[:, :, :SIDE, :SIDE]


def clean(pixels: Tensor) -> Tensor:
    """Return (N, 3, 299, 299) by a bicubic resize with antialias in floating point, clipped to [0, 255].

    The resize runs in float64, because torch's kernel weights in float32 are off by up to 3e-3 of 255.

    Source: clean-fid's resizer (Pillow's bicubic on each channel as float).
    """
    resized = functional.interpolate(
        pixels.double(), size=(SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True
    )
    return resized.clamp_(0, 255).to(pixels.dtype)


def pytorch(pixels: Tensor) -> Tensor:
    """Return (N, 3, 299, 299) by a bilinear resize with half-pixel centres, no antialias.

    Source: pytorch-fid.
    """
    return functional.interpolate(pixels, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


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
