"""A network at its trained size on a picture of any size: overlapping windows, blended at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

Network = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def overlap_of(side: int) -> int:
    """Return how far neighbouring windows overlap: 64 px at 256, in proportion elsewhere."""
    return side // 4


def starts(length: int, side: int) -> list[int]:
    """Return where windows start along a side of `length` >= `side` pixels; the last ends with it.

    At trained sizes that are multiples of 64, starts lie on the 16 px grid of JPEG, as in training,
    if `length` does.
    """
    return [*range(0, length - side, side - overlap_of(side)), length - side]


class Tiled:
    """Wraps a network: called with a whole picture, it runs on windows and blends what comes back.

    Blended after every prediction, all windows work on one picture and one noise field, so no seam can
    grow between them.

    Args:
        network: (n, 6, side, side) and codes (n, width) -> (n, 3, side, side).
        needed: (H, W) bool, the pixels to produce; windows without any are left out. H, W >= side.
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
            (1, 3, H, W) float32; 0 outside all windows.
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
    """Return (side, side) float32 weights: ramps over the overlap, so that neighbours add to 1."""
    distance = torch.arange(side) + 0.5
    ramp = (torch.minimum(distance, side - distance) / overlap_of(side)).clamp(max=1)
    return ramp[:, None] * ramp
