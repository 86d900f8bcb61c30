"""Discriminators that classify patches of 70 px as real or generated, at several scales, and their losses.

A score is a discriminator's output; positive means real. All losses are per image: the mean over positions,
then over scales.

Source: pix2pix (Isola et al. 2017, section 3.2: the patches), pix2pixHD (Wang et al. 2018, section 3.2: the
scales), SN-GAN (Miyato et al. 2018, algorithm 1: the spectral norm).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import avg_pool2d, relu, softplus
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


# --- losses ---

OfScores = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class AdversarialLoss:
    """Elementwise losses of discriminator scores.

    Attributes:
        real: the discriminator's loss on real images.
        made: the discriminator's loss on generated images.
        fooling: the generator's loss on generated images.
    """

    real: OfScores
    made: OfScores
    fooling: OfScores


ADVERSARIAL: Mapping[str, AdversarialLoss] = {
    # Lim and Ye 2017, equation 6; Miyato et al. 2018, equations 16 and 17
    "hinge": AdversarialLoss(lambda d: relu(1 - d), lambda d: relu(1 + d), torch.neg),
    # Goodfellow et al. 2014, section 3: -log sigmoid(D), -log(1 - sigmoid(D)), -log sigmoid(D)
    "non-saturating": AdversarialLoss(lambda d: softplus(-d), softplus, lambda d: softplus(-d)),
}


def mean_score(judgements: Sequence[Judgement], of: OfScores) -> torch.Tensor:
    """Return the mean of `of(scores)` over positions, then over scales, (N,) float32."""
    return torch.stack([of(found).mean((1, 2, 3)) for found in scores(judgements)]).mean(0)


def feature_gap(real: Sequence[Judgement], made: Sequence[Judgement]) -> torch.Tensor:
    """Return the L1 distance between hidden features, averaged over layers and scales, (N,) float32.

    The real features are detached, so that no gradient reaches them. Source: pix2pixHD, equation 4.
    """
    gaps = [
        (ours.float() - goal.float().detach()).abs().mean((1, 2, 3))
        for on_real, on_made in zip(real, made, strict=True)
        for goal, ours in zip(on_real[:-1], on_made[:-1], strict=True)
    ]
    return torch.stack(gaps).mean(0)


def squared_slope(judge: Callable[[torch.Tensor], Sequence[Judgement]], images: torch.Tensor) -> torch.Tensor:
    """Return the squared norm of the mean score's gradient with respect to the image, (N,) float32.

    The result is differentiable. Source: Mescheder et al. 2018, equation 9 (R1), without the factor gamma /
    2.

    Args:
        judge: discriminator, images -> judgements.
        images: real images, (N, 3, H, W) float32.
    """
    images = images.detach().requires_grad_()
    score = mean_score(judge(images), lambda d: d).sum()
    (slope,) = torch.autograd.grad(score, images, create_graph=True)
    return slope.square().sum((1, 2, 3))


def accuracy(real: Sequence[Judgement], made: Sequence[Judgement]) -> float:
    """Return the share of positions classified correctly, averaged over scales; both classes weigh alike."""
    found = [
        ((r > 0).float().mean() + (m < 0).float().mean()) / 2
        for r, m in zip(scores(real), scores(made), strict=True)
    ]
    return float(torch.stack(found).mean())
