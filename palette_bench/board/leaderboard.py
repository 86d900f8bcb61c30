"""`leaderboard.json`: the boards of a record, and everything their pages say.

Source: reports and studies, sections 1.5 and 2.1. Rows are sorted by value; this version makes no
claim about ranks, so it has no field for them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import ClassVar, Literal

from palette_bench import __version__
from palette_bench.board.comparability import (
    ANCHORS,
    Group,
    by_value,
    differences,
    groups,
    ranked_keys,
    unfit,
)
from palette_bench.board.quoted import QuotedRow, quoted_rows
from palette_bench.board.record import board_key
from palette_bench.core.errors import CODES
from palette_bench.core.records import Link, Part, Record, Sha
from palette_bench.scoring.scorecard import Score, Scorecard
from palette_bench.tasks.protocol import load


class Row(Part):
    """One card on a board. `tier` says who vouches for it."""

    slug: str
    version: str
    name: str
    url: Link | None
    tier: Literal["self-reported"]
    parameters: int | None
    saw_test_images: Literal["no", "yes", "unknown"]
    date: str
    n: int
    scores: dict[str, Score]
    watermarks: tuple[str, ...]
    card: Sha


class Unranked(Part):
    """A card that is listed but not placed, and why; `code` is that of the first reason."""

    slug: str
    code: str
    reason: str
    row: Row


class Sibling(Part):
    """Another board of the same task, variant and source, and what keeps the two apart."""

    page: str
    differs: tuple[str, ...]


class Board(Part):
    """Cards that may be compared."""

    page: str
    protocol: str
    task: str
    variant: str | None
    source: str
    fingerprints: dict[str, Sha]
    sort: str | None
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    anchors: tuple[Row, ...]
    unranked: tuple[Unranked, ...]
    quoted: tuple[QuotedRow, ...]
    warnings: tuple[str, ...]
    siblings: tuple[Sibling, ...]

    @property
    def systems(self) -> int:
        """Return how many systems the board lists, anchors and quoted rows apart."""
        return len(self.rows) + len(self.unranked)


class Leaderboard(Record):
    """All boards of a record."""

    kind: ClassVar[str] = "leaderboard"
    generator: str
    boards: tuple[Board, ...]


def assemble(cards: Sequence[Scorecard]) -> Leaderboard:
    """Return the boards of a record's cards, by key; equal keys of two protocols open two boards."""
    boards: list[Board] = []
    for key, members in groupby(sorted(cards, key=board_key), key=board_key):
        family = [(_page(key, group, first=at == 0), group) for at, group in enumerate(groups(members))]
        boards += [_board(group, page, family) for page, group in family]
    boards.sort(key=_protocol_place)
    return Leaderboard(
        schema=Leaderboard.schema_name(), generator=f"palette-bench {__version__}", boards=tuple(boards)
    )


def _protocol_place(board: Board) -> tuple[str, int, str]:
    """Return where a board stands: tasks and variants in their protocol's order."""
    pairs = load(board.protocol).pairs("all")
    return board.protocol, pairs.index((board.task, board.variant or "default")), board.source


def _page(key: str, group: Group, *, first: bool) -> str:
    return f"boards/{key}.html" if first else f"boards/{key}-{group.digest[:8]}.html"


def _board(group: Group, page: str, family: list[tuple[str, Group]]) -> Board:
    cards = group.cards
    sample = cards[0]  # the card with most metrics comes first
    metrics = ranked_keys(sample)
    sort = metrics[0] if metrics else None
    anchors = [c for c in cards if c.method.slug in ANCHORS]
    systems = [c for c in cards if c.method.slug not in ANCHORS]
    fit = [c for c in systems if not unfit(c, sort)]
    return Board(
        page=page,
        protocol=sample.protocol,
        task=sample.task,
        variant=sample.variant,
        source=sample.source,
        fingerprints={name: sha for (_, name), sha in sorted(group.identity.items())},
        sort=sort,
        metrics=metrics,
        rows=tuple(_row(c) for c in (by_value(fit, sort) if sort else ())),
        anchors=tuple(_row(c) for c in sorted(anchors, key=_anchor_place)),
        unranked=tuple(_unranked(c, sort) for c in sorted(systems, key=_name_place) if c not in fit),
        quoted=quoted_rows(sample.protocol, sample.task, sample.variant or "default", sample.source),
        warnings=_warnings(anchors),
        siblings=tuple(_sibling(group, p, g) for p, g in family if g is not group),
    )


def _anchor_place(card: Scorecard) -> tuple[int, str]:
    return list(ANCHORS).index(card.method.slug), card.content_sha256


def _name_place(card: Scorecard) -> tuple[str, str, str]:
    return card.method.slug, card.method.version, card.content_sha256


def _row(card: Scorecard) -> Row:
    return Row(
        slug=card.method.slug,
        version=card.method.version,
        name=card.method.name,
        url=card.method.url,
        tier="self-reported",
        parameters=card.training.parameters,
        saw_test_images=card.training.saw_test_images,
        date=card.date,
        n=card.n_scored,
        scores=card.scores,
        watermarks=card.watermarks,
        card=card.content_sha256,
    )


def _unranked(card: Scorecard, sort: str | None) -> Unranked:
    reasons = unfit(card, sort)
    return Unranked(
        slug=card.method.slug,
        code=reasons[0].code,
        reason="; ".join(f"{r.reason} ({r.code})" for r in reasons),
        row=_row(card),
    )


def _warnings(anchors: list[Scorecard]) -> tuple[str, ...]:
    present = {c.method.slug for c in anchors}
    return tuple(
        f"The anchor {slug} is missing, so this board has no {role}."
        for slug, role in ANCHORS.items()
        if slug not in present
    )


def _sibling(group: Group, page: str, other: Group) -> Sibling:
    """Name what differs, metrics that share an extractor or a reference in one sentence."""
    found = sorted(differences(group.identity, other.identity), key=lambda p: (p.code, p.expected, p.found))
    return Sibling(
        page=page,
        differs=tuple(
            f"{CODES[code]} ({code}): {', '.join(p.where for p in same)}: {here} here, {there} there"
            for (code, here, there), same in groupby(found, key=lambda p: (p.code, p.expected, p.found))
        ),
    )
