"""`inception-v3-fid`: the network that FID and Inception Score are defined on.

The module is torch-fidelity's. Without a path, its constructor downloads weights, and it unpickles any
content. It is therefore given an empty buffer, and verified tensors are loaded afterwards. Source: metrics,
section 2.
"""

from __future__ import annotations

import io
from typing import Any

import torch
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from palette_bench.runtime.device import reproducible_arithmetic
from palette_bench.runtime.tensors import Tensors, tensor_digest
from palette_bench.scoring.features import DEFAULT_MODE, FID_NETWORK, ExtractorConfig
from palette_bench.scoring.features.extractor import FeatureExtractor, NetworkInfo, assemble
from palette_bench.scoring.features.network import FeatureNetwork, load_weights
from palette_bench.scoring.features.preprocess import MODES, Mode, find_mode

# layers in the order of torch-fidelity's forward pass, from the resized image to pool_3
_TRUNK = (
    *("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "MaxPool_1"),
    *("Conv2d_3b_1x1", "Conv2d_4a_3x3", "MaxPool_2"),
    *("Mixed_5b", "Mixed_5c", "Mixed_5d"),
    *("Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"),
    *("Mixed_7a", "Mixed_7b", "Mixed_7c", "AvgPool"),
)
_CORNER = 107  # pixels; the last maps then have four pixels, at 75 they would have one


class _Unloaded(FeatureExtractorInceptionV3):  # type: ignore[misc]  # torch-fidelity ships no types
    """torch-fidelity's module without weights; its constructor insists on loading something."""

    def __init__(self) -> None:
        """Build the layers."""
        empty = io.BytesIO()
        torch.save({}, empty)
        empty.seek(0)
        super().__init__(FID_NETWORK, ["2048", "logits_unbiased"], feature_extractor_weights_path=empty)

    def load_state_dict(self, state_dict: Any, *args: Any, **options: Any) -> Any:
        """Load a state dictionary; ignore the empty one that the constructor passes."""
        return super().load_state_dict(state_dict, *args, **options) if state_dict else None


class InceptionNetwork(FeatureNetwork):
    """Inception v3: (N, 3, 299, 299) -> `pool_3` (N, 2048) and `logits` (N, 1008), without bias."""

    def __init__(self, mode: Mode) -> None:
        """Build torch-fidelity's module behind a resize."""
        super().__init__()
        self.mode = mode
        self.model = _Unloaded()

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return the resized images, (N, 3, 299, 299), roughly in [-1, 1]."""
        return self.mode(pixels)

    def smallest(self, inputs: Tensor) -> Tensor:
        """Return a corner of the inputs: every layer still has an output, at an eighth of the cost."""
        return inputs[:, :, :_CORNER, :_CORNER]

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return both heads."""
        maps = inputs
        for name in _TRUNK:
            maps = getattr(self.model, name)(maps)
        pool = maps.flatten(1)
        return {"pool_3": pool, "logits": pool @ self.model.fc.weight.T}


def random_tensors(seed: int) -> Tensors:
    """Return the tensors of `random:SEED` under the names of the weights file.

    With them, tests and benchmarks give the same network to other programs.
    """
    with reproducible_arithmetic():
        network = InceptionNetwork(MODES["tf1"])
        load_weights(network, network.model, ExtractorConfig(FID_NETWORK, f"random:{seed}"))
    return dict(network.model.state_dict())


def open_network(wanted: ExtractorConfig) -> FeatureExtractor:
    """Return the FID network as an extractor; it ignores the crop, which is for classifiers.

    Raises:
        UsageError: unknown mode or precision.
        WeightsError: PB705, weights are missing, have another digest, or are not this network's.
        DeviceError: PB707, this machine lacks the device, or the device lacks the precision.
    """
    mode = find_mode(wanted.mode or DEFAULT_MODE)
    network = InceptionNetwork(mode)
    notes = load_weights(network, network.model, wanted)
    about = NetworkInfo(heads={"features": "pool_3", "logits": "logits"}, preprocess=mode.words, notes=notes)
    return assemble(wanted, network, tensor_digest(network.model.state_dict()), about)
