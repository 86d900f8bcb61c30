"""The form every network of ours has."""

from __future__ import annotations

from torch import Tensor, nn


class Network(nn.Module):
    """A network in two steps, so that pixels and layers may differ in type."""

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return what the first layer sees of (N, 3, H, W) floating pixels in [0, 255]."""
        raise NotImplementedError

    def smallest(self, inputs: Tensor) -> Tensor:
        """Return as much of what `prepare` returned as shows how the layers are joined."""
        return inputs

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return {head: (N, D)} of what `prepare` returned."""
        raise NotImplementedError
