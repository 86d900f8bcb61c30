"""The leaderboard site of a record: an index, a page per board, and the same numbers as JSON and CSV.

Pages are built from `leaderboard.json`'s record alone and read no clock: equal records give equal bytes.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from palette_bench.board.cells import ScoreCell, score_cell
from palette_bench.board.comparability import ANCHORS
from palette_bench.board.leaderboard import Board, Leaderboard, Row, assemble
from palette_bench.board.pages import data_uri, render
from palette_bench.board.plots import Kind, PlotRow, dot_whisker
from palette_bench.board.quoted import QuotedRow
from palette_bench.board.record import read_record
from palette_bench.board.reviews import Tier
from palette_bench.board.words import (
    DIRECTIONS,
    NOTHING,
    MetricWords,
    metric_words,
    note_words,
    place,
    source_words,
    task_words,
    value_text,
)
from palette_bench.core import atomic
from palette_bench.core.errors import InputError, RecordError
from palette_bench.scoring.scorecard import Score
from palette_bench.tasks.protocol import load

INDEX = "index.html"
JSON = "leaderboard.json"
CSV = "leaderboard.csv"
_CSV_COLUMNS = [
    *("protocol", "task", "variant", "source", "page", "status", "slug", "version", "tier"),
    *("metric", "value", "low", "high", "n", "direction", "unit", "extractor", "card"),
]
_OUR_PAGE = re.compile(r"boards/[A-Za-z0-9._-]+\.html")


@dataclass(frozen=True)
class Line:
    """A row of a board's table, ready to print."""

    row: Row
    cells: tuple[ScoreCell | None, ...]
    role: str
    reason: str = ""


def site_files(record: Path, min_tier: Tier = "self-reported") -> dict[str, bytes]:
    """Return every file of a record's site by its path inside the site; see `assemble` for `min_tier`.

    Raises:
        RecordError: a card of the record is edited, of a damaged table, or misfiled; all are named.
    """
    leaderboard = assemble(read_record(record), min_tier)
    files = {JSON: leaderboard.to_json(), CSV: csv_text(leaderboard), INDEX: _index_page(leaderboard)}
    files |= {board.page: _board_page(board) for board in leaderboard.boards}
    return {name: text.encode() for name, text in files.items()}


def build_site(record: Path, site: Path, min_tier: Tier = "self-reported") -> None:
    """Write a record's site; pages that an earlier build of ours left and this one lacks are removed.

    Raises:
        RecordError: a card of the record is edited, of a damaged table, or misfiled; nothing is written.
    """
    files = site_files(record, min_tier)
    for page in _earlier_pages(site) - files.keys():
        (site / page).unlink(missing_ok=True)
    for name, data in sorted(files.items()):
        atomic.write_bytes(site / name, data)


def _earlier_pages(site: Path) -> set[str]:
    """Return the board pages the site's own `leaderboard.json` lists."""
    try:
        boards = Leaderboard.parse((site / JSON).read_bytes(), JSON).boards
    except (OSError, RecordError):
        return set()  # nothing of ours, or of a version whose pages we cannot name
    return {board.page for board in boards if _OUR_PAGE.fullmatch(board.page)}


