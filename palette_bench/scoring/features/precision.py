"""Precisions of a forward pass. Source: metrics, section 2.3."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from palette_bench.core.errors import DeviceError, UsageError, problem, suggest

PREVIEW_NOTE = "preview"
AUDIT_NOTE = "audit"


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
