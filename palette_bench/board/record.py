"""The record of published scorecards: PROTOCOL/KEY/SLUG/DIGEST.json, each with its table beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype
from pydantic import Field

from palette_bench.board.comparability import differences, identity
from palette_bench.board.paired_tests import evidence
from palette_bench.core import atomic
from palette_bench.core.errors import Problem, RecordError, SpecError, StorageError, problem
from palette_bench.core.fingerprint import table_digest
from palette_bench.core.records import Part, Record, Sha, Text, read_file
from palette_bench.scoring.scorecard import Scorecard, read_scorecard, read_table, table_path

Tier: TypeAlias = Literal["self-reported", "verified", "reproduced"]
TIERS: tuple[Tier, ...] = get_args(Tier)  # from the weakest to the strongest evidence

# --- reviews ---

REVIEWS = "reviews.toml"


class Review(Part):
    """The review of one card: `verified` re-scored its images, `reproduced` also ran the sampler again."""

    tier: Literal["verified", "reproduced"]
    reviewer: Text
    day: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")


class Reviews(Record):
    """The reviews of all cards of one protocol."""

    kind: ClassVar[str] = "reviews"
    cards: dict[Sha, Review]


def read_tiers(record: Path) -> dict[Sha, Tier]:
    """Return the tier of every reviewed card, read from the PROTOCOL/reviews.toml files of a record.

    Raises:
        RecordError: PB401-PB404, PB411.
    """
    found = [Reviews.read(path) for path in sorted(record.glob(f"*/{REVIEWS}"))]
    return {card: review.tier for reviews in found for card, review in reviews.cards.items()}


# --- cards ---

_ID = r"[A-Za-z0-9_-]{1,64}"
_SHA = r"[0-9a-f]{64}"
_FOLDER = re.compile(r"folder:[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True)
class PublishedRecord:
    """The content of a record.

    Attributes:
        cards: all cards, in path order.
        tables: card digest -> `evidence` of the per-image table; cards without a table have no entry.
        tiers: card digest -> tier; cards without a review have no entry.
        pixels: card digest -> "id digest" strings of the outputs; cards without a table have no entry.
    """

    cards: tuple[Scorecard, ...]
    tables: dict[Sha, pd.DataFrame]
    tiers: dict[Sha, Tier]
    pixels: dict[Sha, frozenset[str]] = field(default_factory=dict)

    def tier(self, card: Scorecard) -> Tier:
        """Return the tier of a card; "self-reported" without a review."""
        return self.tiers.get(card.content_sha256, "self-reported")


class VerifiedCard(NamedTuple):
    """A card and its per-image table, both verified to be unedited."""

    card: Scorecard
    table: pd.DataFrame


def read_proven(path: Path) -> VerifiedCard:
    """Return a card and its per-image table after verifying that both are unedited and belong together.

    Raises:
        RecordError: PB407, the card was edited; PB408, the table is missing, was edited, or lists other
            outputs than the card.
    """
    card = read_scorecard(path)
    try:
        table = read_table(card, path)
        fault = _table_fault(card, table)
    except ValueError as error:  # pandas could not parse the file
        fault = str(error)
    if fault:
        file, fix = table_path(path).name, "score the submission again"
        raise RecordError(problem("PB408", file, expected="the table of this card", found=fault, fix=fix))
    return VerifiedCard(card, table)


def _table_fault(card: Scorecard, table: pd.DataFrame) -> str:
    """Return why a table cannot be the card's, or "".

    A matching digest does not prove a valid format, because the same person writes the card and the table.
    """
    if not {"image_id", "pixels"} <= set(table.columns):
        return "no columns image_id and pixels"
    ids, pixels = table["image_id"].astype(str), table["pixels"].astype(str)
    if not (ids.str.fullmatch(_ID).all() and pixels.str.fullmatch(_SHA).all() and ids.is_unique):
        return "malformed or repeated ids or digests"
    distances = table.get("perceptual_distance", pd.Series(dtype=float))
    if not (is_numeric_dtype(distances) and np.isfinite(distances.dropna()).all()):
        return "distances that are not finite numbers"
    outputs = table_digest(dict(zip(ids, pixels, strict=True)))
    if outputs != card.fingerprints.outputs or len(table) != card.n_scored:
        return f"{len(table):,} outputs, {outputs[:12]}; the card says {card.fingerprints.outputs[:12]}"
    return ""


def board_key(card: Scorecard) -> str:
    """Return TASK.SOURCE.VARIANT, valid as a file name.

    Raises:
        SpecError: PB609, the card names a protocol, task, variant or source that does not exist.
    """
    spec = card.rules
    variant = card.variant or "default"
    spec.variant(card.task, variant)
    if card.source not in spec.sources and not _FOLDER.fullmatch(card.source):
        expected = f"a source of {spec.id} or folder:NAME"
        raise SpecError(problem("PB609", "source", expected=expected, found=card.source[:80]))
    return f"{card.task}.{card.source.replace(':', '-')}.{variant}"


def record_path(record: Path, card: Scorecard) -> Path:
    """Return the path of a card in a record."""
    return record / card.protocol / board_key(card) / card.method.slug / f"{card.content_sha256[:12]}.json"


def add_card(card_path: Path, record: Path) -> tuple[Path, bool]:
    """Copy a verified card and its table into a record; see `add_cards`."""
    (added,) = add_cards([card_path], record)
    return added


def add_cards(paths: Sequence[Path], record: Path, *, replace: bool = False) -> list[tuple[Path, bool]]:
    """Copy verified cards and their tables into a record: either all of them or none.

    Args:
        paths: the cards.
        record: the folder of the record.
        replace: whether a card replaces earlier cards of the same method, version and board, as for drafts.

    Returns:
        For each card, its path in the record and whether it is new there.

    Raises:
        RecordError: PB407, PB408, a card or its table was edited; PB404, the record or the given cards
            contain another card of the same method and version on the same board. The error lists all
            problems of all cards.
    """
    proven: dict[Path, Scorecard] = {}
    problems: list[Problem | str] = []
    for path in paths:
        try:
            card, _ = read_proven(path)
        except (RecordError, StorageError) as error:
            problems += error.problems or [str(error)]
            continue
        twins = [other for other in proven if _stand_in_one_place(card, proven[other])]
        taken = [*twins, *(() if replace else _taken(card, record))]
        for other in taken:
            name = f"{card.method.slug} {card.method.version}"
            expected = "one card per method and version on a board"
            fix = (
                "give the new outputs their own version in submission.toml; published cards are never edited"
            )
            problems.append(
                problem("PB404", name, expected=expected, found=f"another card, {other}", fix=fix)
            )
        proven[path] = card
    if problems:
        raise RecordError(*problems)
    added = []
    for path, card in proven.items():
        target = record_path(record, card)
        atomic.sweep(target.parent)
        if target.is_file() and read_scorecard(target).content_sha256 == card.content_sha256:
            added.append((target, False))
            continue
        former = _taken(card, record)
        atomic.write_bytes(table_path(target), read_file(table_path(path)))
        atomic.write_bytes(target, read_file(path))
        for other in former:
            other.unlink()
            table_path(other).unlink(missing_ok=True)
        added.append((target, True))
    return added


def _taken(card: Scorecard, record: Path) -> list[Path]:
    """Return the other cards in the record with the same method, version and board."""
    folder = record_path(record, card).parent
    return [path for path in sorted(folder.glob("*.json")) if _stand_in_one_place(card, read_scorecard(path))]


def _stand_in_one_place(card: Scorecard, other: Scorecard) -> bool:
    return (
        board_key(card) == board_key(other)
        and (card.method.slug, card.method.version) == (other.method.slug, other.method.version)
        and not differences(identity(card), identity(other))
        and card.content_sha256 != other.content_sha256
        # a card with a human study or external columns added may stand beside the card that it extends
        and not card.supersedes(other)
    )


def read_record(record: Path) -> PublishedRecord:
    """Return every verified card of a record with its table. A table may be missing.

    If a card also exists with a human study or external columns added, only the extended card is returned.

    Raises:
        RecordError: a card was edited, has a damaged table, or is in the wrong folder. The error lists all
            problems of all cards.
    """
    cards: list[Scorecard] = []
    tables: dict[Sha, pd.DataFrame] = {}
    pixels: dict[Sha, frozenset[str]] = {}
    problems: list[Problem | str] = []
    for path in sorted(record.glob("*/*/*/*.json")):
        try:
            card, table = read_proven(path) if table_path(path).exists() else (read_scorecard(path), None)
            if path != record_path(record, card):
                expected, found = str(record_path(Path(), card)), str(path.relative_to(record))
                raise RecordError(
                    problem("PB407", "record", expected=expected, found=found, fix="use `board add`")
                )
            cards.append(card)
            if table is not None:
                tables[card.content_sha256] = evidence(table)
                outputs = table["image_id"].astype(str) + " " + table["pixels"].astype(str)
                pixels[card.content_sha256] = frozenset(outputs)
        except (RecordError, SpecError) as error:
            problems += error.problems
    if problems:
        raise RecordError(*problems)
    latest = tuple(card for card in cards if not any(other.supersedes(card) for other in cards))
    return PublishedRecord(latest, tables, read_tiers(record), pixels)