def check_site(record: Path, site: Path, min_tier: Tier = "self-reported") -> None:
    """Refuse a site that is not what its record builds to; nothing is written.

    Raises:
        InputError: names every file that is absent, or differs.
    """
    files = site_files(record, min_tier)
    stale = [name for name, data in sorted(files.items()) if _content(site / name) != data]
    left = sorted(page for page in _earlier_pages(site) - files.keys() if (site / page).exists())
    if stale or left:
        names = "\n".join(f"  differs   {name}" for name in [*stale, *left])
        raise InputError(f"the site is not what the record builds to\n{names}\n  fix       board build again")


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def csv_text(leaderboard: Leaderboard) -> str:
    """Return every score of every board as CSV; text that a spreadsheet would run gets an apostrophe."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for board in leaderboard.boards:
        rows = [("by value", r) for r in board.rows] + [("anchor", r) for r in board.anchors]
        rows += [(f"unranked {u.code}", u.row) for u in board.unranked]
        for status, row in rows:
            for metric, score in sorted(row.scores.items()):
                writer.writerow(_guarded(_csv_cells(board, status, row, metric, score)))
    return file.getvalue()


def _csv_cells(board: Board, status: str, row: Row, metric: str, score: Score) -> list[object]:
    where = [board.protocol, board.task, board.variant, board.source, board.page]
    who = [status, row.slug, row.version, row.tier]
    what = [metric, score.value, score.low, score.high, score.n, score.direction, score.unit, score.extractor]
    return [*where, *who, *what, row.card]


def _guarded(cells: Iterable[object]) -> list[object]:
    return [f"'{c}" if isinstance(c, str) and c[:1] in "=+-@\t\r" and c else c for c in cells]


def _index_page(leaderboard: Leaderboard) -> str:
    sections = [
        (title, [_entry(board) for board in boards])
        for title, boards in groupby(leaderboard.boards, key=lambda b: load(b.protocol).task(b.task).title)
    ]
    systems = {row.slug for board in leaderboard.boards for row in _systems(board)}
    return render(
        "index.html.jinja",
        title="Leaderboards",
        root="",
        sections=sections,
        boards=leaderboard.boards,
        systems=systems,
    )


def _systems(board: Board) -> list[Row]:
    return [*board.rows, *(u.row for u in board.unranked)]


def _entry(board: Board) -> dict[str, object]:
    """Return what the index says of a board: its place, size, and the best value by the sort metric."""
    best = board.rows[0] if board.rows else None
    return {
        "board": board,
        "title": load(board.protocol).variant(board.task, board.variant or "default").title,
        "source": source_words(board.protocol, board.source),
        "metric": metric_words(board.sort).name if board.sort else "",
        "best": best,
        "anchors": [(ANCHORS[row.slug], _sort_value(board, row)) for row in board.anchors],
        "cell": score_cell(board.sort, best.scores[board.sort]) if best and board.sort else None,
        "date": max((row.date for row in _all_rows(board)), default=""),
    }


def _board_page(board: Board) -> str:
    sort = metric_words(board.sort).name if board.sort else "no metric"
    return render(
        "board.html.jinja",
        title=task_words(board.protocol, board.task, board.variant),
        root="../",
        board=board,
        place=place(board.task, board.variant),
        source=source_words(board.protocol, board.source),
        pictures=max(row.n for row in _all_rows(board)),
        sort=sort,
        marks=[note_words(mark) for mark in _common_marks(board)],
        columns=_columns(board),
        anchors=[_line(board, row, ANCHORS[row.slug]) for row in board.anchors],
        lines=[_line(board, row) for row in board.rows],
        unranked=[_line(board, u.row, reason=u.reason) for u in board.unranked],
        quoted_columns=_quoted_columns(board.quoted),
        plot=_plot(board, sort),
    )


def _all_rows(board: Board) -> list[Row]:
    return [*board.anchors, *_systems(board)]


def _columns(board: Board) -> list[tuple[MetricWords, str]]:
    """Return each metric of the board with its direction in words, as the first row that has it says."""
    found = {key: score.direction for row in reversed(_all_rows(board)) for key, score in row.scores.items()}
    return [(metric_words(key), DIRECTIONS[found[key]]) for key in board.metrics]


def _sort_value(board: Board, row: Row) -> str:
    score = row.scores.get(board.sort or "")
    return value_text(score) if score else NOTHING


def _common_marks(board: Board) -> list[str]:
    """Return the watermarks that every row carries."""
    return sorted(set.intersection(*(set(row.watermarks) for row in _all_rows(board))))


def _line(board: Board, row: Row, role: str = "", reason: str = "") -> Line:
    cells = tuple(score_cell(k, row.scores[k]) if k in row.scores else None for k in board.metrics)
    return Line(row, cells, role, reason)


def _quoted_columns(rows: tuple[QuotedRow, ...]) -> list[tuple[str, MetricWords]]:
    keys = dict.fromkeys(key for row in rows for key in row.values)
    return [(key, metric_words(key)) for key in keys]


def _plot(board: Board, sort: str) -> tuple[str, str] | None:
    """Return the dot-and-whisker plot of the sort metric as light and dark addresses."""
    rows = [
        *_plot_rows(board, board.anchors, "anchor"),
        *_plot_rows(board, board.rows, "system"),
        *_plot_rows(board, [u.row for u in board.unranked], "unranked"),
    ]
    if not rows:
        return None
    direction = _columns(board)[0][1]  # the first metric is the one the board is sorted by
    plot = dot_whisker(rows, f"{sort}, {direction}")
    return data_uri("image/svg+xml", plot.light), data_uri("image/svg+xml", plot.dark)


def _plot_rows(board: Board, rows: Sequence[Row], kind: Kind) -> list[PlotRow]:
    """Return the rows that have a value of the sort metric."""
    scores = [(row, row.scores.get(board.sort or "")) for row in rows]
    return [
        PlotRow(_plot_label(row, kind), score.value, score.low, score.high, kind)
        for row, score in scores
        if score is not None and score.value is not None
    ]


def _plot_label(row: Row, kind: Kind) -> str:
    name = row.name if len(row.name) <= 28 else row.name[:27] + "…"
    suffix = {"anchor": ANCHORS.get(row.slug), "unranked": "unranked", "system": None}[kind]
    return f"{name} ({suffix})" if suffix else name
