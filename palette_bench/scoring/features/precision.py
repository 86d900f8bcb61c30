"""Precisions of a forward pass, and the settings every pass runs under.

Source: metrics, section 2.3; trust, section 1.1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch

from palette_bench.core.errors import DeviceError, UsageError, problem, suggest

PREVIEW_NOTE = "preview"
AUDIT_NOTE = "audit"

# where torch may trade the accuracy of float32 products for speed, on GPU and CPU; since torch 2.9
_PLACES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.conv", "mkldnn.matmul", "mkldnn.rnn")


@dataclass(frozen=True)
class Precision:
    """How a network computes.

    Attributes:
        id: name in options and fingerprints.
        pixels: type of resize and normalisation.
        layers: type of weights and activations.
        tf32: GPU products of float32 may drop 13 bits.
        notes: what every score carries.
    """

    id: str
    pixels: torch.dtype
    layers: torch.dtype
    tf32: bool = False
    notes: tuple[str, ...] = ()


PRECISIONS = {
    p.id: p
    for p in (
        Precision("fp32", torch.float32, torch.float32),
        Precision("tf32", torch.float32, torch.float32, tf32=True, notes=(PREVIEW_NOTE,)),
        Precision("bf16", torch.float32, torch.bfloat16, notes=(PREVIEW_NOTE,)),
        Precision("fp64", torch.float64, torch.float64, notes=(AUDIT_NOTE,)),
    )
}


def find_precision(name: str, device: torch.device) -> Precision:
    """Return a row of PRECISIONS that the device can do.

    Raises:
        UsageError: unknown name.
        DeviceError: PB707, tf32 without a GPU that has it.
    """
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}: {suggest(name, PRECISIONS)}")
    if PRECISIONS[name].tf32 and (device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 8):
        raise DeviceError(
            problem(
                "PB707",
                f"--precision {name}",
                expected="a GPU of compute capability 8.0 or later",
                found=str(device),
                fix="use fp32, which is what ranks, or bf16",
            )
        )
    return PRECISIONS[name]


@contextmanager
def repeatable(tf32: bool = False) -> Iterator[None]:
    """Run with the settings of level L0, and restore the caller's afterwards.

    Deterministic algorithms, no cuDNN search, full float32 products unless `tf32`: equal bits on equal
    machines, whatever the caller set.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        with _full_products(tf32), _settings(_SAME_KERNELS):
            yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)


# (name below torch, value): no search among kernels; no filling of fresh memory, which is for debugging
# and costs a write of every activation
_SAME_KERNELS = (
    ("backends.cudnn.benchmark", False),
    ("backends.cudnn.deterministic", True),
    ("utils.deterministic.fill_uninitialized_memory", False),
)


@contextmanager
def _settings(values: tuple[tuple[str, Any], ...]) -> Iterator[None]:
    """Set attributes below torch, and restore what they were."""
    found = []
    for name, value in values:
        owner, _, attribute = name.rpartition(".")
        place = attrgetter(owner)(torch)
        found.append((place, attribute, getattr(place, attribute)))
        setattr(place, attribute, value)
    try:
        yield
    finally:
        for place, attribute, value in reversed(found):
            setattr(place, attribute, value)


@contextmanager
def _full_products(tf32: bool) -> Iterator[None]:
    """Compute float32 products in float32, or in TF32 on a GPU."""
    if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        word = "tf32" if tf32 else "ieee"
        with _settings(tuple((f"backends.{place}.fp32_precision", word) for place in _PLACES)):
            yield
        return
    matmul = torch.get_float32_matmul_precision()  # torch before 2.9
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        with _settings((("backends.cudnn.allow_tf32", tf32),)):
            yield
    finally:
        torch.set_float32_matmul_precision(matmul)
