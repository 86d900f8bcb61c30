"""`leaderboard.json`: the boards of a record, and everything their pages say.

Source: reports and studies, sections 1.5 and 2. Rows are sorted by value, and carry the ranks that tests
support; whoever may not rank by the metric that sorts a board is listed apart, with the reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby
from typing import Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, model_serializer

from palette_bench import __version__
from palette_bench.board.comparability import (
    ANCHORS,
    ComparableCards,
    Ineligible,
    board_metrics,
    differences,
    groups,
)
from palette_bench.board.paired_tests import ALPHA, CORRECTION, Comparison
from palette_bench.board.quoted import QuotedRow, quoted_rows
from palette_bench.board.ranking import MetricRanking, gate_of, place
from palette_bench.board.record import TIERS, PublishedRecord, Tier, board_key
from palette_bench.core.errors import CODES
from palette_bench.core.records import Link, Part, Record, Sha
from palette_bench.scoring.scorecard import Score, Scorecard
from palette_bench.submission.card import SawTestImages
from palette_bench.tasks.protocol import load


class Cost(Part):
    """What one output cost, as its card states it; `steps` are network evaluations."""

    steps: int | None
    seconds_per_image: float | None
    flop_per_image: float | None
    hardware: str | None


class SameOutputs(Part):
    """A further card that holds the very output images of a row, and shares it."""

    slug: str
    version: str
    name: str
    url: Link | None
    tier: Tier
    date: str
    card: Sha


class Row(Part):
    """One card on a board. `tier` says who vouches for it; ranks are by ranked metric.

    `rank` is the lowest and highest place tests leave open, `tie_group` 1 for the best value and those not
    told apart from it; `vs_next` is the test against the next by value; `no_rank` says why there is none.
    `same_outputs` are further cards that hold the very same images.
    """

    slug: str
    version: str
    name: str
    url: Link | None
    tier: Tier
    parameters: int | None
    cost: Cost
    datasets: tuple[str, ...]
    saw_test_images: SawTestImages
    date: str
    n: int
    scores: dict[str, Score]
    rank: dict[str, tuple[int, int]]
    tie_group: dict[str, int]
    vs_next: dict[str, Comparison]
    no_rank: dict[str, str]
    watermarks: tuple[str, ...]
    card: Sha
    same_outputs: tuple[SameOutputs, ...] = ()

    @model_serializer(mode="wrap")
    def _without_empty_copies(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `same_outputs` out where there are none: rows older than the key are written as they were."""
        value: dict[str, Any] = write(self)
        if not self.same_outputs:
            value.pop("same_outputs", None)
        return value

    @property
    def copies(self) -> list[Row]:
        """Return the row again for each card that shares it, under that card's name."""
        shared = [dict(copy) for copy in self.same_outputs]
        return [self.model_copy(update={**names, "same_outputs": ()}) for names in shared]


class Unranked(Part):
    """A card that is listed but not ranked, and why; `code` is that of the first reason, if it has one."""

    slug: str
    code: str
    reason: str
    row: Row


class Sibling(Part):
    """Another board of the same task, variant and source, and what keeps the two apart."""

    page: str
    differs: tuple[str, ...]


class Board(Part):
    """Cards that may be compared.

    `metrics` opens with the one that sorts the board; `resolution` is the gap its tests find with 80 % power.
    """

    page: str
    protocol: str
    task: str
    variant: str | None
    source: str
    fingerprints: dict[str, Sha]
    sort: str | None
    metrics: tuple[str, ...]
    min_tier: Tier
    resolution: dict[str, float]
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
    alpha: float
    correction: str
    boards: tuple[Board, ...]


def assemble(published: PublishedRecord, min_tier: Tier = "self-reported") -> Leaderboard:
    """Return the boards of a record, by key; equal keys of two protocols open two boards.

    Args:
        published: cards, tables and tiers.
        min_tier: cards nobody vouched for that far are listed without rank.
    """
    boards: list[Board] = []
    for key, members in groupby(sorted(published.cards, key=board_key), key=board_key):
        family = [(_page(key, group, first=at == 0), group) for at, group in enumerate(groups(members))]
        boards += [_board(group, page, family, published, min_tier) for page, group in family]
    boards.sort(key=_protocol_place)
    return Leaderboard(
        schema=Leaderboard.schema_name(),
        generator=f"palette-bench {__version__}",
        alpha=ALPHA,
        correction=CORRECTION,
        boards=tuple(boards),
    )


def _protocol_place(board: Board) -> tuple[str, int, str]:
    """Return where a board stands: tasks and variants in their protocol's order."""
    pairs = load(board.protocol).pairs("all")
    return board.protocol, pairs.index((board.task, board.variant or "default")), board.source


def _page(key: str, group: ComparableCards, *, first: bool) -> str:
    return f"boards/{key}.html" if first else f"boards/{key}-{group.digest[:8]}.html"


