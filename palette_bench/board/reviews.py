"""Who vouches for a card: `reviews.toml` of a protocol's record, by card digest.

A tier is no field of the card: an edited card has another digest, and loses it. Source: reports and
studies, section 2.1.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, get_args

from pydantic import Field

from palette_bench.core.records import Part, Record, Sha, Text

Tier: TypeAlias = Literal["self-reported", "verified", "reproduced"]
TIERS: tuple[Tier, ...] = get_args(Tier)  # each vouches for more than the one before
REVIEWS = "reviews.toml"


class Review(Part):
    """One card looked at: `verified` re-scored its images, `reproduced` also ran the sampler."""

    tier: Literal["verified", "reproduced"]
    reviewer: Text
    day: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


class Reviews(Record):
    """The reviews of one protocol."""

    kind: ClassVar[str] = "reviews"
    cards: dict[Sha, Review]


def read_tiers(record: Path) -> dict[Sha, Tier]:
    """Return the tier of every reviewed card of a record, PROTOCOL/reviews.toml each.

    Raises:
        RecordError: PB401-PB404, PB411.
    """
    found = [Reviews.read(path) for path in sorted(record.glob(f"*/{REVIEWS}"))]
    return {card: review.tier for reviews in found for card, review in reviews.cards.items()}
