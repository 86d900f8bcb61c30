"""Classifiers of torchvision with their first (V1) weights: ResNet-50, EfficientNet-B0, GoogLeNet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torchvision.models import efficientnet_b0, googlenet, resnet50

from palette_bench.runtime.tensors import tensor_digest
from palette_bench.scoring.features import IMAGENET, ExtractorConfig
from palette_bench.scoring.features.extractor import FeatureExtractor, NetworkInfo, assemble
from palette_bench.scoring.features.network import FeatureNetwork, load_weights
from palette_bench.scoring.features.preprocess import Preprocess, find_crop
from palette_bench.scoring.metrics.metric import Role


@dataclass(frozen=True)
class _Row:
    """A model: its constructor, the name of its last layer, its heads, and its fixed crop, if any."""

    build: Callable[[], nn.Module]
    last: str
    heads: tuple[Role, ...] = ("features", "logits")
    crop: str | None = None


_ROWS = {
    "resnet50-v1": _Row(partial(resnet50, weights=None), "fc"),
    "efficientnet-b0-v1": _Row(partial(efficientnet_b0, weights=None), "classifier"),
    # The weights expect inputs in [-1, 1], and the file holds two auxiliary classifiers. Perceptual distance
    # reads only the pooled features.
    "googlenet-v1": _Row(
        partial(googlenet, weights=None, transform_input=True, aux_logits=True, init_weights=False),
        "fc",
        ("features",),
        "whole224-bicubic",
    ),
}
_NAMES: dict[Role, str] = {"features": "avgpool", "logits": "logits"}


class TorchvisionNetwork(FeatureNetwork):
    """A torchvision classifier: (N, 3, S, S) -> `avgpool` (N, D) and `logits` (N, 1000).

    `avgpool` is the input of the last layer.
    """

    def __init__(self, model: nn.Module, preprocess: Preprocess, last: str) -> None:
        """Wrap a torchvision classifier whose last layer is called `last`."""
        super().__init__()
        self.preprocess = preprocess
        self.model = model
        self.last = last

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return the normalised crop."""
        return self.preprocess(pixels)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return both heads."""
        pooled: list[Tensor] = []
        hook = self.model.get_submodule(self.last).register_forward_pre_hook(
            lambda module, args: pooled.append(args[0])
        )
        try:
            logits = self.model(inputs)
        finally:
            hook.remove()
        return {"avgpool": pooled[0], "logits": logits}


def open_network(wanted: ExtractorConfig) -> FeatureExtractor:
    """Return a classifier as an extractor.

    Raises:
        UsageError: unknown crop or precision.
        WeightsError: PB705, weights are missing, have another digest, or are not this network's.
        DeviceError: PB707, this machine lacks the device, or the device lacks the precision.
    """
    row = _ROWS[wanted.name]
    preprocess = Preprocess(find_crop(row.crop or wanted.crop))
    network = TorchvisionNetwork(row.build(), preprocess, row.last)
    notes = load_weights(network, network.model, wanted)
    about = NetworkInfo(
        heads={role: _NAMES[role] for role in row.heads},
        preprocess=preprocess.words,
        label_space=IMAGENET if "logits" in row.heads else None,
        notes=notes,
    )
    return assemble(wanted, network, tensor_digest(network.model.state_dict()), about)