def _board(
    group: ComparableCards,
    page: str,
    family: list[tuple[str, ComparableCards]],
    published: PublishedRecord,
    min_tier: Tier,
) -> Board:
    cards = group.cards
    sample = cards[0]  # the card with most metrics comes first
    copies = _by_outputs(cards, published)
    distinct = [card for card in cards if card.content_sha256 in copies]
    anchors = [c for c in distinct if c.method.slug in ANCHORS]
    systems = [c for c in distinct if c.method.slug not in ANCHORS]
    places = place(systems, board_metrics(cards) or ("",), gate_of(cards, published, min_tier))
    sort = next(iter(places))
    barred = places[sort].barred

    def row(card: Scorecard) -> Row:
        return _row(card, copies[card.content_sha256], places, published)

    by_digest = {c.content_sha256: c for c in systems}
    return Board(
        page=page,
        protocol=sample.protocol,
        task=sample.task,
        variant=sample.variant,
        source=sample.source,
        fingerprints={name: sha for (_, name), sha in sorted(group.identity.items())},
        sort=sort or None,
        metrics=tuple(filter(None, places)),
        min_tier=min_tier,
        resolution={
            key: p.ranking.resolution for key, p in places.items() if p.ranking.resolution is not None
        },
        rows=tuple(row(by_digest[key]) for key in places[sort].ranking.standings),
        anchors=tuple(map(row, sorted(anchors, key=_anchor_place))),
        unranked=tuple(
            _unranked(row(c), barred[c.content_sha256])
            for c in sorted(systems, key=_name_place)
            if c.content_sha256 in barred
        ),
        quoted=quoted_rows(sample.protocol, sample.task, sample.variant or "default", sample.source),
        warnings=(*_warnings(anchors), *_overlaps(systems, published)),
        siblings=tuple(_sibling(group, p, g) for p, g in family if g is not group),
    )


def _anchor_place(card: Scorecard) -> tuple[int, str]:
    return list(ANCHORS).index(card.method.slug), card.content_sha256


def _name_place(card: Scorecard) -> tuple[str, str, str]:
    return card.method.slug, card.method.version, card.content_sha256


def _by_outputs(cards: Sequence[Scorecard], published: PublishedRecord) -> dict[Sha, list[Scorecard]]:
    """Return, for the card that stands for each different set of output images, the others that hold it.

    Copies under other names would take places of their own, and every pair of them a share of Holm's
    correction. An anchor stands for its copies, else the card vouched for furthest, else the earliest.
    """

    def precedence(card: Scorecard) -> tuple[bool, int, str, tuple[str, str, str]]:
        tier = TIERS.index(published.tier(card))
        return card.method.slug not in ANCHORS, -tier, card.date, _name_place(card)

    shared: dict[Sha, list[Scorecard]] = defaultdict(list)
    for card in sorted(cards, key=precedence):
        shared[card.fingerprints.outputs].append(card)
    return {first.content_sha256: rest for first, *rest in shared.values()}


def _row(
    card: Scorecard,
    copies: Sequence[Scorecard],
    places: Mapping[str, MetricRanking],
    published: PublishedRecord,
) -> Row:
    key = card.content_sha256
    standings = {m: p.ranking.standings[key] for m, p in places.items() if key in p.ranking.standings}
    return Row(
        slug=card.method.slug,
        version=card.method.version,
        name=card.method.name,
        url=card.method.url,
        tier=published.tier(card),
        parameters=card.training.parameters,
        cost=_cost(card),
        datasets=card.training.datasets,
        saw_test_images=card.training.saw_test_images,
        date=card.date,
        n=card.n_scored,
        scores=card.scores,
        rank={metric: s.rank for metric, s in standings.items()},
        tie_group={metric: s.tie_group for metric, s in standings.items()},
        vs_next={metric: s.vs_next for metric, s in standings.items() if s.vs_next is not None},
        no_rank={m: _reason(p.barred[key]) for m, p in places.items() if m and key in p.barred},
        watermarks=card.watermarks,
        card=card.content_sha256,
        same_outputs=tuple(
            SameOutputs(
                slug=c.method.slug,
                version=c.method.version,
                name=c.method.name,
                url=c.method.url,
                tier=published.tier(c),
                date=c.date,
                card=c.content_sha256,
            )
            for c in copies
        ),
    )


def _cost(card: Scorecard) -> Cost:
    stated = card.sampling
    return Cost(
        steps=stated.steps,
        seconds_per_image=stated.seconds_per_image,
        flop_per_image=stated.flop_per_image,
        hardware=stated.hardware,
    )


def _unranked(row: Row, reasons: Sequence[Ineligible]) -> Unranked:
    return Unranked(slug=row.slug, code=reasons[0].code, reason=_reason(reasons), row=row)


def _reason(reasons: Sequence[Ineligible]) -> str:
    return "; ".join(map(str, reasons))


def _warnings(anchors: list[Scorecard]) -> tuple[str, ...]:
    present = {c.method.slug for c in anchors}
    return tuple(
        f"The anchor {slug} is missing, so this board has no {role}."
        for slug, role in ANCHORS.items()
        if slug not in present
    )


def _overlaps(systems: Sequence[Scorecard], published: PublishedRecord) -> Iterator[str]:
    """Yield a sentence for every two systems of which a tenth of the output images are the same."""
    for one, other in combinations(sorted(systems, key=_name_place), 2):
        own = published.pixels.get(one.content_sha256, frozenset())
        same = len(own & published.pixels.get(other.content_sha256, frozenset()))
        if same and 10 * same >= one.n_scored:
            names = " and ".join(f"{c.method.slug} {c.method.version}" for c in (one, other))
            yield f"{names} share {same:,} of {one.n_scored:,} output images, pixel for pixel."


def _sibling(group: ComparableCards, page: str, other: ComparableCards) -> Sibling:
    """Say what differs, metrics that share an extractor or a reference in one sentence."""
    found = sorted(differences(group.identity, other.identity), key=lambda p: (p.code, p.expected, p.found))
    sides = group.words, other.words
    told = []
    for (code, *digests), same in groupby(found, key=lambda p: (p.code, p.expected, p.found)):
        names = [p.where for p in same]
        here, there = (
            f"{words.get((code, names[0]), '')} ({digest})".strip()
            for words, digest in zip(sides, digests, strict=True)
        )
        told.append(f"{CODES[code]} ({code}): {', '.join(names)}: {here} here, {there} there")
    return Sibling(page=page, differs=tuple(told))
