"""Distances between two images, of samples of one input or of an output and its original.

LPIPS and DISTS compare features of networks, MS-SSIM compares pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import alexnet, vgg16

from palette_bench.core.errors import InputError, WeightsError
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.types import Fingerprint
from palette_bench.runtime.device import open_device, reproducible_arithmetic
from palette_bench.runtime.tensors import Tensors, load_strictly, parse_tensors, tensor_digest
from palette_bench.scoring.features.extractor import MICRO_BATCH
from palette_bench.scoring.features.network import RANDOM_NOTE, he_normal, normals, seed_of
from palette_bench.scoring.features.preprocess import IMAGENET_MEAN, IMAGENET_STD
from palette_bench.scoring.features.weights import read_pinned

LPIPS = "lpips-alex"
DISTS = "dists-vgg16"
MS_SSIM = "ms-ssim"

# Increased when the same weights and pixels give other distances. Revision 2 ignores the caller's settings.
_REVISION = 2


@dataclass(frozen=True)
class PairDistance:
    """A distance between two images, and its identity.

    Attributes:
        id: name in scorecards.
        notes: notes that every score from it carries, e.g. `random-weights`.
        fingerprint: digest of id, revision, and weights or definition.
        module: maps two (N, 3, H, W) uint8 batches to (N,).
        device: device that the module runs on.
    """

    id: str
    notes: tuple[str, ...]
    fingerprint: Fingerprint
    module: nn.Module
    device: torch.device

    def __call__(self, one: Tensor, other: Tensor) -> NDArray[np.float64]:
        """Return the distances between the images of two (N, 3, H, W) uint8 RGB batches, (N,) float64.

        Raises:
            InputError: shapes differ, or the images are too small.
        """
        if one.shape != other.shape:
            raise InputError(f"pairs must be of one shape: {tuple(one.shape)}, {tuple(other.shape)}")
        size = MICRO_BATCH[self.device.type]
        with reproducible_arithmetic(), torch.inference_mode():
            parts = [
                self.module(one[i : i + size].to(self.device), other[i : i + size].to(self.device))
                for i in range(0, len(one), size)
            ]
            return torch.cat(parts).to("cpu", torch.float64).numpy()


# --- LPIPS ---

_CHANNELS = (64, 192, 384, 256, 256)
_SLICES = (0, 2, 5, 8, 10, 12)  # slices of AlexNet's features; each ends after a ReLU
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # for images in [-1, 1]
_TINY = 1e-10


class _Heads(nn.Module):
    """The learned channel weights of each layer, under the tensor names of the file."""

    def __init__(self) -> None:
        super().__init__()
        for i, channels in enumerate(_CHANNELS):
            layer = nn.Sequential(nn.Dropout(), nn.Conv2d(channels, 1, 1, bias=False))
            self.add_module(f"lin{i}", nn.ModuleDict({"model": layer}))

    def weights(self) -> list[Tensor]:
        """Return the weights of each layer, (C,) each."""
        return [parameter.flatten() for parameter in self.parameters()]


class _Lpips(nn.Module):
    """LPIPS v0.1 with AlexNet. Source: Zhang et al. 2018; richzhang/PerceptualSimilarity, v0.1."""

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: nn.Sequential, heads: _Heads) -> None:
        super().__init__()
        self.trunk, self.heads = trunk, heads
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))

    def _directions(self, images: Tensor) -> list[Tensor]:
        """Return the activations of five layers, normalised to unit length over the channels."""
        maps = (images.float() / 127.5 - 1 - self.shift) / self.scale
        found = []
        for start, end in pairwise(_SLICES):
            maps = self.trunk[start:end](maps)
            found.append(maps / (maps.square().sum(dim=1, keepdim=True).sqrt() + _TINY))
        return found

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return distances, (N,) float64, >= 0, and 0 for equal images."""
        layers = zip(self._directions(one), self._directions(other), self.heads.weights(), strict=True)
        gaps = [torch.einsum("nchw,c->nhw", (a - b).square(), weight) for a, b, weight in layers]
        return torch.stack([gap.double().mean(dim=(1, 2)) for gap in gaps]).sum(dim=0)


# --- DISTS ---

_STAGES = ((0, 4), (5, 9), (10, 16), (17, 23), (24, 30))  # slices of VGG16's features between its poolings
_STAGE_CHANNELS = (3, 64, 128, 256, 512, 512)  # the first stage is the image itself
_STABILISER = 1e-6


