"""Ranks as far as tests carry them: who differs from whom, and which places each system may hold.

Two systems are compared on the same images, by the metric's own paired test; Holm's correction covers
every pair of ranked systems of one metric and board. A value alone gives no rank. Source: reports and
studies, sections 2.2 and 2.3.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError

from palette_bench.board.comparability import Ineligible
from palette_bench.core.intervals import influence_se
from palette_bench.core.records import Part, Sha
from palette_bench.core.significance import (
    Column,
    Difference,
    holm,
    mcnemar,
    paired_t,
    z_of_influence,
    z_of_log_mean,
)
from palette_bench.core.types import ImageId
from palette_bench.scoring.scorecard import FOOL_RATE, Score, Scorecard, forms_of, took_originals_as_fixed


class StudyTest(Part):
    """A row of `params.differences` of a fool rate: a two-way t test against another method."""

    delta: float
    se: float = Field(ge=0)
    p: float = Field(ge=0, le=1)
    n: int = Field(ge=1)


_ROWS = TypeAdapter(dict[Sha, StudyTest])


def study_tests(score: Score) -> dict[Sha, Difference] | None:
    """Return a fool rate's tests by the outputs of the other method; None if they are malformed."""
    try:
        rows = _ROWS.validate_python(score.params.get("differences", {}))
    except ValidationError:
        return None
    return {other: Difference(t.delta, t.se, t.p, t.n, "twoway-t-v1") for other, t in rows.items()}


ALPHA = 0.05
CORRECTION = "holm"
_POWER = 2.80  # standard errors: z at 0.975 plus z at 0.80
_ROUNDING = 1e-6  # relative; a card's number and that of its own table agree far better
_LARGEST = 1e100  # beyond it squares overflow, and no metric of ours comes near

# (system, system) in best-first order -> the test of the two
Pairs: TypeAlias = dict[tuple[int, int], "Comparison"]


@dataclass(frozen=True)
class Contender:
    """A system that may rank.

    Attributes:
        key: its card's digest.
        name: its slug, by which equal values stand.
        value: of the metric.
        column: (N,) per-image values in id order, what the test reads; empty for fool rates.
        halves: (N,) the same within halves, where the metric has them and the table holds them.
        outputs: digest of what it made.
        tests: of a study, by the outputs of the other system; first minus second.
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
        column: of the per-image table, what the test reads.
        lower: whether lower values are better.
        compare: the paired test; None for fewer than two images.
        summary: the number the column, with its halves, comes to ...
        stated: ... and the same number as the card states it.
        words: the test in words.
    """

    column: str
    lower: bool
    compare: Callable[[Contender, Contender], Difference | None]
    summary: Callable[[Column, Column | None], float]
    stated: Callable[[Score], float | None]
    words: str


class Comparison(Part):
    """A paired test of two systems, first minus second; `p_holm` is corrected for the whole family."""

    delta: float
    se: float
    p: float
    p_holm: float
    n: int
    test: str


@dataclass(frozen=True)
class RankInterval:
    """Where a system may stand.

    Attributes:
        rank: 1 + systems that are significantly better, and all less those significantly worse.
        tie_group: 1 for the best value and those not told apart from it; then the same of the rest.
        vs_next: the test against the next system by value; None for the last.
    """

    rank: tuple[int, int]
    tie_group: int
    vs_next: Comparison | None


@dataclass(frozen=True)
class Ranking:
    """The standings of one metric by card digest, best value first, and the gap it finds with 80 % power.

    The gap is in the units of the test's delta; None where there is nobody to compare.
    """

    standings: Mapping[Sha, RankInterval]
    resolution: float | None


def _influence(a: Contender, b: Contender) -> Difference | None:
    return z_of_influence(a.value, b.value, a.column, b.column, a.halves, b.halves)


def _mcnemar(a: Contender, b: Contender) -> Difference | None:
    return mcnemar(a.column.astype(np.int64), b.column.astype(np.int64))


