"""The base class of feature networks; filling them with stored or random weights; folding of batch norms."""

from __future__ import annotations

import hashlib
import math
from copy import deepcopy
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import fuse_conv_bn_eval

from palette_bench.core.errors import UsageError, WeightsError
from palette_bench.runtime.tensors import counted, load_strictly, parse_tensors
from palette_bench.scoring.features import ExtractorConfig
from palette_bench.scoring.features import weights as store
from palette_bench.scoring.scorecard import UNPINNED

PREFIX = "random:"
RANDOM_NOTE = "random-weights"
_CALIBRATION_IMAGES = 16
_CALIBRATION_SIDE = 256


def seed_of(name: str, given: str | None) -> int | None:
    """Return SEED of `random:SEED`, or None if `given` is a path or None.

    Raises:
        UsageError: the seed is not a number.
    """
    if given is None or not given.startswith(PREFIX):
        return None
    text = given.removeprefix(PREFIX)
    if not text.isdecimal():
        raise UsageError(f"--weights {name}={given}: write {PREFIX}SEED with a number, e.g. {PREFIX}0")
    return int(text)


def normals(seed: int, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return normal draws for a seed and a name, from NumPy, because torch's own vary with the machine."""
    key = hashlib.sha256(f"pb-random-weights|{seed}|{name}".encode()).digest()[:16]
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))
    return generator.standard_normal(shape, dtype=np.float32)


@torch.no_grad()
def he_normal(model: nn.Module, seed: int) -> None:
    """Fill a model, in place, with He-normal weights; each tensor has its own random key.

    Source: He et al. 2015.
    """
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            scale = np.float32(math.sqrt(2 / math.prod(parameter.shape[1:])))
            parameter.copy_(torch.from_numpy(normals(seed, name, tuple(parameter.shape)) * scale))
        else:
            parameter.fill_(0.0 if name.endswith("bias") else 1.0)