class _DistsHeads(nn.Module):
    """The learned weights of each channel's texture and structure, under the tensor names of the file."""

    def __init__(self) -> None:
        super().__init__()
        shape = (1, sum(_STAGE_CHANNELS), 1, 1)
        self.alpha, self.beta = nn.Parameter(torch.empty(shape)), nn.Parameter(torch.empty(shape))

    def weights(self) -> list[tuple[Tensor, Tensor]]:
        """Return alpha and beta of each stage, (C,) float64 each; all of them add up to 1."""
        alpha, beta = self.alpha.double().flatten(), self.beta.double().flatten()
        total = alpha.sum() + beta.sum()
        stages = [torch.split(part / total, list(_STAGE_CHANNELS)) for part in (alpha, beta)]
        return list(zip(*stages, strict=True))


class _Dists(nn.Module):
    """DISTS with VGG16, whose maximum poolings are L2 poolings by a 3 x 3 Hann window.

    Per channel, with means m, variances v and the covariance c of two feature maps x and y, the texture
    similarity is (2 m_x m_y + c1) / (m_x^2 + m_y^2 + c1), and the structure similarity is
    (2 c + c2) / (v_x + v_y + c2), c1 = c2 = 1e-6. The distance is 1 minus the sum of alpha times texture and
    beta times structure over all channels, alpha and beta adding up to 1.

    Source: Ding, Ma, Wang and Simoncelli 2020, section 3; dists-pytorch 0.1.
    """

    window: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, trunk: nn.Sequential, heads: _DistsHeads) -> None:
        super().__init__()
        self.trunk, self.heads = trunk, heads
        line = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", line[:, None] * line)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))

    def _stages(self, images: Tensor) -> list[Tensor]:
        """Return the images in [0, 1] and the activations of five stages."""
        pixels = images.float() / 255
        found, maps = [pixels], (pixels - self.mean) / self.std
        for start, end in _STAGES:
            if start:
                kernel = self.window.expand(maps.shape[1], 1, 3, 3)
                squares = functional.conv2d(maps.square(), kernel, stride=2, padding=1, groups=maps.shape[1])
                maps = (squares + 1e-12).sqrt()
            maps = self.trunk[start:end](maps)
            found.append(maps)
        return found

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return distances, (N,) float64, and 0 for equal images."""
        stages = zip(self._stages(one), self._stages(other), self.heads.weights(), strict=True)
        parts = []
        for x, y, (alpha, beta) in stages:
            texture, structure = _similarities(x.double().flatten(2), y.double().flatten(2))
            # the weights add up to 1, so this is 1 minus the weighted sum, and exactly 0 for equal images
            parts.append((1 - texture) @ alpha + (1 - structure) @ beta)
        return torch.stack(parts).sum(dim=0)


def _similarities(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return texture and structure similarity of each channel, (N, C) each, of two (N, C, H * W) maps."""
    mean_x, mean_y = x.mean(dim=2), y.mean(dim=2)
    texture = (2 * mean_x * mean_y + _STABILISER) / (mean_x**2 + mean_y**2 + _STABILISER)
    x, y = x - mean_x[:, :, None], y - mean_y[:, :, None]
    spread = x.square().mean(dim=2) + y.square().mean(dim=2)
    return texture, (2 * (x * y).mean(dim=2) + _STABILISER) / (spread + _STABILISER)


# --- networks and their weights ---


@dataclass(frozen=True)
class _PairNetwork:
    """A trained distance: its trunk, which is torchvision's, the learned weights, and what they become."""

    trunk: Callable[[], nn.Module]
    heads: Callable[[], nn.Module]
    build: Callable[..., nn.Module]


_NETWORKS = {
    LPIPS: _PairNetwork(partial(alexnet, weights=None), _Heads, _Lpips),
    DISTS: _PairNetwork(partial(vgg16, weights=None, init_weights=False), _DistsHeads, _Dists),
}


def _open_network(name: str, weights: Mapping[str, str], device: str) -> PairDistance:
    where = open_device(device)
    row, heads_name = _NETWORKS[name], f"{name}-heads"
    model: Any = row.trunk()  # AlexNet and VGG have features, which nn.Module does not declare
    heads = row.heads()
    seed = seed_of(name, weights.get(name))
    if seed is None:
        files = _read_all((name, heads_name), weights)
        load_strictly(model, files[name], name)
        load_strictly(heads, files[heads_name], heads_name)
    else:
        he_normal(model.features, seed)
        given = weights.get(heads_name)
        if given is not None:
            load_strictly(heads, parse_tensors(read_pinned(heads_name, given), heads_name), heads_name)
        else:  # random heads are non-negative, as the learned ones are
            for part, parameter in heads.named_parameters():
                drawn = np.abs(normals(seed, part, tuple(parameter.shape)))
                parameter.data.copy_(torch.from_numpy(drawn))
    module = row.build(model.features, heads).eval().requires_grad_(False).to(where)
    identity = {"id": name, "weights": tensor_digest(module.state_dict()), "forward": _REVISION}
    notes = () if seed is None else (RANDOM_NOTE,)
    return PairDistance(name, notes, fingerprint(identity), module, where)