def _standard_error(column: Column, halves: Column | None) -> float:
    return influence_se(column, halves) or 0.0


def _voted(a: Contender, b: Contender) -> Difference | None:
    """Return the test of two methods that one study showed, as both their cards state it; else None."""
    there, back = a.tests.get(b.outputs), b.tests.get(a.outputs)
    if there is None or back is None or replace(back, delta=-back.delta) != there:
        return None
    return there


_RULES = {
    "fid": TestRule(
        "fid_influence", True, _influence, _standard_error, lambda s: s.se,
        "a z test on the influence of each image",
    ),
    "kid": TestRule(
        "kid_influence", True, _influence, _standard_error, lambda s: s.se,
        "a z test on the influence of each image",
    ),
    "inception_score": TestRule(
        "is_kl", False, lambda a, b: z_of_log_mean(a.column, b.column),
        lambda c, _: float(np.exp(min(c.mean(), 700.0))), lambda s: s.value,
        "a z test on the logarithm of the score",
    ),
    "classification_accuracy": TestRule(
        "top1", False, _mcnemar, lambda c, _: 100 * float(c.mean()), lambda s: s.value,
        "the exact McNemar test",
    ),
    "perceptual_distance": TestRule(
        "perceptual_distance", True, lambda a, b: paired_t(a.column, b.column),
        lambda c, _: float(c.mean()), lambda s: s.value,
        "the paired t test",
    ),
}  # fmt: skip
_NO_COLUMN = np.zeros(0)
_VOTED = TestRule(
    "", False, _voted, lambda c, _: math.nan, lambda s: s.value,
    "the t test of the study that both were part of, over raters and images",
)  # fmt: skip
RULES = {form: rule for key, rule in _RULES.items() for form in forms_of(key)}


def rule_of(metric: str) -> TestRule | None:
    """Return how a metric tells systems apart; None if no test is defined for it."""
    return _VOTED if metric.startswith(FOOL_RATE) else RULES.get(metric)


def _from_study(card: Scorecard, metric: str) -> Contender | Ineligible:
    """Return a card as it enters the tests of a fool rate; they are those its study made."""
    score, outputs = card.scores[metric], card.fingerprints.outputs
    tests = study_tests(score)
    if tests is None or score.value is None:
        return Ineligible("PB408", "its fool rate states differences that are no tests")
    return Contender(card.content_sha256, card.method.slug, score.value, _NO_COLUMN, None, outputs, tests)


def evidence(table: pd.DataFrame) -> pd.DataFrame:
    """Return what tests read of a per-image table: float columns by sorted `image_id`; no number is NaN."""
    known = table.set_index("image_id").sort_index()
    read = {name for rule in RULES.values() for name in (rule.column, _halves(rule))}
    columns = sorted(read & set(known.columns))
    numbers = {name: pd.to_numeric(known[name], errors="coerce") for name in columns}
    return pd.DataFrame(numbers, index=known.index, dtype=np.float64)


def _halves(rule: TestRule) -> str:
    return f"{rule.column}_halves"


def images_of(tables: Iterable[pd.DataFrame]) -> tuple[ImageId, ...]:
    """Return the ids that most tables of a board list; equal counts are settled by the ids themselves."""
    counts = Counter(tuple(table.index) for table in tables)
    return max(counts, key=lambda ids: (counts[ids], ids), default=())


