"""The paired test of each metric, and which cards it can compare.

Each two systems are compared on the same images, by the metric's own paired test. Source: reports and
studies, section 2.2.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter

import numpy as np
import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError

from palette_bench.board.comparability import Ineligible
from palette_bench.core.intervals import influence_se
from palette_bench.core.records import Part, Sha
from palette_bench.core.significance import (
    Column,
    Difference,
    mcnemar,
    paired_t,
    z_of_influence,
    z_of_log_mean,
)
from palette_bench.core.types import ImageId
from palette_bench.scoring.metrics import RANKING_METRICS
from palette_bench.scoring.scorecard import EXTERNAL, FOOL_RATE, Score, Scorecard, took_originals_as_fixed

# --- tests stated on cards by human studies ---


class StudyTest(Part):
    """A row of `params.differences` of a fool rate: a two-way t test against another method."""

    delta: float
    se: float = Field(ge=0)
    p: float = Field(ge=0, le=1)
    n: int = Field(ge=1)


_ROWS = TypeAdapter(dict[Sha, StudyTest])


def study_tests(score: Score) -> dict[Sha, Difference] | None:
    """Return a fool rate's tests by the digest of the other method's outputs; None if they are malformed."""
    try:
        rows = _ROWS.validate_python(score.params.get("differences", {}))
    except ValidationError:
        return None
    return {other: Difference(t.delta, t.se, t.p, t.n, "twoway-t-v1") for other, t in rows.items()}


# --- contenders and the test of each metric ---

ALPHA = 0.05
_ROUNDING = 1e-6  # relative tolerance; a card and its own table agree much more closely
_LARGEST = 1e100  # squares of larger values overflow; no metric here comes near this bound


@dataclass(frozen=True)
class Contender:
    """A system that can rank by one metric.

    Attributes:
        key: digest of its card.
        name: its slug; sorts systems of equal value.
        value: value of the metric.
        column: (N,) per-image values in id order, the input of the test; empty for fool rates.
        halves: (N,) the same within halves, if the metric has them and the table contains them.
        outputs: digest of its outputs; set for fool rates only.
        tests: for fool rates, the study's tests by the other system's outputs, first minus second.
    """

    key: Sha
    name: str
    value: float
    column: Column
    halves: Column | None = None
    outputs: Sha = ""
    tests: Mapping[Sha, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class TestRule:
    """How a metric tells two systems apart.

    Attributes:
        compare: the paired test; None for fewer than two images.
        words: the test in words.
        summary: computes a number from the column and its halves that the card must state, too.
        stated: reads that number from the card's score.
        binary: whether the column may contain only 0 and 1.
        column: the column of the per-image table that the test reads.
        lower: whether lower values are better.
    """

    compare: Callable[[Contender, Contender], Difference | None]
    words: str
    summary: Callable[[Column, Column | None], float]
    stated: Callable[[Score], float | None] = attrgetter("value")
    binary: bool = False
    column: str = ""
    lower: bool = False


def _voted(a: Contender, b: Contender) -> Difference | None:
    """Return the test of two methods from one study; None unless both cards state the same test."""
    there, back = a.tests.get(b.outputs), b.tests.get(a.outputs)
    if there is None or back is None or replace(back, delta=-back.delta) != there:
        return None
    return there


# id of a test in the rows of metrics -> the test; its column and direction are the row's
_TESTS = {
    "z-influence": TestRule(
        lambda a, b: z_of_influence(a.value, b.value, a.column, b.column, a.halves, b.halves),
        "a z test on the influence of each image",
        lambda c, halves: influence_se(c, halves) or 0.0,
        attrgetter("se"),
    ),
    "z-log-mean": TestRule(
        lambda a, b: z_of_log_mean(a.column, b.column),
        "a z test on the logarithm of the score",
        lambda c, _: float(np.exp(min(c.mean(), 700.0))),
    ),
    "mcnemar": TestRule(
        lambda a, b: mcnemar(a.column.astype(np.int64), b.column.astype(np.int64)),
        "the exact McNemar test",
        lambda c, _: 100 * float(c.mean()),
        binary=True,
    ),
    "paired-t": TestRule(
        lambda a, b: paired_t(a.column, b.column), "the paired t test", lambda c, _: float(c.mean())
    ),
}
_VOTED = TestRule(
    _voted, "the t test of the study that both were part of, over raters and images", lambda c, _: math.nan
)
RULES = {
    row.id: replace(_TESTS[row.test], column=row.column, lower=row.direction == "lower")
    for row in RANKING_METRICS.values()
    if row.test
}


# --- from cards to contenders ---


def rule_of(metric: str) -> TestRule | None:
    """Return the test rule of a metric; None if no test is defined for the metric."""
    if metric.startswith(EXTERNAL):
        return replace(_TESTS["paired-t"], column=metric)
    return _VOTED if metric.startswith(FOOL_RATE) else RULES.get(metric)


def evidence(table: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a per-image table that tests read, float64, indexed by sorted `image_id`.

    Cells that are not numbers become NaN.
    """
    known = table.set_index("image_id").sort_index()
    read = {name for rule in RULES.values() for name in (rule.column, _halves(rule))}
    columns = sorted(name for name in known.columns if name in read or name.startswith(EXTERNAL))
    numbers = {name: pd.to_numeric(known[name], errors="coerce") for name in columns}
    return pd.DataFrame(numbers, index=known.index, dtype=np.float64)


