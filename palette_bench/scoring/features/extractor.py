"""What an extractor is, and the one way all of ours run: float32, repeatable, no gradients."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from palette_bench.core.errors import DeviceError, problem
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.types import Features, Fingerprint
from palette_bench.scoring.features.tensors import Tensors, tensor_digest
from palette_bench.scoring.metrics.outcome import Role

FORWARD_REVISION = 1  # raised when the same weights and pixels give other features


class FeatureExtractor(Protocol):
    """Turns pictures into features; owns its resize.

    Attributes:
        id: name in scorecards.
        heads: the head metrics read for each role.
        label_space: what its classes are, `imagenet-1k` or None.
        notes: what every score from it carries, e.g. `random-weights`.
        fingerprint: digest of id, weights, preprocessing, precision, heads and forward revision.
    """

    @property
    def id(self) -> str: ...  # noqa: D102  # described above
    @property
    def heads(self) -> Mapping[Role, str]: ...  # noqa: D102
    @property
    def label_space(self) -> str | None: ...  # noqa: D102
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def fingerprint(self) -> Fingerprint: ...  # noqa: D102

    def __call__(self, images: Tensor) -> dict[str, Features]:
        """Return {head: (N, D) float32} of (N, 3, H, W) uint8 RGB."""


@dataclass(frozen=True)
class TorchExtractor:
    """A module that maps (N, 3, H, W) uint8 to {head: (N, D)}, with what is known about it."""

    id: str
    network: nn.Module
    heads: Mapping[Role, str]
    label_space: str | None
    notes: tuple[str, ...]
    fingerprint: Fingerprint
    device: torch.device

    def __call__(self, images: Tensor) -> dict[str, Features]:
        """Return {head: (N, D) float32} of (N, 3, H, W) uint8 RGB."""
        with torch.inference_mode(), repeatable():
            tables = self.network(images.to(self.device))
        return {head: table.to("cpu", torch.float32).numpy() for head, table in tables.items()}


def assemble(
    name: str,
    network: nn.Module,
    weights: Tensors,
    *,
    heads: Mapping[Role, str],
    preprocess: str,
    device: str,
    label_space: str | None = None,
    notes: tuple[str, ...] = (),
) -> TorchExtractor:
    """Return the extractor of a loaded network: frozen, on its device, fingerprinted.

    Args:
        name: id.
        network: maps (N, 3, H, W) uint8 to {head: (N, D)}; preprocessing included.
        weights: its tensors, under the names of their file.
        heads: role -> head.
        preprocess: everything done to pixels before the first layer, in words that differ when it does.
        device: cpu or cuda.
        label_space: `imagenet-1k` or None.
        notes: carried by every score.

    Raises:
        DeviceError: PB707.
    """
    where = open_device(device)
    identity = {
        "id": name,
        "weights": tensor_digest(weights),
        "preprocess": preprocess,
        "precision": "fp32",
        "taps": {role: heads[role] for role in sorted(heads)},
        "forward": FORWARD_REVISION,
    }
    frozen = network.eval().requires_grad_(False).to(where)
    return TorchExtractor(name, frozen, heads, label_space, notes, fingerprint(identity), where)


def open_device(name: str) -> torch.device:
    """Return a torch device.

    Raises:
        DeviceError: PB707, cuda without a usable GPU; nothing falls back silently.
    """
    if name != "cpu" and not torch.cuda.is_available():
        raise DeviceError(
            problem(
                "PB707",
                f"--device {name}",
                expected="a CUDA device that torch can use",
                found=f"none (torch {torch.__version__})",
                fix="use --device cpu, or install a CUDA build of torch and its driver",
            )
        )
    return torch.device(name)


@contextmanager
def repeatable() -> Iterator[None]:
    """Run with the settings of level L0, and restore the caller's afterwards.

    Deterministic algorithms, no cuDNN search, no TF32: equal bits on equal machines. Source: trust,
    section 1.1.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    strict, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    tf32 = torch.backends.cuda.matmul.allow_tf32
    torch.use_deterministic_algorithms(True)
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        torch.use_deterministic_algorithms(strict, warn_only=warn)


def as_images(pictures: list[np.ndarray[Any, np.dtype[np.uint8]]]) -> Tensor:
    """Return (N, 3, H, W) uint8 from N pictures of (H, W, 3): the one conversion of layouts."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()
