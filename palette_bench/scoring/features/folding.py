"""Folding of batch norms into the convolutions before them: the same function in a third less time.

A batch norm is folded if one forward pass shows that its input is the output of one convolution and that both
run once. If the folded network does not agree with the original one, the original is restored. Source:
metrics, section 2.3.
"""

from __future__ import annotations

from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

# relative to the largest value of a head: a wrong fold is off by about 1, rounding by 1e-4
_TOLERANCE = 1e-2


def fold(network: nn.Module, inputs: Tensor) -> None:
    """Fold all batch norms that can be folded, in place; products are computed in float64.

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
        network.set_submodule(norm, _remainder(before[norm]))
    if not _agree(network(inputs), expected):
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


def _remainder(norm: nn.Module) -> nn.Module:
    """Return what a norm does besides normalising: timm's norms hold a dropout and an activation."""
    return nn.Sequential(*norm.children())


def _agree(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return all(
        bool(
            (found[head] - table).abs().max() <= _TOLERANCE * table.abs().max().clamp(min=torch.finfo().tiny)
        )
        for head, table in expected.items()
    )
