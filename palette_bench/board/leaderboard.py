"""`leaderboard.json`: the boards of a record, with all numbers and sentences that their pages print.

Rows are sorted by value and carry the ranks that significance tests support. Systems that cannot rank by
the metric that sorts a board are listed separately, with the reason. Source: reports and studies, sections
1.5 and 2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, groupby
from typing import Any, ClassVar

from palette_bench import __version__
from palette_bench.board.comparability import (
    ANCHORS,
    ComparableCards,
    Ineligible,
    board_metrics,
    differences,
    groups,
)
from palette_bench.board.paired_tests import ALPHA
from palette_bench.board.quoted import QuotedRow, quoted_rows
from palette_bench.board.ranking import CORRECTION, Comparison, MetricRanking, place, rank_text
from palette_bench.board.record import TIERS, PublishedRecord, Tier, board_key
from palette_bench.core.errors import CODES
from palette_bench.core.notebook import html_table
from palette_bench.core.records import Link, Part, Record, Sha, SparsePart
from palette_bench.pages.text import NOTHING, interval_text, metric_words, task_words, value_text
from palette_bench.scoring.scorecard import Score, Scorecard
from palette_bench.submission.card import SawTestImages
from palette_bench.tasks.protocol import UnderProtocol

# --- the record ---


class Cost(Part):
    """The cost of one output, as the card states it; `steps` are network evaluations."""

    steps: int | None
    seconds_per_image: float | None
    flop_per_image: float | None
    hardware: str | None


class SameOutputs(Part):
    """Another card with exactly the same output images as a row; it is listed in that row."""

    slug: str
    version: str
    name: str
    url: Link | None
    tier: Tier
    date: str
    card: Sha


class Row(SparsePart):
    """One card on a board.

    Attributes:
        tier: who vouches for the card.
        rank: per ranked metric, the best and the worst place that the tests leave open.
        tie_group: per ranked metric, 1 for the best value and all systems not told apart from it, then 2 ...
        vs_next: per ranked metric, the test against the system with the next value.
        no_rank: per metric, the reason why the card has no rank.
        same_outputs: further cards with exactly the same output images.
    """

    sparse: ClassVar[frozenset[str]] = frozenset({"same_outputs"})
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

    @property
    def copies(self) -> list[Row]:
        """Return a copy of the row for each card that shares it, under that card's name."""
        shared = [dict(copy) for copy in self.same_outputs]
        return [self.model_copy(update={**names, "same_outputs": ()}) for names in shared]


class Unranked(Part):
    """A card that is listed without a rank, with the reason; `code` is the first reason's code, or ""."""

    slug: str
    code: str
    reason: str
    row: Row


class Sibling(Part):
    """Another board of the same task, variant and source, and the differences between the two boards."""

    page: str
    differs: tuple[str, ...]


class Board(UnderProtocol):
    """Cards that can be compared with each other.

    The first of `metrics` sorts the board. `resolution` is, per metric, the difference that the tests detect
    with 80 % power.
    """

    page: str
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
        """Return the number of systems on the board, without anchors and quoted rows."""
        return len(self.rows) + len(self.unranked)


class Leaderboard(Record):
    """All boards of a record."""

    kind: ClassVar[str] = "leaderboard"
    generator: str
    alpha: float
    correction: str
    boards: tuple[Board, ...]

    def __repr__(self) -> str:
        systems = sum(board.systems for board in self.boards)
        return f"<Leaderboard, boards: {len(self.boards)}, systems: {systems}>"

    def _repr_html_(self) -> str:
        return "".join(map(_board_html, self.boards))


def _board_html(board: Board) -> str:
    """Return a board as a table for notebooks: anchors, ranked and unranked systems, with intervals."""
    sort = board.sort or ""
    places = {row.card: ANCHORS[row.slug] for row in board.anchors}
    places |= {row.card: rank_text(row.rank[sort]) for row in board.rows}
    rows = [
        (places.get(row.card, NOTHING), row.name, *(_cell_text(row.scores.get(m)) for m in board.metrics))
        for row in (*board.anchors, *board.rows, *(unranked.row for unranked in board.unranked))
    ]
    title = f"{board.protocol}: {task_words(board.rules, board.task, board.variant)}, {board.source}"
    return html_table(title, ("rank", "method", *(metric_words(m).name for m in board.metrics)), rows)


def _cell_text(score: Score | None) -> str:
    """Return a score's value, with its interval in brackets if it has one."""
    if score is None:
        return NOTHING
    interval = interval_text(score)
    return f"{value_text(score)} [{interval}]" if interval else value_text(score)


# --- building it from a record ---


def assemble(published: PublishedRecord, min_tier: Tier = "self-reported") -> Leaderboard:
    """Return the leaderboard of a record, boards in the order of their protocols.

    Cards of one task, source and variant that cannot be compared, e.g. cards of two protocols, get separate
    boards.

    Args:
        published: cards, tables and tiers.
        min_tier: cards of a lower tier are listed without a rank.
    """
    boards: list[Board] = []
    for key, members in groupby(sorted(published.cards, key=board_key), key=board_key):
        first, *others = groups(members)
        family = [(f"boards/{key}.html", first)]
        family += [(f"boards/{key}-{group.digest[:8]}.html", group) for group in others]
        boards += [_board(group, page, family, published, min_tier) for page, group in family]

    def protocol_place(board: Board) -> tuple[str, int, str]:
        pairs = board.rules.pairs("all")  # tasks and variants in the order of their protocol
        return board.protocol, pairs.index((board.task, board.variant or "default")), board.source

    boards.sort(key=protocol_place)
    return Leaderboard(
        schema=Leaderboard.schema_name(),
        generator=f"palette-bench {__version__}",
        alpha=ALPHA,
        correction=CORRECTION,
        boards=tuple(boards),
    )


