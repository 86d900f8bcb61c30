"""What is known of one format: sound samples, the package's own reader, and what a reading means."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from mutations import mutated


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        file: the name it is read under.
        samples: sound files.
        read: returns the meaning of a file.
        inside: damages a sample below its checksums; None where there are none.
        sealed: accepted means unchanged, unless damaged `inside`.
        beside: further files its reader needs, by name.
        memory: bytes a reading may take.
    """

    file: str
    samples: tuple[bytes, ...]
    read: Callable[[Path], Any]
    inside: Callable[[bytes, Random], bytes] | None = None
    sealed: bool = False
    beside: tuple[tuple[str, bytes], ...] = ()
    memory: int = 50_000_000


def noise(seed: int, *shape: int) -> np.ndarray:
    """Return random bytes of a shape."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def inside_zip(data: bytes, random: Random) -> bytes:
    """Damage the content of one member, and write the archive anew."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        chosen = random.choice(names)
        for name in names:
            data = old.read(name)
            new.writestr(name, mutated(data, random) if name == chosen else data)
    return buffer.getvalue()
