"""Which systems of a board enter the tests of each metric, and why the others do not.

Source: reports and studies, section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from palette_bench.board.comparability import Unfit, unfit
from palette_bench.board.ranks import Contender, Ranking, contender, pictures_of, rank
from palette_bench.board.record import Published
from palette_bench.board.reviews import TIERS, Tier
from palette_bench.core.records import Sha
from palette_bench.core.types import ImageId
from palette_bench.scoring.scorecard import Scorecard

_UNPLACED = "not ranked by the metric that sorts this board"


@dataclass(frozen=True)
class Place:
    """A metric's ranking of a board, and by card digest what keeps the other systems out of it."""

    ranking: Ranking
    barred: dict[Sha, tuple[Unfit, ...]]


@dataclass(frozen=True)
class Gate:
    """What a system must show before it ranks on one board.

    Attributes:
        published: tables and tiers of the record.
        pictures: sorted ids every table of the board lists.
        min_tier: the least tier that ranks.
    """

    published: Published
    pictures: tuple[ImageId, ...]
    min_tier: Tier

    def enter(self, card: Scorecard, metric: str) -> Contender | tuple[Unfit, ...]:
        """Return a card as it enters the tests of a metric, or every reason that keeps it out."""
        reasons = (*unfit(card, metric), *self._below(card))
        if reasons:
            return reasons
        table = self.published.tables.get(card.content_sha256)
        found = contender(card, metric, table, self.pictures)
        return (found,) if isinstance(found, Unfit) else found

    def _below(self, card: Scorecard) -> list[Unfit]:
        tier = self.published.tier(card)
        below = TIERS.index(tier) < TIERS.index(self.min_tier)
        return [Unfit("", f"{tier}; this board ranks {self.min_tier} cards")] if below else []


def place(systems: Sequence[Scorecard], metrics: Sequence[str], gate: Gate) -> dict[str, Place]:
    """Return each metric's ranking; who may not rank by the metric that sorts a board ranks by none.

    Args:
        systems: the cards of one board, anchors apart.
        metrics: ranked metrics of the board, the one that sorts it first.
        gate: what they must show.
    """
    found: dict[str, Place] = {}
    unplaced: dict[Sha, tuple[Unfit, ...]] = {}
    for at, metric in enumerate(metrics):
        entered = {card.content_sha256: gate.enter(card, metric) for card in systems}
        ready = [entry for entry in entered.values() if isinstance(entry, Contender)]
        barred = {key: entry for key, entry in entered.items() if not isinstance(entry, Contender)}
        found[metric] = Place(rank(metric, ready) if ready else Ranking({}, None), barred | unplaced)
        if at == 0:
            unplaced = {key: (Unfit(why[0].code, _UNPLACED),) for key, why in barred.items()}
            systems = [card for card in systems if card.content_sha256 not in barred]
    return found


def gate_of(cards: Sequence[Scorecard], published: Published, min_tier: Tier) -> Gate:
    """Return the gate of the board that `cards`, anchors among them, share."""
    tables = [published.tables.get(card.content_sha256) for card in cards]
    return Gate(published, pictures_of(table for table in tables if table is not None), min_tier)
