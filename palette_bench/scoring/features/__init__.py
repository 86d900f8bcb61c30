"""Feature extractors: names to networks. Importing this package imports no network library."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from palette_bench.core.errors import UsageError, suggest

if TYPE_CHECKING:
    from palette_bench.scoring.features.extractor import FeatureExtractor

TIMM_PREFIX = "timm:"
FID_NETWORK = "inception-v3-fid"
IMAGENET = "imagenet-1k"  # label space of classifiers whose classes are the labels of ImageNet sets

# id -> the module whose `open_network(id, weights, crop, device)` builds it
_HOMES = {
    FID_NETWORK: "palette_bench.scoring.features.inception",
    "resnet50-v1": "palette_bench.scoring.features.timm_models",
    "smoke-random": "palette_bench.scoring.features.smoke",
}


def check_name(name: str) -> None:
    """Accept the name of an extractor: one of the table, or timm:MODEL.

    Raises:
        UsageError: unknown, with a suggestion.
    """
    if name not in _HOMES and not name.startswith(TIMM_PREFIX):
        raise UsageError(f"unknown extractor {name!r}: {suggest(name, [*_HOMES, TIMM_PREFIX + 'MODEL'])}")


def open_extractor(name: str, weights: str | None, crop: str, device: str) -> FeatureExtractor:
    """Return a network with its weights loaded and proven, ready to run.

    Args:
        name: `inception-v3-fid`, `resnet50-v1`, `smoke-random` or `timm:MODEL`.
        weights: path of its weights, `random:SEED`, or None to search the store.
        crop: what classifiers see of a picture, `center224` or `whole224-bicubic`.
        device: cpu or cuda.

    Raises:
        UsageError: unknown name or crop, or weights given to a network that takes none.
        WeightsError: PB705, weights absent, of another digest or of other shapes.
        DeviceError: PB707, no such device.
    """
    check_name(name)
    home = _HOMES.get(name, "palette_bench.scoring.features.timm_models")
    extractor: FeatureExtractor = import_module(home).open_network(name, weights, crop, device)
    return extractor
