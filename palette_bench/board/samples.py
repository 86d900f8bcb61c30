"""Which pictures a page shows: by rule, never by taste. Source: reports and studies, section 5."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from palette_bench.core.fingerprint import sha256
from palette_bench.core.types import Fingerprint, ImageId

GRID_SIZE = 24
EXTREMES = 8
GRID_RULE = (
    "These pictures were not picked. grid-v1 orders the ids of a set by the SHA-256 of "
    "“grid-v1|set fingerprint|0|id” and takes the first 24; every method of the set shows the same."
)


@dataclass(frozen=True)
class Pick:
    """A picture with its perceptual distance and the place of that value among all, 0 to 100."""

    image_id: ImageId
    value: float
    percentile: float


@dataclass(frozen=True)
class Extremes:
    """The worst, middle and best pictures by perceptual distance."""

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


def ranked_picks(table: pd.DataFrame) -> list[Pick]:
    """Return every picture with a perceptual distance, best first, ties by id.

    The percentile is the share of the other pictures that stand before this one.
    """
    if "perceptual_distance" not in table:
        return []
    known = table.dropna(subset=["perceptual_distance"]).sort_values(["perceptual_distance", "image_id"])
    last = max(len(known) - 1, 1)
    return [
        Pick(str(image_id), float(value), 100.0 * at / last)
        for at, (image_id, value) in enumerate(
            zip(known["image_id"], known["perceptual_distance"], strict=True)
        )
    ]


def extremes(picks: list[Pick]) -> Extremes:
    """Return 8 worst (worst first), 8 around the median and 8 best; fewer, so that no picture is in two."""
    size = min(EXTREMES, len(picks) // 3)
    middle = (len(picks) - size) // 2
    return Extremes(
        worst=tuple(reversed(picks[len(picks) - size :])),
        median=tuple(picks[middle : middle + size]),
        best=tuple(picks[:size]),
    )
