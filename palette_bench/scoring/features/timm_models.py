"""Classifiers built by timm: `resnet50-v1` with its pinned weights, `timm:MODEL` with given ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from palette_bench.core.errors import InputError, UsageError, WeightsError, problem, suggest
from palette_bench.scoring.features import IMAGENET, TIMM_PREFIX
from palette_bench.scoring.features.extractor import TorchExtractor, assemble
from palette_bench.scoring.features.random_weights import RANDOM_NOTE, randomise, seed_of
from palette_bench.scoring.features.tensors import load_strictly, parse_tensors
from palette_bench.scoring.features.weights import read_given, read_pinned

_SIDE = 224
_IMAGENET_CLASSES = 1000
UNPINNED_NOTE = "unpinned-weights"


def center224(pixels: Tensor) -> Tensor:
    """Return the central 224 x 224 of (N, 3, H, W): no resampling, as the weights were measured.

    Raises:
        InputError: a side is under 224 pixels.
    """
    height, width = pixels.shape[2:]
    if min(height, width) < _SIDE:
        raise InputError(f"center224 needs pictures of at least 224 x 224 pixels, not {width} x {height}")
    top, left = (height - _SIDE) // 2, (width - _SIDE) // 2
    return pixels[:, :, top : top + _SIDE, left : left + _SIDE]


def whole224_bicubic(pixels: Tensor) -> Tensor:
    """Return the whole picture at 224 x 224, bicubic without antialias, not clipped.

    Source: metrics, section 2.2 (as in NVlabs/I2SB).
    """
    return functional.interpolate(
        pixels, size=(_SIDE, _SIDE), mode="bicubic", align_corners=False, antialias=False
    )


CROPS: dict[str, Callable[[Tensor], Tensor]] = {
    "center224": center224,
    "whole224-bicubic": whole224_bicubic,
}


class ClassifierNetwork(nn.Module):
    """(N, 3, H, W) uint8 -> `avgpool` (N, D), the input of the last layer, and `logits` (N, K)."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: Any, crop: str, mean: Sequence[float], std: Sequence[float]) -> None:
        """Wrap a timm model; mean and std are on the scale [0, 1]."""
        super().__init__()
        self.model: Any = model  # timm adds methods that nn.Module does not declare
        self.crop = CROPS[crop]
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return both heads."""
        pixels = (self.crop(images.float()) / 255 - self.mean) / self.std
        maps = self.model.forward_features(pixels)
        return {
            "avgpool": self.model.forward_head(maps, pre_logits=True),
            "logits": self.model.forward_head(maps),
        }


def open_network(name: str, weights: str | None, crop: str, device: str) -> TorchExtractor:
    """Return a classifier as an extractor.

    Raises:
        UsageError: no such timm model or crop.
        WeightsError: PB705, absent, of another digest, or not this network's.
        DeviceError: PB707.
    """
    if crop not in CROPS:
        raise UsageError(f"unknown crop {crop!r}: {suggest(crop, CROPS)}")
    model = _create("resnet50.tv_in1k" if name == "resnet50-v1" else name.removeprefix(TIMM_PREFIX))
    mean, std = tuple(model.pretrained_cfg["mean"]), tuple(model.pretrained_cfg["std"])
    network = ClassifierNetwork(model, crop, mean, std)
    notes = _load(network, name, weights)
    return assemble(
        name,
        network,
        model.state_dict(),
        heads={"features": "avgpool", "logits": "logits"},
        preprocess=f"{crop}; (x / 255 - {mean}) / {std}",
        device=device,
        label_space=IMAGENET if model.num_classes == _IMAGENET_CLASSES else None,
        notes=notes,
    )


def _create(model: str) -> Any:
    if not timm.is_model(model):
        raise UsageError(f"timm has no model {model!r}: {suggest(model, timm.list_models())[:200]}")
    return timm.create_model(model, pretrained=False)


def _load(network: ClassifierNetwork, name: str, weights: str | None) -> tuple[str, ...]:
    """Fill the network; return the notes its scores carry."""
    seed = seed_of(name, weights)
    if seed is not None:
        randomise(network, network.model, seed)
        return (RANDOM_NOTE,)
    is_pinned = not name.startswith(TIMM_PREFIX)
    data = read_pinned(name, weights) if is_pinned else read_given(name, _required(name, weights))
    load_strictly(network.model, parse_tensors(data, name), name)
    return () if is_pinned else (UNPINNED_NOTE,)


def _required(name: str, weights: str | None) -> str:
    if weights is None:
        raise WeightsError(
            problem(
                "PB705",
                name,
                expected="its weights: nothing is downloaded while scoring",
                found="--weights: not given",
                fix=f"--weights {name}=FILE, a safetensors or torch state dictionary",
            )
        )
    return weights