def _board(
    group: ComparableCards,
    page: str,
    family: list[tuple[str, ComparableCards]],
    published: PublishedRecord,
    min_tier: Tier,
) -> Board:
    cards = group.cards
    sample = cards[0]  # `groups` puts the card with the most fingerprints first
    copies = _by_outputs(cards, published)
    distinct = [card for card in cards if card.content_sha256 in copies]
    roles = list(ANCHORS)
    anchors = sorted(
        (c for c in distinct if c.method.slug in ANCHORS),
        key=lambda c: (roles.index(c.method.slug), c.content_sha256),
    )
    missing = [slug for slug in ANCHORS if slug not in {c.method.slug for c in anchors}]
    systems = [c for c in distinct if c.method.slug not in ANCHORS]
    places = place(cards, systems, board_metrics(cards) or ("",), published, min_tier)
    sort = next(iter(places))
    barred = places[sort].barred

    def row(card: Scorecard) -> Row:
        return _row(card, copies[card.content_sha256], places, published)

    by_digest = {c.content_sha256: c for c in systems}
    unranked = [
        (row(c), barred[c.content_sha256])
        for c in sorted(systems, key=_name_place)
        if c.content_sha256 in barred
    ]
    return Board(
        page=page,
        protocol=sample.protocol,
        declaration=sample.declaration,
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
        anchors=tuple(map(row, anchors)),
        unranked=tuple(
            Unranked(slug=r.slug, code=reasons[0].code, reason=_reason(reasons), row=r)
            for r, reasons in unranked
        ),
        quoted=quoted_rows(sample.protocol, sample.task, sample.variant or "default", sample.source),
        warnings=(
            *(f"The anchor {slug} is missing, so this board has no {ANCHORS[slug]}." for slug in missing),
            *_overlaps(systems, published),
        ),
        siblings=tuple(_sibling(group, p, g) for p, g in family if g is not group),
    )


def _name_place(card: Scorecard) -> tuple[str, str, str]:
    return card.method.slug, card.method.version, card.content_sha256


def _by_outputs(cards: Sequence[Scorecard], published: PublishedRecord) -> dict[Sha, list[Scorecard]]:
    """Group cards with equal output images: digest of the representative card -> the other cards.

    Without this, copies under other names would take places of their own, and each pair of copies would
    count in Holm's correction. The representative is an anchor if there is one, else the card of the highest
    tier, else the earliest card.
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
    def about(card: Scorecard) -> dict[str, Any]:
        method, key = card.method, card.content_sha256
        names = {"slug": method.slug, "version": method.version, "name": method.name, "url": method.url}
        return {**names, "tier": published.tier(card), "date": card.date, "card": key}

    key, stated = card.content_sha256, card.sampling
    standings = {m: p.ranking.standings[key] for m, p in places.items() if key in p.ranking.standings}
    return Row(
        **about(card),
        parameters=card.training.parameters,
        cost=Cost(
            steps=stated.steps,
            seconds_per_image=stated.seconds_per_image,
            flop_per_image=stated.flop_per_image,
            hardware=stated.hardware,
        ),
        datasets=card.training.datasets,
        saw_test_images=card.training.saw_test_images,
        n=card.n_scored,
        scores=card.scores,
        rank={metric: s.rank for metric, s in standings.items()},
        tie_group={metric: s.tie_group for metric, s in standings.items()},
        vs_next={metric: s.vs_next for metric, s in standings.items() if s.vs_next is not None},
        no_rank={m: _reason(p.barred[key]) for m, p in places.items() if m and key in p.barred},
        watermarks=card.watermarks,
        same_outputs=tuple(SameOutputs(**about(c)) for c in copies),
    )


def _reason(reasons: Sequence[Ineligible]) -> str:
    return "; ".join(map(str, reasons))


def _overlaps(systems: Sequence[Scorecard], published: PublishedRecord) -> Iterator[str]:
    """Yield a sentence for every two systems that share at least a tenth of their output images."""
    for one, other in combinations(sorted(systems, key=_name_place), 2):
        own = published.pixels.get(one.content_sha256, frozenset())
        same = len(own & published.pixels.get(other.content_sha256, frozenset()))
        if same and 10 * same >= one.n_scored:
            names = " and ".join(f"{c.method.slug} {c.method.version}" for c in (one, other))
            yield f"{names} share {same:,} of {one.n_scored:,} output images, pixel for pixel."


def _sibling(group: ComparableCards, page: str, other: ComparableCards) -> Sibling:
    """Describe the differences to another board, one sentence for all metrics with the same difference."""
    found = sorted(differences(group.identity, other.identity), key=lambda p: (p.code, p.expected, p.found))
    sides = group.words, other.words
    sentences = []
    for (code, *digests), same in groupby(found, key=lambda p: (p.code, p.expected, p.found)):
        names = [p.where for p in same]
        here, there = (
            f"{words.get((code, names[0]), '')} ({digest})".strip()
            for words, digest in zip(sides, digests, strict=True)
        )
        sentences.append(f"{CODES[code]} ({code}): {', '.join(names)}: {here} here, {there} there")
    return Sibling(page=page, differs=tuple(sentences))
