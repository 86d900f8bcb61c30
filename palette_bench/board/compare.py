"""Two cards of one set: paired differences with intervals, and the pictures where they part.

Source: reports and studies, sections 2.2 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pandas as pd
from scipy import special

from palette_bench.board.comparability import Unfit, differences, identity, ranked_keys
from palette_bench.board.ranks import ALPHA, RULES, Contender, contender, evidence
from palette_bench.core.errors import IncomparableError, UsageError
from palette_bench.core.records import Part, Record, Sha
from palette_bench.core.significance import Difference, holm
from palette_bench.core.types import ImageId
from palette_bench.scoring.scorecard import Score, Scorecard, forms_of

SHOWN = 24  # pictures each way
BY = "perceptual_distance"  # per-image, and every card has it


class Side(Part):
    """One of the two cards."""

    slug: str
    version: str
    name: str
    date: str
    watermarks: tuple[str, ...]
    card: Sha


class Paired(Part):
    """A metric of both cards and its paired test, first minus second; `low` to `high` holds it with 95 %.

    `p_holm` is corrected for the metrics of this comparison. Without a test `reason` says why.
    """

    metric: str
    first: Score
    second: Score
    delta: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None
    test: str = ""
    reason: str = ""

    @property
    def differs(self) -> bool:
        """Return whether the two are told apart."""
        return self.p_holm is not None and self.p_holm < ALPHA and self.delta != 0


class Change(Part):
    """One picture: the value of each card, and second minus first."""

    image_id: str
    first: float
    second: float
    change: float


class CardPair(Record):
    """Two cards compared. `first_better` and `second_better` hold the largest changes each way, by `by`."""

    kind: ClassVar[str] = "comparison"
    protocol: str
    task: str
    variant: str | None
    source: str
    set: Sha
    first: Side
    second: Side
    metrics: tuple[Paired, ...]
    by: str
    pictures: int
    first_better: tuple[Change, ...]
    second_better: tuple[Change, ...]


@dataclass(frozen=True)
class Proven:
    """A card and its per-image table, both proven unedited."""

    card: Scorecard
    table: pd.DataFrame


def compare(first: Proven, second: Proven) -> CardPair:
    """Return what sets two cards apart.

    Raises:
        UsageError: the two are one card.
        IncomparableError: PB601-PB604, every fingerprint that differs.
    """
    one, other = first.card, second.card
    if one.content_sha256 == other.content_sha256:
        raise UsageError("this is one card twice; name two")
    parted = differences(identity(one), identity(other))
    if parted:
        raise IncomparableError(*parted)
    changes = changes_of(first, second)
    return CardPair(
        schema=CardPair.schema_name(),
        protocol=one.protocol,
        task=one.task,
        variant=one.variant,
        source=one.source,
        set=one.fingerprints.set,
        first=_side(one),
        second=_side(other),
        metrics=_metrics(first, second),
        by=BY,
        pictures=len(changes),
        first_better=tuple(c for c in reversed(changes[-SHOWN:]) if c.change > 0),
        second_better=tuple(c for c in changes[:SHOWN] if c.change < 0),
    )


def _side(card: Scorecard) -> Side:
    return Side(
        slug=card.method.slug,
        version=card.method.version,
        name=card.method.name,
        date=card.date,
        watermarks=card.watermarks,
        card=card.content_sha256,
    )


def changes_of(first: Proven, second: Proven) -> list[Change]:
    """Return the change of every picture that has a value in both, most improved first, ties by id."""
    columns = [_values(side.table) for side in (first, second)]
    both = pd.concat(columns, axis=1, keys=["first", "second"]).dropna()
    found = [
        Change(image_id=str(i), first=float(a), second=float(b), change=float(b) - float(a))
        for i, a, b in zip(both.index, both["first"], both["second"], strict=True)
    ]
    return sorted(found, key=lambda c: (c.change, c.image_id))


def _values(table: pd.DataFrame) -> pd.Series[float]:
    known = evidence(table)
    return known[BY] if BY in known else pd.Series(dtype=float)


def _metrics(first: Proven, second: Proven) -> tuple[Paired, ...]:
    """Return the ranked metrics and the kernel distance both cards state, tested where tables allow it."""
    keys = dict.fromkeys((*ranked_keys(first.card), *(k for k in forms_of("kid") if k in first.card.scores)))
    shared = [m for m in keys if m in second.card.scores]
    found = {m: _test(first, second, m) for m in shared}
    tests = {m: test for m, test in found.items() if isinstance(test, Difference)}
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    return tuple(
        _tested(m, first, second, tests[m], corrected[m])
        if m in tests
        else _untested(m, first, second, str(found[m]))
        for m in shared
    )


def _test(first: Proven, second: Proven, metric: str) -> Difference | str:
    """Return the paired test of a metric, or why there is none."""
    pictures = tuple(evidence(first.table).index)
    a, b = _enter(first, metric, pictures), _enter(second, metric, pictures)
    if isinstance(a, Contender) and isinstance(b, Contender):
        return RULES[metric].compare(a, b) or "one picture cannot be tested"
    sides = ((first, a), (second, b))
    return "; ".join(f"{side.card.method.name}: {e}" for side, e in sides if isinstance(e, Unfit))


def _enter(side: Proven, metric: str, pictures: Sequence[ImageId]) -> Contender | Unfit:
    if side.card.scores[metric].value is None:
        return Unfit("PB207", "the metric has no value")
    return contender(side.card, metric, evidence(side.table), pictures)


def _tested(metric: str, first: Proven, second: Proven, test: Difference, p_holm: float) -> Paired:
    reach = _quantile(test) * test.se
    return Paired(
        metric=metric,
        first=first.card.scores[metric],
        second=second.card.scores[metric],
        delta=test.delta,
        low=test.delta - reach,
        high=test.delta + reach,
        p=test.p,
        p_holm=p_holm,
        test=test.test,
    )


def _untested(metric: str, first: Proven, second: Proven, reason: str) -> Paired:
    one, other = first.card.scores[metric], second.card.scores[metric]
    return Paired(metric=metric, first=one, second=other, reason=reason)


def _quantile(test: Difference) -> float:
    """Return how many standard errors 95 % take: Student's t for means, the normal law for the others."""
    if test.test == "paired-t":
        return float(special.stdtrit(test.n - 1, 1 - ALPHA / 2))
    return -float(special.ndtri(ALPHA / 2))
