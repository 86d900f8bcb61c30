"""Adversarial losses, feature matching and the gradient penalty, all per image.

A score is a discriminator's output; positive means real. The loss of an image is the mean over positions,
then over scales.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import relu, softplus

from .discriminator import Judgement, scores

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
        for there, here in zip(real, made, strict=True)
        for goal, ours in zip(there[:-1], here[:-1], strict=True)
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
