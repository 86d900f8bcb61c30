"""Paired comparison of cards of one set: differences with intervals, and the images that differ most.

Source: reports and studies, sections 2.2 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
from scipy import special

from palette_bench.board.comparability import ANCHORS, Ineligible, differences, identity, ranked_keys
from palette_bench.board.paired_tests import ALPHA, Contender, contender, evidence, rule_of
from palette_bench.board.record import VerifiedCard
from palette_bench.core.errors import IncomparableError, UsageError
from palette_bench.core.records import Part, Record, Sha
from palette_bench.core.significance import Difference, holm
from palette_bench.pages.text import decimals, number, value_text
from palette_bench.scoring.metrics import forms_of
from palette_bench.scoring.scorecard import Score, Scorecard
from palette_bench.tasks.protocol import UnderProtocol

SHOWN = 24  # images for each direction of change
BY = "perceptual_distance"  # it has a value per image, and every card has it


# --- two cards: the comparison record ---


class Side(Part):
    """One of the two cards."""

    slug: str
    version: str
    name: str
    date: str
    watermarks: tuple[str, ...]
    card: Sha


class Paired(Part):
    """A metric of two cards and its paired test, first minus second.

    Attributes:
        low: lower end of the 95 % interval of `delta`.
        high: upper end of that interval.
        p_holm: the p value, corrected for all metrics of this comparison.
        reason: why there is no test, or "".
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
        """Return whether the test tells the two cards apart."""
        return self.p_holm is not None and self.p_holm < ALPHA and self.delta != 0


class Change(Part):
    """One image: the value on each card, and the second value minus the first."""

    image_id: str
    first: float
    second: float
    change: float


class CardPair(UnderProtocol, Record):
    """Two cards compared.

    `first_better` and `second_better` contain the images with the largest changes of the metric `by` in each
    direction.
    """

    kind: ClassVar[str] = "comparison"
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


