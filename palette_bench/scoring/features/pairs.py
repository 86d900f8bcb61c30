"""Distances between two images, for the diversity among samples: LPIPS and MS-SSIM."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import alexnet

from palette_bench.core.errors import InputError, WeightsError
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.types import Fingerprint
from palette_bench.runtime.device import open_device, reproducible_arithmetic
from palette_bench.runtime.tensors import Tensors, load_strictly, parse_tensors, tensor_digest
from palette_bench.scoring.features.extractor import MICRO_BATCH
from palette_bench.scoring.features.network import RANDOM_NOTE, he_normal, normals, seed_of
from palette_bench.scoring.features.weights import read_pinned

LPIPS = "lpips-alex"
LPIPS_HEADS = "lpips-alex-heads"
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


def _open_lpips(weights: Mapping[str, str], device: str) -> PairDistance:
    where = open_device(device)
    model, heads = alexnet(weights=None), _Heads()
    seed = seed_of(LPIPS, weights.get(LPIPS))
    if seed is None:
        files = _read_both(weights)
        load_strictly(model, files[LPIPS], LPIPS)
        load_strictly(heads, files[LPIPS_HEADS], LPIPS_HEADS)
    else:
        he_normal(model.features, seed)
        given = weights.get(LPIPS_HEADS)
        if given is not None:
            load_strictly(heads, parse_tensors(read_pinned(LPIPS_HEADS, given), LPIPS_HEADS), LPIPS_HEADS)
        else:  # random heads are non-negative, as the learned ones are
            for name, parameter in heads.named_parameters():
                drawn = np.abs(normals(seed, name, tuple(parameter.shape)))
                parameter.data.copy_(torch.from_numpy(drawn))
    module = _Lpips(model.features, heads).eval().requires_grad_(False).to(where)
    identity = {"id": LPIPS, "weights": tensor_digest(module.state_dict()), "forward": _REVISION}
    notes = () if seed is None else (RANDOM_NOTE,)
    return PairDistance(LPIPS, notes, fingerprint(identity), module, where)


def _read_both(weights: Mapping[str, str]) -> dict[str, Tensors]:
    """Return the tensors of both files; one error names every file that is missing or wrong."""
    tensors, faults = {}, []
    for name in (LPIPS, LPIPS_HEADS):
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
    LPIPS: _open_lpips,
    MS_SSIM: _open_ms_ssim,
}
