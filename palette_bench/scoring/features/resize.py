"""Preprocess modes of the FID network: how a picture becomes 299 x 299. No mode rounds after resizing.

The modes differ by 1 to 2 levels in the mean, enough to move FID; each is part of the fingerprint, so
that no two share a column. Source: metrics, section 2.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from palette_bench.core.errors import UsageError, suggest

SIDE = 299


def tf1(pixels: Tensor) -> Tensor:
    """Return (N, 3, 299, 299) by TensorFlow 1's bilinear resize: src = dst * in / out, no antialias.

    Repeating the last row and column and resizing to 300 with aligned corners gives the scale
    (in + 1 - 1) / (300 - 1) = in / 299; the last row and column of the result are dropped.

    Args:
        pixels: (N, 3, H, W) floating.

    Source: the scale is that of TensorFlow 1 and torch-fidelity; the way to it is ours.
    """
    padded = functional.pad(pixels, (0, 1, 0, 1), mode="replicate")
    larger = functional.interpolate(padded, size=(SIDE + 1, SIDE + 1), mode="bilinear", align_corners=True)
    return larger[:, :, :SIDE, :SIDE]


def clean(pixels: Tensor) -> Tensor:
    """Return (N, 3, 299, 299) by a bicubic resize with antialias in floating point, clipped to [0, 255].

    It runs in float64: torch's kernel weights in float32 are off by up to 3e-3 of 255.

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
    """A resize, and the normalisation (x - centre) / scale that goes with it."""

    words: str
    resize: Callable[[Tensor], Tensor]
    centre: float
    scale: float

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return what the first layer sees of (N, 3, H, W) floating pixels in [0, 255]."""
        return (self.resize(pixels) - self.centre) / self.scale


MODES = {
    "tf1": Mode("tf1: bilinear to 299, src = dst * in/out, no antialias; (x - 128) / 128", tf1, 128.0, 128.0),
    "clean": Mode("clean: bicubic to 299, antialias, float, clipped; (x - 128) / 128", clean, 128.0, 128.0),
    "pytorch": Mode(
        "pytorch: bilinear to 299, half-pixel, no antialias; x / 127.5 - 1", pytorch, 127.5, 127.5
    ),
}


def find_mode(name: str) -> Mode:
    """Return a row of MODES.

    Raises:
        UsageError: unknown name.
    """
    if name not in MODES:
        raise UsageError(f"unknown preprocess mode {name!r}: {suggest(name, MODES)}")
    return MODES[name]