def _halves(rule: TestRule) -> str:
    return f"{rule.column}_halves"


def images_of(tables: Iterable[pd.DataFrame]) -> tuple[ImageId, ...]:
    """Return the sorted ids that most tables list; equal counts are decided by comparing the ids."""
    counts = Counter(tuple(table.index) for table in tables)
    return max(counts, key=lambda ids: (counts[ids], ids), default=())


def contender(
    card: Scorecard, metric: str, table: pd.DataFrame | None, images: Sequence[ImageId]
) -> Contender | Ineligible:
    """Return a card as a contender for the tests of a metric, or the reason why it cannot be tested.

    Args:
        card: a card whose `metric` has a value.
        metric: id of a ranked metric.
        table: the card's `evidence`; None if its per-image table is missing.
        images: sorted ids of the board; tests are paired over these images.
    """
    score, key, name = card.scores[metric], card.content_sha256, card.method.slug
    if metric.startswith(FOOL_RATE):
        # the tests of a fool rate are those that its study made
        tests = study_tests(score)
        if tests is None or score.value is None:
            return Ineligible("PB408", "its fool rate states differences that are no tests")
        return Contender(key, name, score.value, np.zeros(0), None, card.fingerprints.outputs, tests)
    rule = rule_of(metric)
    if rule is None:
        return Ineligible("PB207", "no paired test is defined for this metric")
    if table is None:
        return Ineligible("PB408", "its per-image table is missing, and tests read nothing else")
    if tuple(table.index) != tuple(images):
        return Ineligible("PB408", "its per-image table lists other images than the rest of this board")
    if len(table) < 2:
        return Ineligible("PB208", "one image cannot be tested")
    column = _column(table, rule.column, rule.binary)
    halves = _column(table, _halves(rule))
    if column is None or score.value is None:
        return Ineligible(
            "PB207", f"its per-image table has no usable {rule.column}, so nothing can be tested"
        )
    if took_originals_as_fixed(score):
        return Ineligible(
            "PB608", "its interval took the originals as fixed, which is too wide or too narrow"
        )
    # the table must reproduce the number on the card, or the test would be of other data than the score
    stated, found = rule.stated(score), rule.summary(column, halves)
    if stated is None or not math.isclose(stated, found, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
        says = "nothing" if stated is None else f"{stated:.6g}"
        return Ineligible("PB408", f"its {rule.column} comes to {found:.6g} where the card says {says}")
    return Contender(key, name, score.value, column, halves)


def _column(table: pd.DataFrame, name: str, binary: bool = False) -> Column | None:
    """Return a table's column; None if it is missing, has gaps, or has values that the test cannot use."""
    if name not in table:
        return None
    column = table[name].to_numpy(np.float64)
    usable = np.isin(column, (0, 1)) if binary else np.abs(column) < _LARGEST
    return column if usable.all() else None
