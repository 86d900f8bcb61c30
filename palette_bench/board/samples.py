"""Which pictures a page shows: by rule, never by taste. Source: reports and studies, section 5."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from palette_bench.core.fingerprint import sha256
from palette_bench.core.types import Fingerprint, ImageId

GRID_SIZE = 24
EXTREMES = 8


@dataclass(frozen=True)
class Pick:
    """A picture with its value and the place of that value among all: 0 is the best, 100 the worst."""

    image_id: ImageId
    value: float
    percentile: float


@dataclass(frozen=True)
class Extremes:
    """The worst, middle and best pictures by one column."""

    worst: tuple[Pick, ...]
    median: tuple[Pick, ...]
    best: tuple[Pick, ...]


def grid_ids(set_fingerprint: Fingerprint, ids: Iterable[ImageId], seed: int = 0) -> list[ImageId]:
    """Return the ids of the uncurated grid, `grid-v1`: the same for every method of a set.

    Args:
        set_fingerprint: 64 hexadecimal digits.
        ids: all ids of the set, in any order.
        seed: 0 on published pages.
    """

    def place(image_id: ImageId) -> Fingerprint:
        return sha256(f"grid-v1|{set_fingerprint}|{seed}|{image_id}".encode())

    return sorted(ids, key=place)[:GRID_SIZE]


def grid_rule(shown: int, seed: int = 0) -> str:
    """Return the rule of the grid as a page prints it."""
    other = "" if seed == 0 else f" This grid uses seed {seed}, non-standard: published pages use 0."
    return (
        "These pictures were not picked. grid-v1 orders the ids of a set by the SHA-256 of “grid-v1|set "
        f"fingerprint|{seed}|id” and takes the first {shown}; every method of the set shows the same.{other}"
    )


def ranked_picks(
    table: pd.DataFrame, column: str = "perceptual_distance", *, lower: bool = True
) -> list[Pick]:
    """Return every picture with a finite value of a column, best first, ties by id.

    The percentile is the share of the other pictures that stand before this one.

    Args:
        table: the per-image table.
        column: of numbers; a table without it has no picks.
        lower: whether small values are the better ones.
    """
    if column not in table:
        return []
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64)
    known = [(str(i), float(v)) for i, v in zip(table["image_id"], values, strict=True) if np.isfinite(v)]
    known.sort(key=lambda pair: (pair[1] if lower else -pair[1], pair[0]))
    last = max(len(known) - 1, 1)
    return [Pick(image_id, value, 100.0 * at / last) for at, (image_id, value) in enumerate(known)]


def extremes(picks: list[Pick], most: int = EXTREMES) -> Extremes:
    """Return the worst (worst first), those around the median, and the best.

    Each list holds `most` pictures, or fewer, so that no picture is in two.
    """
    size = min(most, len(picks) // 3)
    middle = (len(picks) - size) // 2
    return Extremes(
        worst=tuple(reversed(picks[len(picks) - size :])),
        median=tuple(picks[middle : middle + size]),
        best=tuple(picks[:size]),
    )