def contender(
    card: Scorecard, metric: str, table: pd.DataFrame | None, images: Sequence[ImageId]
) -> Contender | Ineligible:
    """Return a card as it enters the tests of a metric, or why it cannot.

    Args:
        card: one whose `metric` has a value.
        metric: a ranked metric's id.
        table: the card's `evidence`; None if its per-image table is absent.
        images: ids of the board, sorted; tests are paired over them.
    """
    if metric.startswith(FOOL_RATE):
        return _from_study(card, metric)
    rule = RULES.get(metric)
    if rule is None:
        return Ineligible("PB207", "no paired test is defined for this metric")
    if table is None:
        return Ineligible("PB408", "its per-image table is missing, and tests read nothing else")
    if tuple(table.index) != tuple(images):
        return Ineligible("PB408", "its per-image table lists other images than the rest of this board")
    if len(table) < 2:
        return Ineligible("PB208", "one image cannot be tested")
    score, column, halves = card.scores[metric], _column(table, rule.column), _column(table, _halves(rule))
    if column is None or score.value is None:
        return Ineligible(
            "PB207", f"its per-image table has no usable {rule.column}, so nothing can be tested"
        )
    if took_originals_as_fixed(score):
        return Ineligible(
            "PB608", "its interval took the originals as fixed, which is too wide or too narrow"
        )
    stated, found = rule.stated(score), rule.summary(column, halves)
    if stated is None or not math.isclose(stated, found, rel_tol=_ROUNDING, abs_tol=_ROUNDING):
        says = "nothing" if stated is None else f"{stated:.6g}"
        return Ineligible("PB408", f"its {rule.column} comes to {found:.6g} where the card says {says}")
    return Contender(card.content_sha256, card.method.slug, score.value, column, halves)


def _column(table: pd.DataFrame, name: str) -> Column | None:
    """Return a column fit for its test, or None: absent, with gaps, or of values the test cannot take."""
    if name not in table:
        return None
    column = table[name].to_numpy(np.float64)
    usable = np.isin(column, (0, 1)) if name == "top1" else np.abs(column) < _LARGEST
    return column if usable.all() else None


def rank(metric: str, contenders: Iterable[Contender]) -> Ranking:
    """Return where each contender may stand by one metric; their order does not matter.

    Raises:
        InputError: columns of other lengths.
    """
    rule = rule_of(metric)
    assert rule is not None, metric
    ordered = sorted(contenders, key=lambda c: (c.value if rule.lower else -c.value, c.name, c.key))
    pairs = _pairs(ordered, rule)
    wins = _wins(ordered, pairs)
    lowest, highest = 1 + wins.sum(axis=0), len(ordered) - wins.sum(axis=1)
    groups = _tie_groups(wins)
    return Ranking(
        {
            c.key: RankInterval((int(lowest[i]), int(highest[i])), groups[i], pairs.get((i, i + 1)))
            for i, c in enumerate(ordered)
        },
        _POWER * float(np.median([pair.se for pair in pairs.values()])) if pairs else None,
    )


def _pairs(ordered: Sequence[Contender], rule: TestRule) -> Pairs:
    """Return the test of every pair, corrected for all of them."""
    tests = {(i, j): rule.compare(ordered[i], ordered[j]) for i, j in combinations(range(len(ordered)), 2)}
    known = {pair: found for pair, found in tests.items() if found is not None}
    corrected = holm([found.p for found in known.values()])
    return {
        pair: Comparison(delta=d.delta, se=d.se, p=d.p, p_holm=p, n=d.n, test=d.test)
        for (pair, d), p in zip(known.items(), corrected, strict=True)
    }


def _wins(ordered: Sequence[Contender], pairs: Pairs) -> NDArray[np.bool_]:
    """Return (M, M): whether row is significantly better than column. Equal values never differ."""
    wins = np.zeros((len(ordered), len(ordered)), np.bool_)
    for (i, j), pair in pairs.items():
        wins[i, j] = pair.p_holm < ALPHA and ordered[i].value != ordered[j].value
    return wins


def _tie_groups(wins: NDArray[np.bool_]) -> list[int]:
    """Return each system's group: the best remaining with all remaining it does not beat; repeat."""
    groups = np.zeros(len(wins), np.int64)
    while (groups == 0).any():
        best = int(np.argmin(groups != 0))
        groups[(groups == 0) & ~wins[best]] = groups.max() + 1
    return [int(group) for group in groups]


def rank_text(rank: tuple[int, int]) -> str:
    """Return a rank as printed: 2, or 1 to 3 with an en dash, which no spreadsheet takes for a date."""
    low, high = rank
    return str(low) if low == high else f"{low}\N{EN DASH}{high}"
