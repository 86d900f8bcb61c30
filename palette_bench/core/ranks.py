"""Which process of a torchrun launch this is: from its environment alone, so that torch need not load."""

from __future__ import annotations

import os

_LAUNCHED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}  # what torchrun sets


def launched() -> bool:
    """Return whether torchrun started this process."""
    return os.environ.keys() >= _LAUNCHED


def rank_of() -> tuple[int, int]:
    """Return this process's rank and how many there are; 0 of 1 without torchrun."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if launched() else (0, 1)


def speaks() -> bool:
    """Return whether this process may print: all but rank 0 stay silent."""
    return rank_of()[0] == 0


def own_device(name: str) -> str:
    """Return the device of this process: `cuda` means the GPU of its local rank."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and launched() else name
