"""What outputs cost: seconds and network evaluations per image, and on which hardware."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from palette_bench.submission.card import Sampling

_MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes


def measured(seconds: float, images: int, steps: int | None) -> dict[str, float | int | None]:
    """Return what a batch cost, for the journal entry of each of its images.

    Args:
        seconds: the restorer's own; start-up, reading and PNG writing apart.
        images: in the batch, copies that fill it up included.
        steps: network evaluations per image, if the method knows them by now.
    """
    return {"seconds": _rounded(seconds / images), "steps": steps}


def with_cost(sampling: Sampling, entries: Sequence[Mapping[str, Any]], device: str) -> Sampling:
    """Return what a card says of sampling, completed by what the journals of all shards measured.

    Args:
        sampling: what the method says itself; it is believed where it says something.
        entries: of every output.
        device: where this process computed.
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
    """Return four significant digits: a clock tells no more."""
    return float(f"{seconds:.4g}")


def peak_memory(device: str | None) -> float:
    """Return the most memory held so far, gigabytes: of the GPU, or of this process."""
    if device is not None and device.startswith("cuda"):
        import torch  # noqa: PLC0415  # methods without a network run without it

        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT / 1e9


def hardware_name(device: str) -> str:
    """Return the plain name of a device: the model of the GPU, or of this machine's processor."""
    if device.startswith("cuda"):
        import torch  # noqa: PLC0415  # methods without a network run without it

        return torch.cuda.get_device_name(device)
    return _processor() or platform.processor() or platform.machine()


def _processor() -> str:
    """Return the model name Linux gives the processor, or nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "")
