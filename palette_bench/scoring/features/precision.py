"""Numerical precisions of a forward pass. Source: metrics, section 2.3."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from palette_bench.core.errors import DeviceError, UsageError, suggest

PREVIEW_NOTE = "preview"
AUDIT_NOTE = "audit"


@dataclass(frozen=True)
class Precision:
    """The dtypes of a forward pass.

    Attributes:
        id: name in options and fingerprints.
        pixels: dtype of resize and normalisation.
        layers: dtype of weights and activations.
        tf32: whether float32 products on a GPU may use TF32, which drops 13 bits.
        notes: notes that every score carries.
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
    """Return the entry of PRECISIONS, if the device supports it.

    Raises:
        UsageError: unknown name.
        DeviceError: PB707, tf32 on a device without TF32.
    """
    if name not in PRECISIONS:
        raise UsageError(f"unknown precision {name!r}: {suggest(name, PRECISIONS)}")
    if PRECISIONS[name].tf32 and (device.type != "cuda" or torch.cuda.get_device_capability(device)[0] < 8):
        raise DeviceError.of(
            "PB707",
            f"--precision {name}",
            expected="a GPU of compute capability 8.0 or later",
            found=str(device),
            fix="use fp32, which is what ranks, or bf16",
        )
    return PRECISIONS[name]
