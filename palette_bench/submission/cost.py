"""Cost of outputs: seconds and network evaluations per image, peak memory, and the hardware."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from palette_bench.submission.card import Sampling


def measured(seconds: float, images: int, steps: int | None) -> dict[str, float | int | None]:
    """Return the cost per image of a batch, for the journal entry of each of its images.

    Args:
        seconds: time of the restorer alone, without start-up, reading and PNG writing.
        images: number of images in the batch, including the copies that fill it up.
        steps: network evaluations per image, or None if the method does not know the number yet.
    """
    return {"seconds": _rounded(seconds / images), "steps": steps}


def with_cost(sampling: Sampling, entries: Sequence[Mapping[str, Any]], device: str) -> Sampling:
    """Return the sampling section of a card, completed by the costs in the journals of all shards.

    Args:
        sampling: the method's own values; each of them takes precedence over the measured value.
        entries: journal entries of all outputs.
        device: device of this process.
    """
    known = [entry["steps"] for entry in entries if entry["steps"] is not None]
    cost = {
        "steps": max(known, default=None),
        "hardware": hardware_name(device),
        "seconds_per_image": _rounded(median(entry["seconds"] for entry in entries)),
    }
    own = sampling.model_dump(exclude_none=True)
    return Sampling.model_validate({**cost, **own})


def _rounded(seconds: float) -> float:
    """Return the value to four significant digits, the precision of the measurement."""
    return float(f"{seconds:.4g}")


def peak_memory(device: str) -> int:
    """Return the peak memory so far in bytes: of the GPU for CUDA, else of this process."""
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415  # methods without a network run without it

        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def hardware_name(device: str) -> str:
    """Return the model name of the GPU for a CUDA device, else of this machine's processor."""
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415  # methods without a network run without it

        return torch.cuda.get_device_name(device)
    lines: list[str] = []
    with suppress(OSError):  # Linux alone has this file
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()