def _read_all(names: Sequence[str], weights: Mapping[str, str]) -> dict[str, Tensors]:
    """Return the tensors of several files; one error names every file that is missing or wrong."""
    tensors, faults = {}, []
    for name in names:
        try:
            tensors[name] = parse_tensors(read_pinned(name, weights.get(name)), name)
        except WeightsError as error:
            faults.append(str(error))
    if faults:
        raise WeightsError(*faults)
    return tensors


# --- MS-SSIM ---

_SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_WINDOW, _SIGMA = 11, 1.5
_STABILISERS = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)
_LEAST_SIDE = _WINDOW * 2 ** (len(_SCALE_WEIGHTS) - 1)


class _MsSsim(nn.Module):
    """Multi-scale SSIM: 5 scales, 11 px Gaussian window, float64, per channel, mean over RGB.

    Only complete windows count. Between scales, images are halved by 2 x 2 means. A negative mean of contrast
    times structure counts as 0, because its fractional power would be complex.

    Source: Wang, Simoncelli and Bovik 2003, equation 7 and section 3.2 (weights); the mean over RGB is the
    reading of metrics, section 4.
    """

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        offsets = torch.arange(_WINDOW, dtype=torch.float64) - _WINDOW // 2
        window = torch.exp(-offsets.square() / (2 * _SIGMA**2))
        self.register_buffer("window", window / window.sum())

    def _smooth(self, maps: Tensor) -> Tensor:
        """Return Gaussian means of (M, 1, H, W) planes over complete windows."""
        across = functional.conv2d(maps, self.window.view(1, 1, 1, -1))
        return functional.conv2d(across, self.window.view(1, 1, -1, 1))

    def _scale(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        """Return two (M,) means at one scale: contrast-structure, and contrast-structure times luminance."""
        small, large = _STABILISERS
        mean_one, mean_other = self._smooth(one), self._smooth(other)
        spread = self._smooth(one * one) + self._smooth(other * other) - mean_one**2 - mean_other**2
        shared = self._smooth(one * other) - mean_one * mean_other
        structure = (2 * shared + large) / (spread + large)
        luminance = (2 * mean_one * mean_other + small) / (mean_one**2 + mean_other**2 + small)
        return structure.mean(dim=(1, 2, 3)), (luminance * structure).mean(dim=(1, 2, 3))

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        """Return similarities, (N,) float64 in [0, 1], and 1 for equal images.

        Raises:
            InputError: a side is under 176 pixels, so the fifth scale has no complete window.
        """
        n, _, height, width = one.shape
        if min(height, width) < _LEAST_SIDE:
            raise InputError(
                f"ms-ssim of {len(_SCALE_WEIGHTS)} scales needs images of at least {_LEAST_SIDE} x "
                f"{_LEAST_SIDE} pixels, not {width} x {height}"
            )
        planes = [side.double().reshape(3 * n, 1, height, width) for side in (one, other)]
        product = torch.ones(3 * n, dtype=torch.float64, device=one.device)
        for i, weight in enumerate(_SCALE_WEIGHTS):
            structure, whole = self._scale(*planes)
            is_last = i == len(_SCALE_WEIGHTS) - 1
            product = product * (whole if is_last else structure).clamp(min=0) ** weight
            planes = [functional.avg_pool2d(plane, 2) for plane in planes]
        return product.view(n, 3).mean(dim=1)


def _open_ms_ssim(weights: Mapping[str, str], device: str) -> PairDistance:
    """Return MS-SSIM; it has no weights and ignores `weights`."""
    where = open_device(device)
    words = "5 scales, 11 px Gaussian of sigma 1.5, RGB mean, levels of 255"
    identity = {"id": MS_SSIM, "definition": words, "forward": _REVISION}
    return PairDistance(MS_SSIM, (), fingerprint(identity), _MsSsim().to(where), where)


PAIRS: Mapping[str, Callable[[Mapping[str, str], str], PairDistance]] = {
    **{name: partial(_open_network, name) for name in _NETWORKS},
    MS_SSIM: _open_ms_ssim,
}
