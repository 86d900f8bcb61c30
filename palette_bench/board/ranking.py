"""The ranks of a board: which systems each metric tests, and which places each system can hold.

Holm's correction covers every pair of ranked systems of one metric and board. Without a test, a value gives
no rank. Source: reports and studies, sections 2.1 to 2.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np

from palette_bench.board.comparability import Ineligible, unfit
from palette_bench.board.paired_tests import ALPHA, Contender, contender, images_of, rule_of
from palette_bench.board.record import TIERS, PublishedRecord, Tier
from palette_bench.core.records import Part, Sha
from palette_bench.core.significance import holm
from palette_bench.core.types import ImageId
from palette_bench.scoring.scorecard import Scorecard

# --- ranks from tests ---

CORRECTION = "holm"
_POWER = 2.80  # standard errors: z at 0.975 plus z at 0.80


class Comparison(Part):
    """A paired test of two systems, first minus second; `p_holm` is corrected for all pairs of the board."""

    delta: float
    se: float
    p: float
    p_holm: float
    n: int
    test: str


@dataclass(frozen=True)
class RankInterval:
    """The places that a system can hold.

    Attributes:
        rank: best place, 1 + number of significantly better systems; worst place, number of all systems
            minus number of significantly worse systems.
        tie_group: 1 for the best value and all systems not told apart from it; 2 for the same among the
            remaining systems, and so on.
        vs_next: the test against the system with the next value; None for the last system.
    """

    rank: tuple[int, int]
    tie_group: int
    vs_next: Comparison | None


@dataclass(frozen=True)
class Ranking:
    """The rank intervals of one metric by card digest, best value first.

    `resolution` is the difference that the tests detect with 80 % power, in the units of the tests' delta; it
    is None if there are no two systems to compare.
    """

    standings: Mapping[Sha, RankInterval]
    resolution: float | None


def rank(metric: str, contenders: Iterable[Contender]) -> Ranking:
    """Return the rank interval of each contender by one metric; the order of the contenders does not matter.

    Raises:
        InputError: the columns have different lengths.
    """
    rule = rule_of(metric)
    assert rule is not None, metric
    ordered = sorted(contenders, key=lambda c: (c.value if rule.lower else -c.value, c.name, c.key))
    count = len(ordered)
    # the test of every pair in best-first order, with p values corrected for all pairs
    tests = {(i, j): rule.compare(ordered[i], ordered[j]) for i, j in combinations(range(count), 2)}
    known = {pair: found for pair, found in tests.items() if found is not None}
    corrected = holm([found.p for found in known.values()])
    pairs = {
        pair: Comparison(delta=d.delta, se=d.se, p=d.p, p_holm=p, n=d.n, test=d.test)
        for (pair, d), p in zip(known.items(), corrected, strict=True)
    }
    # (M, M): whether the row's system is significantly better than the column's; equal values never differ
    wins = np.zeros((count, count), np.bool_)
    for (i, j), pair in pairs.items():
        wins[i, j] = pair.p_holm < ALPHA and ordered[i].value != ordered[j].value
    lowest, highest = 1 + wins.sum(axis=0), count - wins.sum(axis=1)
    # tie groups: repeatedly, the best remaining system and all that it does not beat
    groups = np.zeros(count, np.int64)
    while (groups == 0).any():
        best = int(np.argmin(groups != 0))
        groups[(groups == 0) & ~wins[best]] = groups.max() + 1
    return Ranking(
        {
            c.key: RankInterval((int(lowest[i]), int(highest[i])), int(groups[i]), pairs.get((i, i + 1)))
            for i, c in enumerate(ordered)
        },
        _POWER * float(np.median([pair.se for pair in pairs.values()])) if pairs else None,
    )


def rank_text(rank: tuple[int, int]) -> str:
    """Return a rank as printed: "2", or "1" and "3" joined by an en dash.

    Spreadsheets read ranges with a hyphen as dates.
    """
    low, high = rank
    return str(low) if low == high else f"{low}\N{EN DASH}{high}"


# --- which systems rank ---

Entry: TypeAlias = Contender | tuple[Ineligible, ...]

_UNPLACED = "not ranked by the metric that sorts this board"


@dataclass(frozen=True)
class MetricRanking:
    """A board's ranking by one metric, and the reasons that exclude the other systems, by card digest."""

    ranking: Ranking
    barred: dict[Sha, tuple[Ineligible, ...]]


def _enter(
    card: Scorecard, metric: str, published: PublishedRecord, images: tuple[ImageId, ...], min_tier: Tier
) -> Entry:
    """Return a card as a contender for the tests of a metric, or every reason that excludes it."""
    reasons, tier = unfit(card, metric), published.tier(card)
    if TIERS.index(tier) < TIERS.index(min_tier):
        reasons.append(Ineligible("", f"{tier}; this board ranks {min_tier} cards"))
    if reasons:
        return tuple(reasons)
    found = contender(card, metric, published.tables.get(card.content_sha256), images)
    return (found,) if isinstance(found, Ineligible) else found


def place(
    cards: Sequence[Scorecard],
    systems: Sequence[Scorecard],
    metrics: Sequence[str],
    published: PublishedRecord,
    min_tier: Tier,
) -> dict[str, MetricRanking]:
    """Return each metric's ranking of a board's systems; the first key is the metric that sorts the board.

    A system without a rank by the sorting metric has no rank by any metric.

    Args:
        cards: all cards of the board; their tables decide which images the tests read.
        systems: the cards to rank: no anchors.
        metrics: ranked metrics of the board in the protocol's order.
        published: tables and tiers of the record.
        min_tier: the lowest tier that ranks.
    """
    tables = [published.tables.get(card.content_sha256) for card in cards]
    images = images_of(table for table in tables if table is not None)
    entries = {
        m: {card.content_sha256: _enter(card, m, published, images, min_tier) for card in systems}
        for m in metrics
    }
    # The board is sorted by the first metric that ranks at least half as many systems as any other metric. On
    # small sets no system ranks by FID, which needs more images than feature dimensions; other metrics rank.
    counts = {m: sum(isinstance(e, Contender) for e in entered.values()) for m, entered in entries.items()}
    sort = next(metric for metric, count in counts.items() if 2 * count >= max(counts.values()))
    found = {sort: _placed(sort, entries[sort], {})}
    unplaced = {key: (Ineligible(why[0].code, _UNPLACED),) for key, why in found[sort].barred.items()}
    for metric in metrics:
        found.setdefault(metric, _placed(metric, entries[metric], unplaced))
    return found


def _placed(
    metric: str, entered: Mapping[Sha, Entry], unplaced: Mapping[Sha, tuple[Ineligible, ...]]
) -> MetricRanking:
    ready = [e for key, e in entered.items() if isinstance(e, Contender) and key not in unplaced]
    barred = {key: e for key, e in entered.items() if not isinstance(e, Contender)}
    return MetricRanking(rank(metric, ready) if ready else Ranking({}, None), {**barred, **unplaced})
