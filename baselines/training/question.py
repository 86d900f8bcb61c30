"""What a model is asked: pictures of a benchmark set or a person's own, as tensors and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from palette_bench.core.rng import sampling_noise
from palette_bench.core.types import ImageId
from palette_bench.submission.contestant import Batch, OwnPicture

from .images import to_pixels, to_tensor

_FILL = -1  # the noise "step" whose normals fill the holes of own pictures


@dataclass(frozen=True)
class Question:
    """Pictures to restore, on the host.

    Attributes:
        names: N names, which key the noise.
        sample: which of several samples, from 0.
        inputs: (N, H, W, 1 or 3) uint8.
        masks: (N, H, W) bool, True = hole; None without holes.
        fill: (N, 3, H, W) float32 content of the holes, N(0, 1); None without holes.
    """

    names: tuple[ImageId, ...]
    sample: int
    inputs: NDArray[np.uint8]
    masks: NDArray[np.bool_] | None
    fill: torch.Tensor | None

    @classmethod
    def of_batch(cls, batch: Batch) -> Question:
        """Return the question of a batch, its holes filled as the protocol says."""
        fill = None if batch.masks is None else torch.from_numpy(batch.fill()).permute(0, 3, 1, 2)
        return cls(batch.ids, batch.sample, batch.inputs, batch.masks, fill)

    @classmethod
    def of_picture(cls, picture: OwnPicture, seed: int, sample: int = 0) -> Question:
        """Return the question of one picture of any size, its hole filled by the run's seed and its name."""
        inputs = picture.input[None]
        if picture.mask is None:
            return cls((picture.name,), sample, inputs, None, None)
        fill = sampling_noise(seed, picture.name, 0, _FILL, (1, 3, *picture.mask.shape))
        return cls((picture.name,), sample, inputs, picture.mask[None], torch.from_numpy(fill))

    def tensors(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x, (N, 3, H, W) float32, and m, (N, 1, H, W) bool; m is all True without holes."""
        source = to_tensor(self.inputs, device)
        if self.masks is None or self.fill is None:
            return source, torch.ones_like(source[:, :1], dtype=torch.bool)
        mask = torch.from_numpy(np.require(self.masks, requirements="W")).to(device)[:, None]
        return torch.where(mask, self.fill.to(device), source), mask

    def answer(self, images: torch.Tensor) -> NDArray[np.uint8]:
        """Return restored images, (N, 3, H, W) in [-1, 1], as (N, H, W, 3) uint8; known pixels untouched."""
        output = to_pixels(images)
        if self.masks is not None:
            known = ~self.masks
            output[known] = self.inputs[known]
        return output
