"""`smoke`: a small residual classifier at 64 x 64, trained by a recipe of this repository.

It serves every head offline, on any machine. Its classes are its own, so that its scores compare methods on
small sets, tell nothing of ImageNet labels, and never rank. Source: metrics, section 2.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import as_file, files
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from palette_bench.core.errors import WeightsError, problem
from palette_bench.scoring.features import Wanted
from palette_bench.scoring.features.extractor import Description, TorchExtractor, assemble
from palette_bench.scoring.features.loading import UNPINNED_NOTE
from palette_bench.scoring.features.network import Network
from palette_bench.scoring.features.random_weights import RANDOM_NOTE, randomise, seed_of
from palette_bench.scoring.features.smoke_card import read_proven
from palette_bench.scoring.features.tensors import load_strictly, parse_tensors, tensor_digest

NAME = "smoke"
FILE = "smoke-v1.safetensors"  # shipped in this package, with its card
SMALL_NOTE = "small-network"
SIDE = 64

_STEM = 32
_STAGES = ((32, 1), (64, 2), (128, 2), (256, 1))  # channels and blocks; the stem and each step halve the side
_POOL = 64
_RANDOM_CLASSES = 100


def area64(pixels: Tensor) -> Tensor:
    """Return pictures of any size at 64 x 64: each pixel the mean of the area it covers.

    The weights are whole numbers and the sums exact in float64, so that every machine agrees; pictures of
    64 x 64 come back as they are, multiples of it as the means of whole blocks.

    Args:
        pixels: (N, 3, H, W) floating, whole numbers in [0, 255].

    Returns:
        (N, 3, 64, 64), the same type.
    """
    height, width = pixels.shape[2:]
    if (height, width) == (SIDE, SIDE):
        return pixels
    rows, columns = (_overlaps(side).to(pixels.device) for side in (height, width))
    sums = rows @ pixels.double() @ columns.T
    return (sums / (rows[0].sum() * columns[0].sum())).to(pixels.dtype)


@cache
def _overlaps(side: int) -> Tensor:
    """Return (64, side) float64: how much of each source pixel lies in each target pixel, in whole units.

    A unit is 1 / (64 / g) of a source pixel, g the greatest common divisor of both sides.
    """
    divisor = math.gcd(side, SIDE)
    source, target = SIDE // divisor, side // divisor  # what one pixel measures
    edges = torch.arange(side + 1) * source
    starts = torch.arange(SIDE)[:, None] * target
    return edges.clamp(min=starts, max=starts + target).diff(dim=1).double()


def _layer(inputs: int, outputs: int, size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class _Block(nn.Module):
    """Two convolutions beside a skip; with another width the side is halved too.

    Source: He et al. 2015; the mean in the skip is that of He et al. 2018 (ResNet-D).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        halves = inputs != outputs
        self.first = _layer(inputs, outputs, stride=2 if halves else 1)
        self.second = _layer(outputs, outputs)
        self.skip = nn.Sequential(nn.AvgPool2d(2), _layer(inputs, outputs, 1)) if halves else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Return (N, outputs, H', W') of (N, inputs, H, W)."""
        inner = functional.relu(self.first(maps))
        return functional.relu(self.second(inner) + self.skip(maps))


class SmokeNetwork(Network):
    """(N, 3, 64, 64) -> `pool` (N, 64), standardised over the training pictures, and `logits` (N, K)."""

    def __init__(self, classes: int) -> None:
        """Build the layers for K classes."""
        super().__init__()
        widths = [_STEM, *(width for width, blocks in _STAGES for _ in range(blocks))]
        self.stem = _layer(3, _STEM, stride=2)
        self.blocks = nn.Sequential(*(_Block(*pair) for pair in pairwise(widths)))
        self.reduce = nn.Linear(widths[-1], _POOL, bias=False)
        self.standardise = nn.BatchNorm1d(_POOL, affine=False)
        self.classify = nn.Linear(_POOL, classes)

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return (N, 3, 64, 64) in [-2, 2]."""
        return (area64(pixels) - 128) / 64

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return both heads."""
        maps = self.blocks(functional.relu(self.stem(inputs)))
        pool = self.standardise(self.reduce(maps.mean(dim=(2, 3))))
        return {"pool": pool, "logits": self.classify(pool)}


def open_network(wanted: Wanted) -> TorchExtractor:
    """Return the extractor; crop and mode are for others and do not concern it.

    Raises:
        WeightsError: PB705, weights or card absent, of another digest, or another network's.
        UsageError: a seed that is no number; unknown precision.
        DeviceError: PB707.
    """
    seed = seed_of(NAME, wanted.weights)
    if seed is not None:
        network = SmokeNetwork(_RANDOM_CLASSES)
        randomise(network, network, seed)
        return as_extractor(network, wanted, RANDOM_NOTE)
    if wanted.weights is None:
        return as_extractor(_shipped(), wanted)
    data, card = read_proven(Path(wanted.weights))
    return as_extractor(with_weights(data, len(card.classes)), wanted, UNPINNED_NOTE)


def _shipped() -> SmokeNetwork:
    place = files(__package__) / FILE
    if not place.is_file():
        raise WeightsError(
            problem(
                "PB705",
                NAME,
                expected=f"{FILE} in the package, or --weights",
                found="none shipped with this version",
                fix=f"--weights {NAME}=FILE from `python -m palette_bench.baselines.smoke_extractor`, "
                "or --extractor smoke-random",
            )
        )
    with as_file(files(__package__)) as folder:
        data, card = read_proven(folder / FILE)
    return with_weights(data, len(card.classes))


def with_weights(data: bytes, classes: int) -> SmokeNetwork:
    """Return the network with the tensors of a weights file; half precision is widened to float32.

    Raises:
        WeightsError: PB705, damaged, or another network's.
    """
    network = SmokeNetwork(classes)
    load_strictly(network, parse_tensors(data, NAME), NAME)
    return network


def as_extractor(network: SmokeNetwork, wanted: Wanted, *notes: str) -> TorchExtractor:
    """Return a loaded network as an extractor; its scores carry `small-network` and these notes.

    Raises:
        UsageError: unknown precision.
        DeviceError: PB707.
    """
    about = Description(
        heads={"features": "pool", "logits": "logits"},
        preprocess="area mean to 64; (x - 128) / 64",
        notes=(SMALL_NOTE, *notes),
        revision=2,
    )
    return assemble(wanted, network, tensor_digest(network.state_dict()), about)
