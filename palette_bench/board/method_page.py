"""The page of one method: its boards, versions, check findings, badges, and the image ids of each set's grid.

Source: reports and studies, section 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from palette_bench.board.citations import method_bibtex
from palette_bench.board.exports import badge, badge_name, badge_words
from palette_bench.board.image_selection import GRID_SIZE, grid_ids, grid_rule
from palette_bench.board.leaderboard import Board, Leaderboard, Row
from palette_bench.board.ranking import rank_text
from palette_bench.board.record import PublishedRecord
from palette_bench.board.rows import all_rows, rows_of_cards
from palette_bench.core.errors import Problem
from palette_bench.core.records import Record, Slug
from palette_bench.core.types import ImageId
from palette_bench.pages.render import data_uri, render
from palette_bench.pages.score_cell import score_cell
from palette_bench.pages.text import (
    EXPECTED_VALUE,
    ORIGINALS_FIXED,
    MetricWords,
    metric_words,
    protocol_words,
    source_words,
    task_words,
)
from palette_bench.scoring.scorecard import Scorecard
from palette_bench.tasks.protocol import UnderProtocol

_CAVEATS = (EXPECTED_VALUE, ORIGINALS_FIXED)


class Appearance(UnderProtocol):
    """One card of a method on one board.

    Attributes:
        systems: number of ranked systems on the board.
        reason: why the card has no rank, or "".
        problems: findings of the submission's check.
        grid: ids of the uncurated grid; all methods of the set show the same ids.
    """

    page: str
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


def method_files(leaderboard: Leaderboard, published: PublishedRecord) -> dict[str, str]:
    """Return the HTML page and the JSON file of every method, by path inside the site."""
    found: dict[str, str] = {}
    for record in method_records(leaderboard, published):
        page = method_page_name(record.slug)
        entries = [_entry(appearance) for appearance in record.appearances]
        grids: dict[tuple[ImageId, ...], dict[str, Any]] = {}  # each set's grid once, with its first entry
        for entry in entries:
            if entry["of"].grid:
                grids.setdefault(entry["of"].grid, entry)
        notes = {note for entry in entries if entry["cell"] for note in entry["cell"].notes}
        found[page] = render(
            "method.html.jinja",
            title=record.name,
            root="../",
            record=record,
            bibtex=method_bibtex(
                record.slug,
                record.name,
                record.versions,
                record.authors,
                record.links,
                max(appearance.row.date for appearance in record.appearances),
            ),
            entries=entries,
            caveats=sorted(notes.intersection(_CAVEATS)),
            found=[entry for entry in entries if entry["of"].problems],
            grids=[(entry, grid) for grid, entry in grids.items()],
            grid_rule=grid_rule(GRID_SIZE),
        )
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
            for row in sorted(rows_of_cards(board), key=_age, reverse=True)
            if row.slug == slug
        ]
        newest = cards[max((a.row for a in found), key=_age).card]
        method = newest.method
        links = {"website": method.url, "paper": method.paper, "code": method.code}
        yield MethodRecord(
            schema=MethodRecord.schema_name(),
            slug=method.slug,
            name=method.name,
            versions=tuple(sorted({a.row.version for a in found})),
            authors=method.authors,
            license=method.license,
            links={name: link for name, link in links.items() if link},
            appearances=tuple(found),
        )


def _age(row: Row) -> tuple[str, str, str]:
    return row.date, row.version, row.card


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
        declaration=board.declaration,
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


def _entry(a: Appearance) -> dict[str, Any]:
    """Return an appearance as printed: `rank` by the metric that sorts the board, `ranks` by the others."""
    sort = a.sort or ""
    score = a.row.scores.get(sort)
    others = [(metric_words(m).name, rank_text(rank)) for m, rank in a.row.rank.items() if m != sort]
    return {
        "of": a,
        "protocol": protocol_words(a),
        "title": task_words(a.rules, a.task, a.variant),
        "source": source_words(a.rules, a.source, a.row.n),
        "metric": metric_words(sort) if sort else MetricWords("no metric", ""),
        "cell": score_cell(sort, score) if score else None,
        "rank": rank_text(a.row.rank[sort]) if sort in a.row.rank else "",
        "ranks": others,
        "badge": badge_name(a.page, a.row),
        "badge_image": data_uri("image/svg+xml", badge(a.task, a.variant, a.sort, a.row).encode()),
        "badge_words": badge_words(a.sort, a.row),
    }
