"""The table of classes: counts and means, no claim that one class is harder than another.

Source: reports and studies, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from palette_bench.board.album import DISTANCE, labels
from palette_bench.board.words import number
from palette_bench.core.intervals import wilson
from palette_bench.scoring.scorecard import Scorecard

FEW = 8  # a class with fewer pictures says so


@dataclass(frozen=True)
class ClassRow:
    """A class as a page prints it; `hits` and `mean` sort the table and are None where unknown."""

    name: str
    n: int
    hits: float | None
    accuracy: str
    interval: str
    mean: float | None
    distance: str

    @property
    def few(self) -> bool:
        """Return whether too few pictures stand behind the numbers to read much into them."""
        return self.n < FEW


def class_rows(card: Scorecard, table: pd.DataFrame, digits: int) -> list[ClassRow]:
    """Return a row per class, by name; none where pictures have no labels.

    Args:
        card: whose protocol names the classes.
        table: its per-image table.
        digits: decimals of the mean perceptual distance.
    """
    named = labels(card, table)
    return list(_rows(table.assign(name=table["image_id"].astype(str).map(named)), digits)) if named else []


def _rows(table: pd.DataFrame, digits: int) -> Iterator[ClassRow]:
    for name, part in table.groupby("name"):
        top1, distances = _numbers(part, "top1"), _numbers(part, DISTANCE)
        mean = float(distances.mean()) if len(distances) else None
        hits = 100 * float(top1.mean()) if len(top1) else None
        yield ClassRow(
            name=str(name),
            n=len(part),
            hits=hits,
            accuracy=f"{number(hits, 0)} %" if hits is not None else number(None, 0),
            interval=_interval(int(top1.sum()), len(top1)),
            mean=mean,
            distance=number(mean, digits),
        )


def _numbers(part: pd.DataFrame, column: str) -> pd.Series[float]:
    return pd.to_numeric(part[column], errors="coerce").dropna() if column in part else pd.Series(dtype=float)


def _interval(successes: int, n: int) -> str:
    """Return the Wilson interval in percent, as printed."""
    if not n:
        return ""
    found = wilson(successes, n)
    return f"{number(100 * found.low, 0)} to {number(100 * found.high, 0)}"
