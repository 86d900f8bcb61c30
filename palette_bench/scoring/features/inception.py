"""`inception-v3-fid`: the network that FID and Inception Score are defined on.

The module is torch-fidelity's, with TensorFlow 1's resize inside (mode `tf1`). Its own constructor
downloads when given no path and unpickles freely: it is handed a buffer with our proven tensors.
Source: metrics, sections 2.1 and 2.2.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from palette_bench.scoring.features.extractor import TorchExtractor, assemble
from palette_bench.scoring.features.random_weights import RANDOM_NOTE, randomise, seed_of
from palette_bench.scoring.features.tensors import Tensors, parse_tensors
from palette_bench.scoring.features.weights import read_pinned

_TAPS = ["2048", "logits_unbiased"]


class _Unloaded(FeatureExtractorInceptionV3):  # type: ignore[misc]  # torch-fidelity ships no types
    """The module as built: its constructor insists on loading something."""

    def load_state_dict(self, *args: Any, **options: Any) -> None:
        """Load nothing."""


class InceptionNetwork(nn.Module):
    """(N, 3, H, W) uint8 -> `pool_3` (N, 2048) and `logits` (N, 1008), without bias."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap torch-fidelity's module."""
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return both heads."""
        pool, logits = self.model(images)
        return {"pool_3": pool, "logits": logits}


def _build(cls: type[nn.Module], tensors: Tensors) -> nn.Module:
    buffer = io.BytesIO()
    torch.save(dict(tensors), buffer)
    buffer.seek(0)
    return cls("inception-v3-fid", _TAPS, feature_extractor_weights_path=buffer)


def open_network(name: str, weights: str | None, crop: str, device: str) -> TorchExtractor:
    """Return the extractor; `crop` is for classifiers and does not concern it.

    Raises:
        WeightsError: PB705.
        DeviceError: PB707.
    """
    seed = seed_of(name, weights)
    if seed is None:
        tensors = parse_tensors(read_pinned(name, weights), name)
        network = InceptionNetwork(_build(FeatureExtractorInceptionV3, tensors))
    else:
        network = InceptionNetwork(_build(_Unloaded, {}))
        randomise(network, network.model, seed)
    return assemble(
        name,
        network,
        network.model.state_dict(),
        heads={"features": "pool_3", "logits": "logits"},
        preprocess="tf1: bilinear to 299, src = dst * in/out, no antialias; (x - 128) / 128",
        device=device,
        notes=() if seed is None else (RANDOM_NOTE,),
    )
