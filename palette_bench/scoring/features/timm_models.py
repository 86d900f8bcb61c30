"""Models of timm: EfficientNets with pinned weights, and `timm:MODEL` with given weights."""

from __future__ import annotations

import math
from typing import Any

import timm
from timm.layers.config import set_fused_attn, use_fused_attn
from timm.models import PretrainedCfg
from torch import Tensor

from palette_bench.core.errors import UsageError, suggest
from palette_bench.runtime.tensors import tensor_digest
from palette_bench.scoring.features import IMAGENET, TIMM_PREFIX, ExtractorConfig
from palette_bench.scoring.features.extractor import FeatureExtractor, NetworkInfo, assemble
from palette_bench.scoring.features.network import FeatureNetwork, load_weights
from palette_bench.scoring.features.preprocess import Crop, Preprocess, find_crop, resized_crop
from palette_bench.scoring.metrics.metric import Role

OWN_CROP = "own"
_IMAGENET_CLASSES = 1000
_NAMES = {
    "efficientnet-b0-tf": "tf_efficientnet_b0.in1k",
    "efficientnet-lite0": "tf_efficientnet_lite0.in1k",
    "efficientnet-lite2": "tf_efficientnet_lite2.in1k",
}
_IN_ORDER = ("efficientnet-lite0", "efficientnet-lite2")  # their files use other tensor names


class TimmNetwork(FeatureNetwork):
    """A timm model: (N, 3, S, S) -> `avgpool` (N, D) and, if it has classes, `logits` (N, K).

    `avgpool` is the input of the last layer.
    """

    def __init__(self, model: Any, preprocess: Preprocess) -> None:
        """Wrap a timm model."""
        super().__init__()
        self.preprocess = preprocess
        self.model: Any = model  # timm adds methods that nn.Module does not declare

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return the normalised crop."""
        return self.preprocess(pixels)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return the heads."""
        maps = self.model.forward_features(inputs)
        heads = {"avgpool": self.model.forward_head(maps, pre_logits=True)}
        if self.model.num_classes:
            heads["logits"] = self.model.forward_head(maps)
        return heads


def open_network(wanted: ExtractorConfig) -> FeatureExtractor:
    """Return a timm model as an extractor.

    Raises:
        UsageError: unknown model, crop or precision.
        WeightsError: PB705, weights are missing, have another digest, or are not this network's.
        DeviceError: PB707, this machine lacks the device, or the device lacks the precision.
    """
    name = _NAMES.get(wanted.name, wanted.name.removeprefix(TIMM_PREFIX))
    if not timm.is_model(name):
        raise UsageError(f"timm has no model {name!r}: {suggest(name, timm.list_models())[:200]}")
    config = timm.get_pretrained_cfg(name) or PretrainedCfg()
    crop = _own(config) if wanted.crop == OWN_CROP else find_crop(wanted.crop, (OWN_CROP,))
    preprocess = Preprocess(crop, tuple(config.mean), tuple(config.std))
    network = TimmNetwork(_for_side(name, config, crop.side), preprocess)
    notes = load_weights(network, network.model, wanted, in_order=wanted.name in _IN_ORDER)
    classes = network.model.num_classes
    heads: dict[Role, str] = {"features": "avgpool"}
    if classes:
        heads["logits"] = "logits"
    about = NetworkInfo(
        heads=heads,
        preprocess=preprocess.words,
        label_space=IMAGENET if classes == _IMAGENET_CLASSES else None,
        notes=notes,
    )
    return assemble(wanted, network, tensor_digest(network.model.state_dict()), about)


def _own(config: PretrainedCfg) -> Crop:
    """Return the model's own crop. Source: timm's evaluation transform, crop mode `center`."""
    side = config.input_size[-1]
    return resized_crop(math.floor(side / config.crop_pct), side, config.interpolation)


def create(name: str, **options: Any) -> Any:
    """Return a timm model without weights, with the options of `timm.create_model`.

    It has timm's default, fused attention, whatever the process or TIMM_FUSED_ATTN has set.
    """
    chosen = use_fused_attn(), use_fused_attn(experimental=True)
    set_fused_attn()
    try:
        return timm.create_model(name, pretrained=False, **options)
    finally:
        set_fused_attn(chosen[0], experimental=chosen[1])


def _for_side(name: str, config: PretrainedCfg, side: int) -> Any:
    """Return a model for images of `side`; transformers resample their position embedding for it.

    Raises:
        UsageError: the model accepts only images of its own size.
    """
    if not config.fixed_input_size or config.input_size[-1] == side:
        return create(name)
    try:
        return create(name, dynamic_img_size=True)
    except TypeError as error:
        raise UsageError(
            f"timm:{name} takes images of {config.input_size[-1]} pixels only: use crop {OWN_CROP!r}"
        ) from error
