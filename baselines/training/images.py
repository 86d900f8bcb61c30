"""The border between pictures, (N, H, W, C) uint8, and tensors, (N, 3, H, W) float32 in [-1, 1]."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def to_tensor(pixels: NDArray[np.uint8], device: torch.device | str = "cpu") -> torch.Tensor:
    """Return (N, H, W, 1 or 3) uint8 as (N, 3, H, W) float32, pixel / 127.5 - 1; gray three times."""
    images = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).to(device).permute(0, 3, 1, 2)
    return (images.float() / 127.5 - 1).expand(-1, 3, -1, -1).contiguous()


def to_pixels(images: torch.Tensor) -> NDArray[np.uint8]:
    """Return (N, 3, H, W) float32 as (N, H, W, 3) uint8, floor(clamp(127.5 (y + 1), 0, 255) + 0.5)."""
    levels = (127.5 * (images.float() + 1)).clamp(0, 255).add(0.5).floor()
    return levels.permute(0, 2, 3, 1).to("cpu", torch.uint8).contiguous().numpy()
