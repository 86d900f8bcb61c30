"""The page of one method: its boards, versions, check findings, badges, and the image ids of each set's grid.

Source: reports and studies, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from palette_bench.board.exports import badge, badge_name, badge_words
from palette_bench.board.image_selection import GRID_SIZE, grid_ids, grid_rule
from palette_bench.board.leaderboard import Board, Leaderboard, Row
from palette_bench.board.ranking import rank_text
from palette_bench.board.record import PublishedRecord
from palette_bench.board.rows import all_rows
from palette_bench.core.errors import Problem
from palette_bench.core.records import Part, Record, Slug
from palette_bench.core.types import ImageId
from palette_bench.pages.render import data_uri, render
from palette_bench.pages.score_cell import ScoreCell, score_cell
from palette_bench.pages.text import (
    EXPECTED_VALUE,
    ORIGINALS_FIXED,
    MetricWords,
    metric_words,
    source_words,
    task_words,
)
from palette_bench.scoring.scorecard import Scorecard

_CAVEATS = (EXPECTED_VALUE, ORIGINALS_FIXED)


class Appearance(Part):
    """One card of a method on one board.

    Attributes:
        systems: number of ranked systems on the board.
        reason: why the card has no rank, or "".
        problems: findings of the submission's check.
        grid: ids of the uncurated grid; all methods of the set show the same ids.
    """

    page: str
    protocol: str
    task: str
    variant: str | None
    source: str
    sort: str | None
    systems: int
    reason: str
    row: Row
    problems: tuple[Problem, ...]
    grid: tuple[ImageId, ...]


class MethodRecord(Record):
    """Everything a record contains about one method; on each board the newest version comes first."""

    kind: ClassVar[str] = "method"
    slug: Slug
    name: str
    versions: tuple[str, ...]
    authors: tuple[str, ...]
    license: str
    links: dict[str, str]
    appearances: tuple[Appearance, ...]


@dataclass(frozen=True)
class _Entry:
    """An appearance ready to print: `rank` is by the metric that sorts the board, `ranks` by the others."""

    of: Appearance
    title: str
    source: str
    metric: MetricWords
    cell: ScoreCell | None
    rank: str
    ranks: tuple[tuple[str, str], ...]
    badge: str
    badge_image: str
    badge_words: str


def method_files(leaderboard: Leaderboard, published: PublishedRecord) -> dict[str, str]:
    """Return the HTML page and the JSON file of every method, by path inside the site."""
    found: dict[str, str] = {}
    for record in method_records(leaderboard, published):
        page = method_page_name(record.slug)
        found[page] = _page(record)
        found[page.removesuffix(".html") + ".json"] = record.to_json()
    return found


def method_page_name(slug: Slug) -> str:
    """Return the path of a method's page inside the site."""
    return f"methods/{slug}.html"


def method_records(leaderboard: Leaderboard, published: PublishedRecord) -> Iterator[MethodRecord]:
    """Yield a record for every method, including anchors, sorted by slug."""
    cards = {card.content_sha256: card for card in published.cards}
    for slug in sorted({card.method.slug for card in published.cards}):
        found = [
            _appearance(board, row, cards[row.card], published)
            for board in leaderboard.boards
            for row in sorted(_rows_of_cards(board), key=_age, reverse=True)
            if row.slug == slug
        ]
        newest = cards[max((a.row for a in found), key=_age).card]
        yield _record(newest, found)


def _rows_of_cards(board: Board) -> list[Row]:
    """Return one row per card of a board; cards that share a row each get a row under their own name."""
    return [one for row in all_rows(board) for one in (row, *row.copies)]


def _age(row: Row) -> tuple[str, str, str]:
    return row.date, row.version, row.card


def _record(newest: Scorecard, found: list[Appearance]) -> MethodRecord:
    method = newest.method
    links = {"website": method.url, "paper": method.paper, "code": method.code}
    return MethodRecord(
        schema=MethodRecord.schema_name(),
        slug=method.slug,
        name=method.name,
        versions=tuple(sorted({a.row.version for a in found})),
        authors=method.authors,
        license=method.license,
        links={name: link for name, link in links.items() if link},
        appearances=tuple(found),
    )


def _appearance(board: Board, row: Row, card: Scorecard, published: PublishedRecord) -> Appearance:
    table = published.tables.get(row.card)
    ids = [] if table is None else [str(image_id) for image_id in table.index]
    reasons = {u.row.card: u.reason for u in board.unranked}
    reasons |= {r.card: "an anchor, never ranked" for r in board.anchors}
    reasons |= {
        copy.card: f"its output images are those of {shared.slug} {shared.version}: one row stands for both"
        for shared in all_rows(board)
        for copy in shared.same_outputs
    }
    return Appearance(
        page=board.page,
        protocol=board.protocol,
        task=board.task,
        variant=board.variant,
        source=board.source,
        sort=board.sort,
        systems=len(board.rows),
        reason=reasons.get(row.card, ""),
        row=row,
        problems=card.problems,
        grid=tuple(grid_ids(card.fingerprints.set, ids)),
    )


def _page(record: MethodRecord) -> str:
    entries = [_entry(a) for a in record.appearances]
    return render(
        "method.html.jinja",
        title=record.name,
        root="../",
        record=record,
        entries=entries,
        caveats=sorted({note for e in entries if e.cell for note in e.cell.notes if note in _CAVEATS}),
        found=[e for e in entries if e.of.problems],
        grids=_grids(entries),
        grid_rule=grid_rule(GRID_SIZE),
    )


def _entry(a: Appearance) -> _Entry:
    sort = a.sort or ""
    score = a.row.scores.get(sort)
    return _Entry(
        of=a,
        title=task_words(a.protocol, a.task, a.variant),
        source=source_words(a.protocol, a.source, a.row.n),
        metric=metric_words(sort) if sort else MetricWords("no metric", ""),
        cell=score_cell(sort, score) if score else None,
        rank=rank_text(a.row.rank[sort]) if sort in a.row.rank else "",
        ranks=tuple((metric_words(m).name, rank_text(rank)) for m, rank in a.row.rank.items() if m != sort),
        badge=badge_name(a.page, a.row),
        badge_image=data_uri("image/svg+xml", badge(a.task, a.variant, a.sort, a.row).encode()),
        badge_words=badge_words(a.sort, a.row),
    )


def _grids(entries: list[_Entry]) -> list[tuple[_Entry, tuple[ImageId, ...]]]:
    """Return each set's grid ids once, with the first entry that shows them."""
    seen: dict[tuple[ImageId, ...], _Entry] = {}
    for entry in entries:
        if entry.of.grid:
            seen.setdefault(entry.of.grid, entry)
    return [(entry, grid) for grid, entry in seen.items()]
