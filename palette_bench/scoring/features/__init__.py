"""Feature extractors by name. Importing this package imports no network library."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from palette_bench.core.errors import UsageError, WeightsError, suggest

if TYPE_CHECKING:
    from palette_bench.scoring.features.extractor import FeatureExtractor
    from palette_bench.scoring.features.pairs import PairDistance

Weights: TypeAlias = Mapping[str, str]  # extractor id -> path, or random:SEED

TIMM_PREFIX = "timm:"
FID_NETWORK = "inception-v3-fid"
DEFAULT_MODE = "tf1"  # resize mode of the FID network unless the user names one
# files of the distances between two images
PAIR_WEIGHTS = ("lpips-alex", "lpips-alex-heads", "dists-vgg16", "dists-vgg16-heads")
IMAGENET = "imagenet-1k"  # label space of classifiers whose classes are the labels of ImageNet sets

_TORCHVISION = "palette_bench.scoring.features.torchvision_models"
_TIMM = "palette_bench.scoring.features.timm_models"
_TRANSFORMERS = "palette_bench.scoring.features.vision_transformers"

# id -> module whose `open_network(wanted)` builds the extractor
EXTRACTORS: Mapping[str, str] = MappingProxyType(
    {
        FID_NETWORK: "palette_bench.scoring.features.inception",
        "resnet50-v1": _TORCHVISION,
        "efficientnet-b0-v1": _TORCHVISION,
        "efficientnet-b0-tf": _TIMM,
        "efficientnet-lite0": _TIMM,
        "efficientnet-lite2": _TIMM,
        "googlenet-v1": _TORCHVISION,
        "dinov2-vitl14": _TRANSFORMERS,
        "dinov2-vits14": _TRANSFORMERS,
        "clip-vitl14-336": _TRANSFORMERS,
        "smoke-random": "palette_bench.scoring.features.smoke_random",
    }
)


@dataclass(frozen=True)
class ExtractorConfig:
    """The options of an extractor.

    Attributes:
        name: an id of EXTRACTORS, or timm:MODEL.
        weights: path of the weights, `random:SEED`, or None to search the weights store.
        crop: preprocessing of classifiers.
        device: cpu or cuda.
        precision: fp32, tf32, bf16 or fp64.
        mode: resize mode of the FID network and of DINOv2, or None for each network's default.
    """

    name: str
    weights: str | None = None
    crop: str = "center224"
    device: str = "cpu"
    precision: str = "fp32"
    mode: str | None = None


def check_name(name: str) -> None:
    """Raise unless the name is an id of EXTRACTORS or timm:MODEL.

    Raises:
        UsageError: unknown name; the message suggests a known one.
    """
    if name not in EXTRACTORS and not name.startswith(TIMM_PREFIX):
        raise UsageError(f"unknown extractor {name!r}: {suggest(name, [*EXTRACTORS, TIMM_PREFIX + 'MODEL'])}")


def open_extractor(
    name: str, weights: str | None, crop: str, device: str, precision: str = "fp32", mode: str | None = None
) -> FeatureExtractor:
    """Return an extractor, ready to run, with its weights loaded and verified.

    Args:
        name: an id of EXTRACTORS, or timm:MODEL.
        weights: path of the weights, `random:SEED`, or None to search the weights store.
        crop: preprocessing of classifiers: `center224`, `whole224-bicubic`, `whole256`, or for timm:MODEL
            `own`, the model's own preprocessing. The FID network, googlenet-v1, DINOv2, CLIP and smoke-random
            have a fixed one and ignore this argument.
        device: cpu or cuda.
        precision: `fp32`; `tf32` and `bf16` for previews; `fp64` for audits.
        mode: resize mode of the FID network and of DINOv2: `tf1`, `clean` or `pytorch`. None is `tf1` for the
            former and `pytorch` for the latter; other networks ignore this argument.

    Raises:
        UsageError: unknown name, crop, precision or mode, or weights given to a network that takes none.
        WeightsError: PB705, weights are missing, or have another digest or other shapes.
        DeviceError: PB707, this machine lacks the device, or the device lacks the precision; PB708, the
            environment or the caller reduces the precision of float32 products.
    """
    from palette_bench.runtime.device import reproducible_arithmetic  # noqa: PLC0415  # torch, only when needed

    check_name(name)
    home = import_module(EXTRACTORS.get(name, _TIMM))
    with reproducible_arithmetic():
        extractor: FeatureExtractor = home.open_network(
            ExtractorConfig(name, weights, crop, device, precision, mode)
        )
    return extractor


def open_extractors(
    names: Sequence[str], weights: Weights, crop: str, device: str, precision: str, mode: str | None
) -> list[FeatureExtractor]:
    """Return several extractors, opened; the options are those of `open_extractor`.

    Raises:
        WeightsError: PB705, extractors lack their weights; one error names all of them.
        UsageError, DeviceError: as in `open_extractor`.
    """
    opened, missing = [], []
    for name in names:
        try:
            opened.append(open_extractor(name, weights.get(name), crop, device, precision, mode))
        except WeightsError as error:
            missing.append(error)
    if missing:
        raise WeightsError(*(finding for error in missing for finding in error.problems or (str(error),)))
    return opened


def open_pair_distance(
    name: str, weights: Weights = MappingProxyType({}), device: str = "cpu"
) -> PairDistance:
    """Return a distance between two images, of samples of one input or of an output and its original.

    Args:
        name: `lpips-alex`, `dists-vgg16` or `ms-ssim`.
        weights: `lpips-alex` -> path of AlexNet or `random:SEED`, `lpips-alex-heads` -> path of its learned
            weights, and likewise `dists-vgg16` and `dists-vgg16-heads`; files that are not given are searched
            in the weights store.
        device: cpu or cuda.

    Raises:
        UsageError: unknown name.
        WeightsError: PB705, files are missing or wrong; all are named.
        DeviceError: PB707, this machine lacks the device; PB708, the environment or the caller reduces the
            precision of float32 products.
    """
    from palette_bench.runtime.device import reproducible_arithmetic  # noqa: PLC0415  # torch, only when needed
    from palette_bench.scoring.features.pairs import PAIRS  # noqa: PLC0415

    if name not in PAIRS:
        raise UsageError(f"unknown pair distance {name!r}: {suggest(name, PAIRS)}")
    with reproducible_arithmetic():
        return PAIRS[name](weights, device)
