"""The regression: the network that denoises, told that there is no noise and shown no noisy picture.

Source: Palette, section 4 (baselines): "the same architecture", trained with an L2 loss.
"""

from __future__ import annotations

import torch
from torch import nn

from ..training.examples import Draws, Examples
from ..training.losses import masked_loss, weights
from ..training.objective import Losses, Player
from ..training.presets import known_parameters
from ..training.tiling import Network
from ..training.unet import UNet, sinusoids
from .recipe import RegressionRecipe


def regress(network: Network, source: torch.Tensor, width: int) -> torch.Tensor:
    """Return the expected picture, (N, 3, H, W) float32 near [-1, 1].

    Args:
        network: reads its output as the picture.
        source: x, (N, 3, H, W) float32.
        width: of the network's code, here always the sinusoids of position 0.
    """
    code = sinusoids(torch.zeros(len(source), device=source.device), width)
    return network(torch.cat([torch.zeros_like(source), source], dim=1), code).float()


class Regressing:
    """The training objective: one network, the mean squared error over the pixels to produce.

    Args:
        recipe: resolved.
        device: where the network lives.
    """

    def __init__(self, recipe: RegressionRecipe, device: torch.device) -> None:
        self._training = recipe.training
        spec = recipe.network.spec
        self._width = spec.width
        network = UNet(spec, checkpointing=recipe.speed.checkpointing).to(device)
        rates = recipe.training.learning_rate, recipe.training.betas
        self.players: tuple[Player, ...] = (
            Player("network", network, *rates, self.loss, parameters=known_parameters(spec)),
        )

    def loss(self, network: nn.Module, examples: Examples, draws: Draws) -> Losses:
        """Return the squared error of each example; nothing is drawn."""
        predicted = regress(network, examples.source, self._width)
        values = masked_loss(predicted, examples.reference, examples.mask, "l2")
        return Losses(values, weights(examples.mask, self._training.reduction))

    @torch.no_grad()
    def preview(self, network: nn.Module, examples: Examples, draws: Draws) -> torch.Tensor:
        """Return the examples restored, (N, 3, S, S) float32 in [-1, 1]."""
        restored = regress(network, examples.source, self._width).clamp(-1, 1)
        return torch.where(examples.mask, restored, examples.reference)
