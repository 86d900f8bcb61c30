"""Discriminators that classify patches of 70 px as real or generated, at several scales.

Source: pix2pix (Isola et al. 2017, section 3.2: the patches), pix2pixHD (Wang et al. 2018, section 3.2: the
scales), SN-GAN (Miyato et al. 2018, algorithm 1: the spectral norm).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.functional import avg_pool2d
from torch.nn.utils.parametrizations import spectral_norm

CHANNELS = 7  # composite (3), source (3), mask (1)
LAYERS = ((64, 2), (128, 2), (256, 2), (512, 1), (1, 1))  # (channels, stride) of the 4x4 convolutions
SLOPE = 0.2  # negative slope of LeakyReLU
SMALLEST = 24  # px; in smaller images the last layer has no positions left
PARAMETERS = 2_768_833  # weights and biases per scale

Judgement = list[torch.Tensor]  # one scale: features of the hidden layers, then (N, 1, h, w) scores


class PatchDiscriminator(nn.Module):
    """A patch discriminator at one scale.

    Args:
        normalised: whether weights are divided by their spectral norm; each forward pass does one power
            iteration.
    """

    def __init__(self, normalised: bool) -> None:
        super().__init__()
        widths = [CHANNELS, *(width for width, _ in LAYERS)]
        convolutions = (
            nn.Conv2d(in_channels, width, 4, stride, padding=1)
            for in_channels, (width, stride) in zip(widths, LAYERS, strict=False)
        )
        self.layers = nn.ModuleList(spectral_norm(c) if normalised else c for c in convolutions)

    def forward(self, h: torch.Tensor) -> Judgement:
        """Return the hidden features and the scores for h, (N, 7, H, W)."""
        *hidden, last = self.layers
        features: Judgement = []
        for layer in hidden:
            h = nn.functional.leaky_relu(layer(h), SLOPE)
            features.append(h)
        return [*features, last(h)]


class Discriminator(nn.Module):
    """Patch discriminators at full resolution, half resolution, a quarter, and so on.

    Args:
        scales: number of scales.
        normalised: as in `PatchDiscriminator`.
    """

    def __init__(self, scales: int, normalised: bool) -> None:
        super().__init__()
        self.scales = nn.ModuleList(PatchDiscriminator(normalised) for _ in range(scales))

    def forward(self, shown: torch.Tensor) -> list[Judgement]:
        """Return hidden features and scores per scale, the finest first.

        Args:
            shown: (N, 7, H, W) float32: composite, x with its holes set to 0, m.
        """
        judgements = []
        for number, patches in enumerate(self.scales):
            shown = avg_pool2d(shown, 2) if number else shown
            judgements.append(patches(shown))
        return judgements


def scores(judgements: Sequence[Judgement]) -> list[torch.Tensor]:
    """Return the scores of each scale, (N, 1, h, w) float32; a positive score means real."""
    return [judgement[-1].float() for judgement in judgements]
