"""Weight tensors and image tensors.

Functions parse verified weights files, digest tensors, load them into a network, and convert between uint8
images and tensors in [-1, 1].
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from palette_bench.core.errors import WeightsError
from palette_bench.core.fingerprint import fingerprint, sha256
from palette_bench.core.types import Fingerprint

Tensors: TypeAlias = Mapping[str, Tensor]


def parse_tensors(data: bytes, where: str) -> Tensors:
    """Return the tensors of a safetensors or torch file without running any code that the file holds.

    Args:
        data: content of the file, whose digest was checked before.
        where: name of the file in error messages.

    Raises:
        WeightsError: PB705, the data has neither format, is damaged, or holds anything but named tensors.
    """
    try:
        if data[8:9] == b"{":  # safetensors: 8 bytes of header length, then JSON
            tensors = safetensors.torch.load(data)
        else:
            tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch documents no list of errors: damaged files raise a dozen kinds
        raise _unusable(where, str(error).partition("\n")[0][:200]) from error
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise _unusable(where, "not a flat dictionary of tensors")
    return tensors


def _unusable(where: str, found: str) -> WeightsError:
    expected = "a state dictionary of tensors, safetensors or torch"
    fix = "give the weights file itself; convert a training checkpoint to its state dictionary"
    return WeightsError.of("PB705", where, expected=expected, found=found, fix=fix)


def counted(tensors: Tensors) -> dict[str, Tensor]:
    """Return the tensors without batch counters, so that torchvision's and timm's files compare equal."""
    return {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}


def tensor_digest(tensors: Tensors) -> Fingerprint:
    """Return the digest of the sorted names, dtypes, shapes and bytes of tensors, without batch counters."""
    rows = [
        [name, str(t.dtype), list(t.shape), sha256(t.detach().cpu().contiguous().numpy().tobytes())]
        for name, t in sorted(counted(tensors).items())
    ]
    return fingerprint(rows)


def verify_tensors(data: bytes, pinned: Fingerprint | None, where: str) -> Fingerprint:
    """Return the tensor digest of a weights file; raise if the digest differs from the pinned one.

    Args:
        data: content of the file.
        pinned: expected digest of the tensors, or None to skip the comparison.
        where: name of the file in error messages.

    Raises:
        WeightsError: PB705, the digest differs, or the file holds no state dictionary.
    """
    digest = tensor_digest(parse_tensors(data, where))
    if pinned not in (None, digest):
        expected = f"tensors {pinned}"
        fix = "report this: the pinned file gives other tensors on this machine"
        raise WeightsError.of("PB705", where, expected=expected, found=f"tensors {digest}", fix=fix)
    return digest


def load_strictly(network: nn.Module, tensors: Tensors, where: str) -> None:
    """Load weights into a network in place; half precision is widened to the network's own dtype.

    Raises:
        WeightsError: PB705, names or shapes differ; the message counts all differences and names the first
            three.
    """
    wanted, given = counted(network.state_dict()), counted(tensors)
    faults = [f"missing {name}" for name in wanted if name not in given]
    faults += [f"unknown {name}" for name in given if name not in wanted]
    faults += [
        f"{name} is {tuple(given[name].shape)}, not {tuple(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    if faults:
        expected = f"the {len(wanted):,} tensors of the network"
        found = f"{len(faults):,} differences, first: {'; '.join(faults[:3])}"
        fix = "give the weights of this network"
        raise WeightsError.of("PB705", where, expected=expected, found=found, fix=fix)
    network.load_state_dict(dict(given), strict=False)


def to_tensor(pixels: NDArray[np.uint8], device: torch.device | str = "cpu") -> torch.Tensor:
    """Return images scaled from [0, 255] to [-1, 1]; gray is repeated in three channels.

    Args:
        pixels: (N, H, W, 1 or 3) uint8.
        device: device of the result.

    Returns:
        (N, 3, H, W) float32, pixel / 127.5 - 1.
    """
    # a writable copy if needed: torch warns about read-only arrays
    images = torch.from_numpy(np.require(pixels, requirements=("C", "W"))).to(device).permute(0, 3, 1, 2)
    return (images.float() / 127.5 - 1).expand(-1, 3, -1, -1).contiguous()


def to_pixels(images: torch.Tensor) -> NDArray[np.uint8]:
    """Return images in [-1, 1] as rounded and clipped uint8 pixels.

    Args:
        images: (N, 3, H, W) floating point.

    Returns:
        (N, H, W, 3) uint8, floor(clamp(127.5 (y + 1), 0, 255) + 0.5).
    """
    levels = (127.5 * (images.float() + 1)).clamp(0, 255).add(0.5).floor()
    return levels.permute(0, 2, 3, 1).to("cpu", torch.uint8).contiguous().numpy()
