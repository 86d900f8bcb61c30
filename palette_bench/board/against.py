"""A card beside others of its set: anchors and baselines, with paired differences on the same pictures.

Source: reports and studies, sections 2.2, 2.3 and 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from scipy import special

from palette_bench.board.comparability import ANCHORS, differences, identity
from palette_bench.board.ranks import ALPHA, RULES, Contender, contender, evidence
from palette_bench.board.words import decimals, number, value_text
from palette_bench.core.errors import IncomparableError
from palette_bench.core.intervals import NORMAL_QUANTILE
from palette_bench.core.significance import Difference, holm
from palette_bench.scoring.scorecard import Scorecard


@dataclass(frozen=True)
class Gap:
    """One metric of another card as printed: its value, this card's minus it, and what the test says."""

    value: str
    delta: str
    reach: str
    verdict: str


@dataclass(frozen=True)
class Rival:
    """Another card of the same set; a gap is None where it lacks the metric."""

    name: str
    role: str
    gaps: tuple[Gap | None, ...]


def rivals(
    card: Scorecard,
    table: pd.DataFrame,
    others: Sequence[tuple[Scorecard, pd.DataFrame]],
    metrics: Sequence[str],
) -> list[Rival]:
    """Return the other cards in the order given; p values are Holm's over all tests of one metric.

    Raises:
        IncomparableError: PB601-PB604, another protocol, set, extractor or reference.
    """
    for other, _ in others:
        if found := differences(identity(card), identity(other)):
            raise IncomparableError(*found)
    columns = [_gaps(card, table, others, metric) for metric in metrics]
    return [
        Rival(other.method.name, ANCHORS.get(other.method.slug, ""), tuple(column[at] for column in columns))
        for at, (other, _) in enumerate(others)
    ]


def _gaps(
    card: Scorecard, table: pd.DataFrame, others: Sequence[tuple[Scorecard, pd.DataFrame]], metric: str
) -> list[Gap | None]:
    tests = [_test(card, table, other, theirs, metric) for other, theirs in others]
    corrected = iter(holm([test.p for test in tests if isinstance(test, Difference)]))
    return [
        _gap(card, other, metric, test, next(corrected) if isinstance(test, Difference) else 1.0)
        if metric in other.scores
        else None
        for (other, _), test in zip(others, tests, strict=True)
    ]


def _test(
    card: Scorecard, table: pd.DataFrame, other: Scorecard, theirs: pd.DataFrame, metric: str
) -> Difference | str:
    """Return the paired test of a metric, this card minus the other, or why there is none."""
    if other.scores.get(metric) is None or other.scores[metric].value is None:
        return "no value"
    ours = evidence(table)
    pair = [contender(c, metric, t, tuple(ours.index)) for c, t in ((card, ours), (other, evidence(theirs)))]
    one, two = pair
    if not (isinstance(one, Contender) and isinstance(two, Contender)):
        return next(str(entry) for entry in pair if not isinstance(entry, Contender))
    return RULES[metric].compare(one, two) or "too few pictures"


def _gap(card: Scorecard, other: Scorecard, metric: str, test: Difference | str, p: float) -> Gap:
    value = value_text(other.scores[metric])
    if isinstance(test, str):
        return Gap(value, "not tested", "", test)
    paired_t = test.test == "paired-t"
    reach = test.se * (float(special.stdtrit(test.n - 1, 0.975)) if paired_t else NORMAL_QUANTILE)
    digits = decimals(card.scores[metric])
    low, delta, high = (number(v, digits) for v in (test.delta - reach, test.delta, test.delta + reach))
    scale = " on a log scale" if test.test == "z-log-influence" else ""
    chance = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
    verdict = "differs" if p < ALPHA else "not told apart"
    return Gap(
        value, f"{'+' if test.delta > 0 else ''}{delta}{scale}", f"{low} to {high}", f"{verdict}, {chance}"
    )
