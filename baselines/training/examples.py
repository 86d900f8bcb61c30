"""What a trained method meets: pairs of reference and source, and the draws keyed to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from .recipe import Task

HOLED: tuple[Task, ...] = ("inpainting", "uncropping")  # tasks whose sources have a hole


@dataclass(frozen=True)
class Examples:
    """A micro-batch of training pairs, on the device.

    Attributes:
        step: the optimiser step they belong to, from 0.
        positions: (N,) int64, the place of each in the global batch; with the step it keys every draw.
        tasks: N task names.
        reference: y, (N, 3, S, S) float32 in [-1, 1].
        source: x, (N, 3, S, S) float32: the input in [-1, 1], with N(0, 1) in the hole.
        mask: m, (N, 1, S, S) bool, the pixels to produce; all True for tasks without holes.
    """

    step: int
    positions: NDArray[np.int64]
    tasks: tuple[str, ...]
    reference: torch.Tensor
    source: torch.Tensor
    mask: torch.Tensor

    @property
    def holes(self) -> torch.Tensor:
        """Return the pixels that sources lack, (N, 1, S, S) bool; unlike m, none for tasks without holes."""
        holed = torch.tensor([task in HOLED for task in self.tasks], device=self.mask.device)
        return self.mask & holed[:, None, None, None]


class Draws(Protocol):
    """Keyed randomness: equal for equal (run seed, step, position, purpose), on any rank or batch."""

    def uniform(self, examples: Examples, purpose: str) -> NDArray[np.float64]:
        """Return (N,) float64 in [0, 1)."""

    def below(self, examples: Examples, purpose: str, n: int) -> NDArray[np.int64]:
        """Return (N,) int64 in [0, n)."""

    def normal(self, examples: Examples, purpose: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return (N, *shape) float32 standard normals on the examples' device."""