def compare(first: VerifiedCard, second: VerifiedCard) -> CardPair:
    """Return the comparison of two cards.

    Raises:
        UsageError: both arguments are the same card.
        IncomparableError: PB601-PB604, one problem per fingerprint that differs.
    """
    one, other = first.card, second.card
    if one.content_sha256 == other.content_sha256:
        raise UsageError("both arguments are the same card: give two different cards")
    parted = differences(identity(one), identity(other))
    if parted:
        raise IncomparableError(*parted)
    # the ranked metrics, the KID forms and the external columns of both cards, tested where tables allow it
    kid = (key for key in forms_of("kid") if key in one.scores)
    keys = dict.fromkeys((*ranked_keys(one), *kid, *one.external))
    shared = [m for m in keys if m in other.scores]
    found = {m: _test(first, second, m) for m in shared}
    tests = {m: test for m, test in found.items() if isinstance(test, Difference)}
    corrected = dict(zip(tests, holm([test.p for test in tests.values()]), strict=True))
    metrics = []
    for m in shared:
        scores: dict[str, Any] = {"metric": m, "first": one.scores[m], "second": other.scores[m]}
        if m not in tests:
            metrics.append(Paired(**scores, reason=str(found[m])))
            continue
        test, reach = tests[m], _reach(tests[m])
        scores |= {"delta": test.delta, "low": test.delta - reach, "high": test.delta + reach}
        metrics.append(Paired(**scores, p=test.p, p_holm=corrected[m], test=test.test))
    changes = changes_of(first, second)
    return CardPair(
        schema=CardPair.schema_name(),
        protocol=one.protocol,
        declaration=one.declaration,
        task=one.task,
        variant=one.variant,
        source=one.source,
        set=one.fingerprints.set,
        first=_side(one),
        second=_side(other),
        metrics=tuple(metrics),
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


def changes_of(first: VerifiedCard, second: VerifiedCard) -> list[Change]:
    """Return the change of every image that has a value on both cards, most improved first, ties by id."""
    tables = [evidence(side.table) for side in (first, second)]
    columns = [table[BY] if BY in table else pd.Series(dtype=float) for table in tables]
    both = pd.concat(columns, axis=1, keys=["first", "second"]).dropna()
    found = [
        Change(image_id=str(i), first=float(a), second=float(b), change=float(b) - float(a))
        for i, a, b in zip(both.index, both["first"], both["second"], strict=True)
    ]
    return sorted(found, key=lambda c: (c.change, c.image_id))


def _test(first: VerifiedCard, second: VerifiedCard, metric: str) -> Difference | str:
    """Return the paired test of a metric, first minus second, or the reason why there is none."""
    if first.card.scores[metric].direction != second.card.scores[metric].direction:
        return "the cards state different better sides"
    images = tuple(evidence(first.table).index)
    entries: list[Contender | Ineligible] = []
    for side in (first, second):
        if side.card.scores[metric].value is None:
            entries.append(Ineligible("PB207", "the metric has no value"))
        else:
            entries.append(contender(side.card, metric, evidence(side.table), images))
    one, other = entries
    rule = rule_of(metric)
    if rule and isinstance(one, Contender) and isinstance(other, Contender):
        return rule.compare(one, other) or "one image cannot be tested"
    names = (first.card.method.name, second.card.method.name)
    barred = [(name, e) for name, e in zip(names, entries, strict=True) if isinstance(e, Ineligible)]
    return "; ".join(f"{name}: {reason}" for name, reason in barred)


def _reach(test: Difference) -> float:
    """Return the half width of the 95 % interval of a difference: Student's t for means, else normal."""
    if test.test == "paired-t":
        return float(special.stdtrit(test.n - 1, 1 - ALPHA / 2)) * test.se
    return -float(special.ndtri(ALPHA / 2)) * test.se


# --- one card against others: the table of a report ---


@dataclass(frozen=True)
class PairedDifference:
    """One metric of another card as printed.

    Attributes:
        value: the other card's value.
        delta: this card's value minus the other card's.
        reach: the 95 % interval of `delta`.
        verdict: the result of the test, or the reason why there is none.
    """

    value: str
    delta: str
    reach: str
    verdict: str


@dataclass(frozen=True)
class OtherCard:
    """Another card of the same set; `gaps` has one entry per metric, None if the card lacks the metric."""

    name: str
    role: str
    gaps: tuple[PairedDifference | None, ...]


def rivals(ours: VerifiedCard, others: Sequence[VerifiedCard], metrics: Sequence[str]) -> list[OtherCard]:
    """Return the other cards in the given order; p values are corrected (Holm) over all tests of one metric.

    Raises:
        IncomparableError: PB601-PB604, a card has another protocol, set, extractor or reference.
    """
    for other in others:
        if found := differences(identity(ours.card), identity(other.card)):
            raise IncomparableError(*found)
    gaps: list[list[PairedDifference | None]] = [[] for _ in others]
    for metric in metrics:
        tests = [_test(ours, other, metric) if metric in other.card.scores else None for other in others]
        corrected = iter(holm([test.p for test in tests if isinstance(test, Difference)]))
        for row, other, test in zip(gaps, others, tests, strict=True):
            if test is None:
                row.append(None)
                continue
            value = value_text(other.card.scores[metric])
            if isinstance(test, str):
                row.append(PairedDifference(value, "not tested", "", test))
                continue
            digits, reach, p = decimals(ours.card.scores[metric]), _reach(test), next(corrected)
            low, delta, high = (number(test.delta + at, digits) for at in (-reach, 0.0, reach))
            sign, scale = (
                "+" if test.delta > 0 else "",
                " on a log scale" if test.test == "z-log-influence" else "",
            )
            verdict = "differs" if p < ALPHA else "not told apart"
            chance = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
            row.append(
                PairedDifference(value, f"{sign}{delta}{scale}", f"{low} to {high}", f"{verdict}, {chance}")
            )
    return [
        OtherCard(other.card.method.name, ANCHORS.get(other.card.method.slug, ""), tuple(row))
        for other, row in zip(others, gaps, strict=True)
    ]
