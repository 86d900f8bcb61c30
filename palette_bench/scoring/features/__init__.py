"""Feature extractors: names to networks. Importing this package imports no network library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

from palette_bench.core.errors import UsageError, suggest

if TYPE_CHECKING:
    from palette_bench.scoring.features.extractor import FeatureExtractor
    from palette_bench.scoring.features.pairs import PairDistance

TIMM_PREFIX = "timm:"
FID_NETWORK = "inception-v3-fid"
IMAGENET = "imagenet-1k"  # label space of classifiers whose classes are the labels of ImageNet sets

_INCEPTION = "palette_bench.scoring.features.inception"
_TORCHVISION = "palette_bench.scoring.features.torchvision_models"
_TIMM = "palette_bench.scoring.features.timm_models"
_SMOKE_RANDOM = "palette_bench.scoring.features.smoke_random"

# id -> the module whose `open_network(wanted)` builds it
EXTRACTORS: Mapping[str, str] = MappingProxyType(
    {
        FID_NETWORK: _INCEPTION,
        "resnet50-v1": _TORCHVISION,
        "efficientnet-b0-v1": _TORCHVISION,
        "efficientnet-b0-tf": _TIMM,
        "efficientnet-lite0": _TIMM,
        "efficientnet-lite2": _TIMM,
        "googlenet-v1": _TORCHVISION,
        "smoke-random": _SMOKE_RANDOM,
    }
)


@dataclass(frozen=True)
class ExtractorConfig:
    """An extractor as asked for.

    Attributes:
        name: an id of EXTRACTORS, or timm:MODEL.
        weights: path of its weights, `random:SEED`, or None to search the store.
        crop: what classifiers see of an image.
        device: cpu or cuda.
        precision: fp32, tf32, bf16 or fp64.
        mode: how the FID network's images are resized.
    """

    name: str
    weights: str | None = None
    crop: str = "center224"
    device: str = "cpu"
    precision: str = "fp32"
    mode: str = "tf1"


def check_name(name: str) -> None:
    """Accept the name of an extractor: one of the table, or timm:MODEL.

    Raises:
        UsageError: unknown, with a suggestion.
    """
    if name not in EXTRACTORS and not name.startswith(TIMM_PREFIX):
        raise UsageError(f"unknown extractor {name!r}: {suggest(name, [*EXTRACTORS, TIMM_PREFIX + 'MODEL'])}")


def open_extractor(
    name: str,
    weights: str | None,
    crop: str,
    device: str,
    precision: str = "fp32",
    mode: str = "tf1",
) -> FeatureExtractor:
    """Return a network with its weights loaded and proven, ready to run.

    Args:
        name: an id of EXTRACTORS, or timm:MODEL.
        weights: path of its weights, `random:SEED`, or None to search the store.
        crop: what classifiers see of an image: `center224`, `whole224-bicubic`, `whole256`, or for
            timm:MODEL `own`, the model's own preprocessing. The FID network, googlenet-v1 and smoke-random
            have one of their own and leave it aside.
        device: cpu or cuda.
        precision: `fp32`; previews `tf32` and `bf16`; audit `fp64`.
        mode: resize of the FID network: `tf1`, `clean` or `pytorch`; the others leave it aside.

    Raises:
        UsageError: unknown name, crop, precision or mode, or weights given to a network that takes none.
        WeightsError: PB705, weights absent, of another digest or of other shapes.
        DeviceError: PB707, no such device, or one that cannot do the precision; PB708, float32 products are
            reduced from outside.
    """
    from palette_bench.runtime.device import reproducible_arithmetic  # noqa: PLC0415  # torch, only when needed

    check_name(name)
    home = import_module(EXTRACTORS.get(name, _TIMM))
    with reproducible_arithmetic():
        extractor: FeatureExtractor = home.open_network(
            ExtractorConfig(name, weights, crop, device, precision, mode)
        )
    return extractor


def open_pair_distance(
    name: str, weights: Mapping[str, str] = MappingProxyType({}), device: str = "cpu"
) -> PairDistance:
    """Return a distance between images, for diversity.

    Args:
        name: `lpips-alex` or `ms-ssim`.
        weights: `lpips-alex` -> path of AlexNet or `random:SEED`, `lpips-alex-heads` -> path of the heads;
            what is absent is searched in the store.
        device: cpu or cuda.

    Raises:
        UsageError: unknown name.
        WeightsError: PB705, for every file that is absent or wrong.
        DeviceError: PB707; PB708, float32 products are reduced from outside.
    """
    from palette_bench.runtime.device import reproducible_arithmetic  # noqa: PLC0415  # torch, only when needed
    from palette_bench.scoring.features.pairs import PAIRS  # noqa: PLC0415

    if name not in PAIRS:
        raise UsageError(f"unknown pair distance {name!r}: {suggest(name, PAIRS)}")
    with reproducible_arithmetic():
        return PAIRS[name](weights, device)
