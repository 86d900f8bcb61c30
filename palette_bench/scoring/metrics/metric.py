"""The inputs, outcome and table rows of metrics, and checks of feature arrays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError
from palette_bench.core.intervals import Estimate, Interval
from palette_bench.core.types import Direction, Features
from palette_bench.scoring.metrics.moments import Moments

Role: TypeAlias = Literal["features", "logits"]  # which of an extractor's heads a metric reads
KernelId: TypeAlias = Literal["cubic", "gaussian"]
TestId: TypeAlias = Literal["mcnemar", "paired-t", "z-influence", "z-log-mean"]


@dataclass(frozen=True)
class ReferenceSet:
    """The reference that distances of clouds compare with.

    Attributes:
        id: `originals`, `val-full@<preprocessing>` or `imported:<12 hex>`.
        n: number of images.
        features: (M, D) float32 in id order, or None if only moments are available.
        moments: moments of the features.
        kernel_mean: mean of the metric's kernel over the reference's own pairs (`kid.self_mean`,
            `cmmd.self_mean`), or None to compute it when needed.
        paired: whether the reference holds the originals of the same outputs, in the same order.
    """

    id: str
    n: int
    features: Features | None
    moments: Moments
    kernel_mean: float | None = None
    paired: bool = False

    @classmethod
    def of(cls, name: str, features: Features, *, paired: bool = False) -> ReferenceSet:
        """Return the reference made of (M, D) features.

        Raises:
            InputError: a value is not finite.
        """
        check_finite(features, "reference")
        return cls(name, len(features), features, Moments.of(features), paired=paired)


@dataclass(frozen=True)
class FeatureTables:
    """The features of one head of one extractor over a set; rows are in id order.

    Attributes:
        outputs: (N, D) float32.
        originals: (N, D) float32, the originals of the same ids.
        reference: what a `referenced` metric compares with; None for other metrics.
        labels: (N,) int64 class indices, or None if an image has no label.
        classes: number of classes in the whole set, or None to count those of `labels`.
        shared: what several metrics of these tables compute once; `replace` empties it.
    """

    outputs: Features
    originals: Features
    reference: ReferenceSet | None = None
    labels: NDArray[np.int64] | None = None
    classes: int | None = None
    shared: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)


@dataclass(frozen=True)
class MetricOutcome(Estimate):
    """The value of a metric, its interval, and its columns of the per-image table, (N,) each in id order.

    If the value or the interval is None, a note says why.
    """

    value: float | None
    interval: Interval | None = None
    params: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class MetricRow:
    """The part that the rows of all tables of metrics share.

    Attributes:
        id: key in the scorecard.
        name: its name on pages.
        meaning: what it measures, in one clause, on pages.
        title: description in lists.
    """

    id: str
    name: str
    meaning: str
    title: str
    direction: Direction
    unit: str


@dataclass(frozen=True)
class RankingRow(MetricRow):
    """A row of a table whose metrics may rank.

    Attributes:
        role: its name on boards if it ranks, which covers its other forms.
        test: the paired test that tells two systems apart; None for metrics that never rank.
        column: the column of the per-image table that the test reads.
    """

    role: str = field(default="", kw_only=True)
    test: TestId | None = field(default=None, kw_only=True)
    column: str = field(default="", kw_only=True)


@dataclass(frozen=True)
class Metric(RankingRow):
    """A row of the table of metrics of features.

    Attributes:
        head: role of the head that it reads.
        score: function that computes it.
        paired: whether each output is compared with its own original.
        referenced: whether it compares with `FeatureTables.reference`.
        all_pairs: whether it reads the features of the reference, because moments are not enough.
        kernel: the kernel whose mean over the reference's own pairs it reads, which is kept; None for others.
        classifies: whether it needs a classifier of ImageNet's classes to have its reserved name.
        extractor: the only extractor that it is defined on, or None for any. A reserved name without one is
            that of the FID network.
        general: the name of the same arithmetic on another network; set for reserved names only.
        originals: the name of the same arithmetic against the set's own originals, if that has its own.
        tolerance: how far the originals may be from the paper's value: absolute, and as a fraction of that
            value. None if the paper has no such number.
    """

    head: Role
    score: Callable[[FeatureTables], MetricOutcome]
    paired: bool = False
    referenced: bool = False
    all_pairs: bool = False
    kernel: KernelId | None = None
    classifies: bool = False
    extractor: str | None = None
    general: str = ""
    originals: str = ""
    tolerance: tuple[float, float] | None = None


def check_finite(features: NDArray[np.floating[Any]], name: str) -> None:
    """Raise unless features have the shape (N, D) and hold no NaN or infinity.

    Raises:
        InputError: not two-dimensional, empty, or a value is NaN or infinite; the message names the first
            such row.
    """
    if features.ndim != 2 or not features.size:
        raise InputError(f"{name} must be (N, D) features with N, D >= 1, not {features.shape}")
    broken = ~np.isfinite(features).all(axis=1)
    if broken.any():
        first = int(broken.argmax())
        raise InputError(
            f"{name}: {int(broken.sum()):,} of {len(broken):,} rows are not finite, first {first}"
        )


def require_pairs(outputs: NDArray[np.floating[Any]], originals: NDArray[np.floating[Any]]) -> None:
    """Raise unless there are as many outputs as originals.

    Raises:
        InputError: the numbers of rows differ.
    """
    if len(outputs) != len(originals):
        raise InputError(
            f"paired=True pairs row i of the reference with output i: {len(outputs):,} outputs and "
            f"{len(originals):,} originals do not pair; leave it out for a reference of other images"
        )


def require_finite(features: NDArray[np.floating[Any]], name: str) -> NDArray[np.float64]:
    """Return (N, D) features in float64, after checking them.

    Raises:
        InputError: as in `check_finite`.
    """
    check_finite(features, name)
    return features.astype(np.float64)
