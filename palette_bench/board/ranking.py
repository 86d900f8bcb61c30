"""Which systems of a board are tested by each metric, and why the others are not.

Source: reports and studies, section 2.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from palette_bench.board.comparability import Ineligible, unfit
from palette_bench.board.paired_tests import Contender, Ranking, contender, images_of, rank
from palette_bench.board.record import TIERS, PublishedRecord, Tier
from palette_bench.core.records import Sha
from palette_bench.core.types import ImageId
from palette_bench.scoring.scorecard import Scorecard

Entry: TypeAlias = Contender | tuple[Ineligible, ...]

_UNPLACED = "not ranked by the metric that sorts this board"


@dataclass(frozen=True)
class MetricRanking:
    """A board's ranking by one metric, and the reasons that exclude the other systems, by card digest."""

    ranking: Ranking
    barred: dict[Sha, tuple[Ineligible, ...]]


@dataclass(frozen=True)
class Eligibility:
    """The conditions for ranking on one board.

    Attributes:
        published: tables and tiers of the record.
        images: sorted image ids that a table must list.
        min_tier: the lowest tier that ranks.
    """

    published: PublishedRecord
    images: tuple[ImageId, ...]
    min_tier: Tier

    def enter(self, card: Scorecard, metric: str) -> Entry:
        """Return a card as a contender for the tests of a metric, or every reason that excludes it."""
        reasons = (*unfit(card, metric), *self._below(card))
        if reasons:
            return reasons
        table = self.published.tables.get(card.content_sha256)
        found = contender(card, metric, table, self.images)
        return (found,) if isinstance(found, Ineligible) else found

    def _below(self, card: Scorecard) -> list[Ineligible]:
        tier = self.published.tier(card)
        below = TIERS.index(tier) < TIERS.index(self.min_tier)
        return [Ineligible("", f"{tier}; this board ranks {self.min_tier} cards")] if below else []


def place(
    systems: Sequence[Scorecard], metrics: Sequence[str], eligibility: Eligibility
) -> dict[str, MetricRanking]:
    """Return each metric's ranking; the first key is the metric that sorts the board.

    A system without a rank by the sorting metric has no rank by any metric.

    Args:
        systems: the cards of one board, without anchors.
        metrics: ranked metrics of the board in the protocol's order.
        eligibility: the conditions for ranking.
    """
    entries = {m: {card.content_sha256: eligibility.enter(card, m) for card in systems} for m in metrics}
    sort = _sorts(entries)
    found = {sort: _placed(sort, entries[sort], {})}
    unplaced = {key: (Ineligible(why[0].code, _UNPLACED),) for key, why in found[sort].barred.items()}
    for metric in metrics:
        found.setdefault(metric, _placed(metric, entries[metric], unplaced))
    return found


def _sorts(entries: Mapping[str, Mapping[Sha, Entry]]) -> str:
    """Return the first metric by which at least half as many systems rank as by any other metric.

    On small sets no system ranks by FID, which needs more images than feature dimensions. The other metrics
    still rank systems there.
    """
    counts = {m: sum(isinstance(e, Contender) for e in entered.values()) for m, entered in entries.items()}
    return next(metric for metric, count in counts.items() if 2 * count >= max(counts.values()))


def _placed(
    metric: str, entered: Mapping[Sha, Entry], unplaced: Mapping[Sha, tuple[Ineligible, ...]]
) -> MetricRanking:
    ready = [e for key, e in entered.items() if isinstance(e, Contender) and key not in unplaced]
    barred = {key: e for key, e in entered.items() if not isinstance(e, Contender)}
    return MetricRanking(rank(metric, ready) if ready else Ranking({}, None), {**barred, **unplaced})


def gate_of(cards: Sequence[Scorecard], published: PublishedRecord, min_tier: Tier) -> Eligibility:
    """Return the ranking conditions of the board that consists of `cards`, including anchors."""
    tables = [published.tables.get(card.content_sha256) for card in cards]
    return Eligibility(published, images_of(table for table in tables if table is not None), min_tier)
