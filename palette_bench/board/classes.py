"""The table of classes: counts and means, no claim that one class is harder than another.

Source: reports and studies, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from palette_bench.board.album import DISTANCE, labels
from palette_bench.board.words import NOTHING, number
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
    names = table["image_id"].astype(str).map(labels(card, table))
    numbers = pd.DataFrame({"top1": _numbers(table, "top1"), "distance": _numbers(table, DISTANCE)})
    found = numbers.groupby(names).agg(
        n=("top1", "size"), judged=("top1", "count"), right=("top1", "sum"), mean=("distance", "mean")
    )
    rows = [
        _row(str(name), int(n), int(judged), int(right), float(mean), digits)
        for name, n, judged, right, mean in found.itertuples()
    ]
    return sorted(rows, key=lambda row: (len(row.name), row.name))  # 9 before 10


def _numbers(table: pd.DataFrame, column: str) -> pd.Series[float]:
    values = table[column] if column in table else pd.Series(np.nan, table.index)
    return pd.to_numeric(values, errors="coerce")


def _row(name: str, n: int, judged: int, right: int, mean: float, digits: int) -> ClassRow:
    hits = 100 * right / judged if judged else None
    known = mean if np.isfinite(mean) else None
    return ClassRow(
        name=name,
        n=n,
        hits=hits,
        accuracy=f"{number(hits, 0)} %" if judged else NOTHING,
        interval=_interval(right, judged),
        mean=known,
        distance=number(known, digits),
    )


def _interval(successes: int, n: int) -> str:
    """Return the Wilson interval in percent, as printed."""
    if not n:
        return ""
    found = wilson(successes, n)
    return f"{number(100 * found.low, 0)} to {number(100 * found.high, 0)}"
