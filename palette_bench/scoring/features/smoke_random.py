"""`smoke-random`: a small residual network with seeded random weights, so that everything runs offline.

Its weights come from keyed draws and exact float32 steps, so its fingerprint is equal on every machine. It
still distinguishes images: stronger JPEG loss gives a larger distance from the originals. Its scores carry
`random-weights` and never rank.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from palette_bench.core.errors import InputError, UsageError
from palette_bench.core.rng import normals
from palette_bench.runtime.tensors import tensor_digest
from palette_bench.scoring.features import ExtractorConfig
from palette_bench.scoring.features.extractor import FeatureExtractor, NetworkInfo, assemble
from palette_bench.scoring.features.network import RANDOM_NOTE, FeatureNetwork

_SIDE = 64
_WIDTHS = (16, 32, 64)
_CLASSES = 100
_SLOPE = 0.2

# mean and standard deviation of each pooled channel over the 256 originals of photos-64, in units of 1/10000
_CENTRES = """
-884 189 5224 3538 521 3025 1174 742 7197 1023 -91 4040 3755 -2028 -655 3400 7268 2004 -1167 6218 1683
5154 2780 4249 -1412 7566 5276 1781 3304 -621 1732 2013 -1224 2889 1148 2905 -957 3333 5335 9497 205
1199 -74 2219 7054 2968 6061 3479 2182 1871 6162 2677 3077 269 -939 1458 -1188 -394 -74 2567 495 -46
3039 2040"""
_SCALES = """
460 673 2061 1049 334 1763 1187 1935 1474 1243 623 1268 1657 541 486 1589 1655 1812 325 3400 994 3327
1188 1267 462 1608 1911 1147 736 215 1126 2464 337 1999 2679 1827 408 732 1879 4854 609 799 298 2050
2203 1959 2127 1379 1323 1744 3068 1023 1257 792 279 822 424 899 751 1705 722 360 3881 824"""


def _convolution(name: str, outputs: int, inputs: int, size: int = 3) -> nn.Parameter:
    """Return a He-normal kernel, (outputs, inputs, size, size), drawn with its name as key."""
    draws = normals(f"palette-bench/smoke-random|1|{name}", (outputs, inputs, size, size))
    scale = np.float32(math.sqrt(2 / (inputs * size * size)) / 4096)
    return nn.Parameter(torch.from_numpy(draws.astype(np.float32) * scale))


def _constants(text: str) -> Tensor:
    return torch.tensor([int(word) for word in text.split()], dtype=torch.float32) / 10_000


class SmokeNetwork(FeatureNetwork):
    """Residual network: (N, 3, 64, 64) -> `pool` (N, 64), roughly standardised, and `logits` (N, 100)."""

    centres: Tensor
    scales: Tensor

    def __init__(self) -> None:
        """Draw the weights."""
        super().__init__()
        self.stem = _convolution("stem", _WIDTHS[0], 3)
        self.blocks = nn.ParameterList(
            _convolution(f"block{i}.{half}", width, width) for i, width in enumerate(_WIDTHS) for half in "ab"
        )
        self.steps = nn.ParameterList(
            _convolution(f"step{i}", after, before) for i, (before, after) in enumerate(pairwise(_WIDTHS))
        )
        self.head = _convolution("head", _CLASSES, _WIDTHS[-1], 1)
        self.register_buffer("centres", _constants(_CENTRES))
        self.register_buffer("scales", _constants(_SCALES))

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return the images reduced to (N, 3, 64, 64) by means of blocks, in [-2, 2].

        Raises:
            InputError: the images are not square, or their side is not a multiple of 64.
        """
        height, width = pixels.shape[2:]
        if height != width or height % _SIDE:
            raise InputError(
                f"smoke-random needs squares of a multiple of {_SIDE} pixels, not {width} x {height}"
            )
        return (functional.avg_pool2d(pixels, height // _SIDE) - 128) / 64

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return both heads."""
        maps = _activate(functional.conv2d(inputs, self.stem, padding=1))
        for i in range(len(_WIDTHS)):
            if i:
                maps = _activate(functional.conv2d(maps, self.steps[i - 1], stride=2, padding=1))
            inner = _activate(functional.conv2d(maps, self.blocks[2 * i], padding=1))
            branch = functional.conv2d(inner, self.blocks[2 * i + 1], padding=1)
            maps = _activate((maps + branch) / math.sqrt(2))
        pool = (maps.mean(dim=(2, 3)) - self.centres) / self.scales
        return {"pool": pool, "logits": functional.linear(pool, self.head.flatten(1))}


def _activate(maps: Tensor) -> Tensor:
    return functional.leaky_relu(maps, _SLOPE)


def open_network(wanted: ExtractorConfig) -> FeatureExtractor:
    """Return smoke-random as an extractor; it ignores crop and mode.

    Raises:
        UsageError: unknown precision, or weights were given, although the network draws its own.
        DeviceError: PB707, this machine lacks the device, or the device lacks the precision.
    """
    if wanted.weights is not None:
        raise UsageError(
            f"--weights {wanted.name}={wanted.weights}: {wanted.name} draws its own weights and takes none"
        )
    network = SmokeNetwork()
    about = NetworkInfo(
        heads={"features": "pool", "logits": "logits"},
        preprocess="block mean to 64; (x - 128) / 64",
        notes=(RANDOM_NOTE,),
        revision=2,
        folds=False,
    )
    return assemble(wanted, network, tensor_digest(network.state_dict()), about)
