"""The leaderboard site of a record: an index, a page per board, and the same numbers as JSON and CSV.

Pages are built from `leaderboard.json`'s record alone and read no clock: equal records give equal bytes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from palette_bench.board.cells import ScoreCell, score_cell
from palette_bench.board.comparability import ANCHORS
from palette_bench.board.flat import csv_text
from palette_bench.board.leaderboard import Board, Leaderboard, Row, assemble
from palette_bench.board.method import leaders_words, method_words
from palette_bench.board.pages import data_uri, render
from palette_bench.board.plots import Kind, PlotRow, dot_whisker
from palette_bench.board.quoted import QuotedRow
from palette_bench.board.ranks import rank_text
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
from palette_bench.scoring.scorecard import GENERAL_FORM
from palette_bench.tasks.protocol import load

INDEX = "index.html"
JSON = "leaderboard.json"
CSV = "leaderboard.csv"
_OUR_PAGE = re.compile(r"boards/[A-Za-z0-9._-]+\.html")


@dataclass(frozen=True)
class Line:
    """A row of a board's table, ready to print.

    Attributes:
        row: what it stands for.
        cells: scores by column.
        ranks: by column, as printed; "" where the metric has no rank.
        role: of an anchor, or "".
        reason: why it is unranked, or "".
        shares: how many systems are in its tie group, itself included; 0 without one.
    """

    row: Row
    cells: tuple[ScoreCell | None, ...]
    ranks: tuple[str, ...]
    role: str = ""
    reason: str = ""
    shares: int = 0


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
    for folder in {(site / name).parent for name in files}:
        atomic.sweep(folder)
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
    """Return what the index says of a board: its place, size, and who leads it by the sort metric."""
    best = board.rows[0] if board.rows else None
    leaders = [row.name for row in _tied(board, best)] if best else []
    return {
        "board": board,
        "title": load(board.protocol).variant(board.task, board.variant or "default").title,
        "source": source_words(board.protocol, board.source),
        "metric": metric_words(board.sort).name if board.sort else "",
        "leaders": leaders_words(leaders, len(board.rows)),
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
        anchors=[_line(board, row, role=ANCHORS[row.slug]) for row in board.anchors],
        lines=[_line(board, row, shares=len(_tied(board, row))) for row in board.rows],
        method=method_words(board),
        stands_in=_stands_in(board),
        gaps=_gaps(board),
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


def _line(board: Board, row: Row, *, role: str = "", reason: str = "", shares: int = 0) -> Line:
    cells = tuple(score_cell(k, row.scores[k]) if k in row.scores else None for k in board.metrics)
    ranks = tuple(rank_text(row.rank[k]) if k in row.rank else "" for k in board.metrics)
    return Line(row, cells, ranks, role, reason, shares)


def _tied(board: Board, row: Row) -> list[Row]:
    """Return the systems of a ranked row's tie group, best first, itself among them."""
    sort = board.sort or ""
    return [other for other in board.rows if other.tie_group[sort] == row.tie_group[sort]]


def _stands_in(board: Board) -> str:
    """Return the name of the protocol's first metric where another one sorts the board; else ""."""
    roles = load(board.protocol).ranked_metrics(board.source)
    first = next(
        (m for role in roles for m in board.metrics if m in (role, GENERAL_FORM.get(role))), board.sort
    )
    return metric_words(first).name if first and first != board.sort else ""


def _gaps(board: Board) -> list[str]:
    """Return a sentence for each metric and reason that leave ranked systems without a rank."""
    without: dict[tuple[str, str], list[str]] = {}
    for row in board.rows:
        for metric, reason in row.no_rank.items():
            without.setdefault((metric, reason), []).append(f"{row.name} {row.version}")
    return [
        f"No rank by {metric_words(metric).name}: {', '.join(names)}; {reason}."
        for (metric, reason), names in sorted(without.items())
    ]


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
