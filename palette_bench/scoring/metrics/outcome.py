"""What a metric takes and returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError
from palette_bench.core.intervals import Interval
from palette_bench.core.types import Features

Direction: TypeAlias = Literal["lower", "higher"]
Role: TypeAlias = Literal["features", "logits"]  # which of an extractor's heads a metric reads


@dataclass(frozen=True)
class Tables:
    """One head of one extractor over a set; rows in id order.

    Attributes:
        outputs: (N, D) float32.
        references: (N, D) float32, the originals of the same ids.
        labels: (N,) int64 class indices, or None if a picture has none.
    """

    outputs: Features
    references: Features
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Outcome:
    """A number, its interval and the columns it adds to the per-image table, (N,) each in id order.

    A value of None carries a note that says why; so does an absent interval.
    """

    value: float | None
    interval: Interval | None = None
    params: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Metric:
    """A row of the table of metrics.

    Attributes:
        id: key in the scorecard.
        title: what it is, for lists.
        head: the head it reads.
        paired: it compares with the originals, so that its score names a reference.
        score: the arithmetic.
    """

    id: str
    title: str
    direction: Direction
    unit: str
    head: Role
    paired: bool
    score: Callable[[Tables], Outcome]


def require_finite(features: NDArray[np.floating[Any]], name: str) -> NDArray[np.float64]:
    """Return (N, D) features in float64.

    Raises:
        InputError: not two-dimensional, empty, or a value is NaN or infinite; the first row is named.
    """
    if features.ndim != 2 or not features.size:
        raise InputError(f"{name} must be (N, D) features with N, D >= 1, not {features.shape}")
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        first = int(broken.argmax())
        raise InputError(
            f"{name}: {int(broken.sum()):,} of {len(broken):,} rows are not finite, first {first}"
        )
    return features.astype(np.float64)
