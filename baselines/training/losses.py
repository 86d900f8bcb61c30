"""Losses over the pixels to produce, shared by all methods."""

from __future__ import annotations

from typing import Literal

import torch

Norm = Literal["l1", "l2"]


def masked_loss(
    predicted: torch.Tensor, target: torch.Tensor, mask: torch.Tensor, norm: Norm
) -> torch.Tensor:
    """Return the mean of |predicted - target|^p over the channels and pixels to produce, (N,) float32.

    Args:
        predicted: (N, 3, H, W); f or a picture.
        target: (N, 3, H, W) float32; eps or y.
        mask: m, (N, 1, H, W) bool.
        norm: p is 1 or 2.

    Source: Palette, equation 5 and section 4 (only masked pixels count).
    """
    gap = (predicted.float() - target).abs()
    penalty = gap if norm == "l1" else gap.square()
    return (penalty * mask).sum((1, 2, 3)) / (predicted.shape[1] * _pixels(mask)).clamp(min=1)


def weights(mask: torch.Tensor, reduction: Literal["image", "pixel"]) -> torch.Tensor:
    """Return what each image weighs in the mean over images, (N,) float32: 1, or its pixels to produce."""
    return _pixels(mask) if reduction == "pixel" else torch.ones_like(_pixels(mask))


def _pixels(mask: torch.Tensor) -> torch.Tensor:
    return mask.sum((1, 2, 3), dtype=torch.float32)