@torch.no_grad()
def randomise(network: FeatureNetwork, model: nn.Module, seed: int) -> None:
    """Fill a model with He-normal weights and calibrate its batch norms on 16 generated images.

    The calibration is our addition: without it, activations explode with depth.

    Args:
        network: network that runs through `model`.
        model: module to fill, in place.
        seed: >= 0.
    """
    he_normal(model, seed)
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative mean over batches
        norm.train()
    network(network.prepare(drawn_images(_CALIBRATION_IMAGES).float()))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def drawn_images(count: int) -> Tensor:
    """Return (count, 3, 256, 256) uint8 random images, count <= 16: coarse colour patches with fine noise."""
    side, patch = _CALIBRATION_SIDE, 32
    draw = np.random.Generator(np.random.Philox(key=0))
    coarse: NDArray[Any] = draw.integers(0, 256, (_CALIBRATION_IMAGES, 3, side // patch, side // patch))
    fine = draw.integers(-20, 21, (_CALIBRATION_IMAGES, 3, side, side))
    pixels = np.clip(coarse.repeat(patch, axis=2).repeat(patch, axis=3) + fine, 0, 255)
    return torch.from_numpy(pixels[:count].astype(np.uint8))


class FeatureNetwork(nn.Module):
    """A network in two steps, so that preprocessing and layers may use different dtypes."""

    def prepare(self, pixels: Tensor) -> Tensor:
        """Return the input of the first layer for (N, 3, H, W) floating-point pixels in [0, 255]."""
        raise NotImplementedError

    def smallest(self, inputs: Tensor) -> Tensor:
        """Return a part of prepared inputs that is large enough to show how the layers are connected."""
        return inputs

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return {head: (N, D)} for prepared inputs."""
        raise NotImplementedError


def load_weights(
    network: FeatureNetwork,
    model: nn.Module,
    wanted: ExtractorConfig,
    *,
    in_order: bool = False,
    file: str = "a safetensors or torch state dictionary",
) -> tuple[str, ...]:
    """Fill a network with weights; return the notes that its scores carry.

    Args:
        network: network that runs through `model`.
        model: module that holds the tensors, under the names of the weights file.
        wanted: name and weights of the extractor.
        in_order: whether the pinned file holds the tensors in the network's order but under other names.
        file: which file the user is told to give if the weights are not pinned.

    Raises:
        UsageError: the seed is not a number.
        WeightsError: PB705, weights are missing, have another digest, or are not this network's.
    """
    seed = seed_of(wanted.name, wanted.weights)
    if seed is not None:
        randomise(network, model, seed)
        return (RANDOM_NOTE,)
    is_pinned = wanted.name in store.pinned()
    if is_pinned:
        data = store.read_pinned(wanted.name, wanted.weights)
    elif wanted.weights is not None:
        data = store.read_given(wanted.name, wanted.weights)
    else:
        expected = "its weights: nothing is downloaded while scoring"
        fix = f"--weights {wanted.name}=FILE, {file}"
        raise WeightsError.of("PB705", wanted.name, expected=expected, found="--weights: not given", fix=fix)
    tensors = parse_tensors(data, wanted.name)
    if in_order and is_pinned:
        tensors = dict(zip(counted(model.state_dict()), counted(tensors).values(), strict=True))
    load_strictly(model, tensors, wanted.name)
    return () if is_pinned else (UNPINNED,)


# --- folding ---

# relative to the largest value of a head: a wrong fold is off by about 1, rounding by 1e-4
_TOLERANCE = 1e-2


def fold(network: nn.Module, inputs: Tensor) -> None:
    """Fold all batch norms that can be folded, in place: the same function in a third less time.

    A batch norm is folded into the convolution before it if one forward pass shows that its input is the
    output of that convolution and that both run once. Products are computed in float64. If the folded network
    does not agree with the original one, the original is restored. Source: metrics, section 2.3.

    Args:
        network: in evaluation mode, maps inputs to {head: (N, D)}.
        inputs: a batch that the network accepts, in the network's dtype.
    """
    if not any(isinstance(module, nn.BatchNorm2d) for module in network.modules()):
        return
    pairs, expected = _trace(network, inputs)
    before = {name: network.get_submodule(name) for pair in pairs for name in pair}
    for convolution, norm in pairs:
        network.set_submodule(convolution, _folded(before[convolution], before[norm]))
        # what a norm does besides normalising: timm's norms hold a dropout and an activation
        network.set_submodule(norm, nn.Sequential(*before[norm].children()))
    found, tiny = network(inputs), torch.finfo().tiny
    agree = [
        bool((found[head] - table).abs().max() <= _TOLERANCE * table.abs().max().clamp(min=tiny))
        for head, table in expected.items()
    ]
    if not all(agree):
        for name, module in before.items():
            network.set_submodule(name, module)


def _trace(network: nn.Module, inputs: Tensor) -> tuple[list[tuple[str, str]], dict[str, Tensor]]:
    """Return the names of all (convolution, norm) that can be folded, and the network's outputs."""
    outputs: dict[int, tuple[str, Tensor]] = {}  # tensors are kept alive so that no id is reused
    pairs: list[tuple[str, str]] = []
    ran: list[str] = []

    def after_convolution(name: str, module: nn.Module, args: Any, output: Tensor) -> None:
        ran.append(name)
        outputs[id(output)] = (name, output)

    def before_norm(name: str, module: nn.Module, args: Any) -> None:
        ran.append(name)
        if id(args[0]) in outputs:
            pairs.append((outputs[id(args[0])][0], name))

    handles = []
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(partial(after_convolution, name)))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(partial(before_norm, name)))
    expected = network(inputs)
    for handle in handles:
        handle.remove()
    return [pair for pair in pairs if all(ran.count(name) == 1 for name in pair)], expected


def _folded(convolution: Any, norm: Any) -> nn.Module:
    dtype = convolution.weight.dtype
    exact: nn.Module = fuse_conv_bn_eval(deepcopy(convolution).double(), deepcopy(norm).double())
    return exact.to(dtype)
