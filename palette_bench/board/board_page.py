"""The page of one board, and the files beside it that hold the same numbers.

Source: reports and studies, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath

from palette_bench.board.claims import floor_words, interval_words, leaders_words, method_words
from palette_bench.board.comparability import ANCHORS, bars_all
from palette_bench.board.flat import csv_text
from palette_bench.board.leaderboard import Board, Row
from palette_bench.board.lines import Column, Lines, all_rows, badness, basis_lines, labels_of, lines_of, tied
from palette_bench.board.pages import data_uri, render
from palette_bench.board.plots import Kind, PlotRow, dot_whisker
from palette_bench.board.quoted import QuotedRow
from palette_bench.board.set_again import IDS, is_of_a_folder, set_command
from palette_bench.board.tables import latex_table, markdown_table
from palette_bench.board.words import (
    MetricWords,
    metric_words,
    note_words,
    place,
    protocol_caution,
    source_words,
    task_words,
)
from palette_bench.core.records import canonical_json
from palette_bench.core.types import ImageId
from palette_bench.scoring.scorecard import UNPINNED, forms_of
from palette_bench.tasks.protocol import load

TWINS = ("html", "csv", "json", "md", "tex", IDS)
PLOTTED = 40  # rows of a plot; the table below it holds all of them
_MOST_PLOTS = 6  # each is drawn for both themes


def board_files(board: Board, ids: Sequence[ImageId] = ()) -> dict[str, str]:
    """Return a board's page, and its numbers as CSV, JSON, Markdown and LaTeX, by path inside the site.

    The ids of its set, where a folder holds its images, become a file for `generate --ids`.
    """
    lines = lines_of(board)
    stem = board.page.removesuffix("html")
    tables = {"md": markdown_table(lines), "tex": latex_table(lines, _caption(board))}
    return {
        board.page: _page(board, lines, tables, len(ids)),
        f"{stem}csv": csv_text([board]),
        f"{stem}json": canonical_json(board.model_dump(mode="json")),
        **{f"{stem}{kind}": text for kind, text in tables.items()},
        **({f"{stem}{IDS}": "".join(f"{image_id}\n" for image_id in ids)} if ids else {}),
    }


def _caption(board: Board) -> str:
    title = task_words(board.protocol, board.task, board.variant)
    n = max(row.n for row in all_rows(board))
    return f"{board.protocol}: {title}, {source_words(board.protocol, board.source, n)}"


def _page(board: Board, lines: Lines, tables: dict[str, str], n_ids: int) -> str:
    rows = all_rows(board)
    stem = PurePosixPath(board.page).stem
    ids_file = f"{stem}.{IDS}" if n_ids else ""
    return render(
        "board.html.jinja",
        parts=("sorting", "board"),
        title=task_words(board.protocol, board.task, board.variant),
        root="../",
        stem=stem,
        board=board,
        place=place(board.task, board.variant),
        source=source_words(board.protocol, board.source, max(row.n for row in rows)),
        pictures=max(row.n for row in rows),
        sort=metric_words(board.sort).name if board.sort else "no metric",
        newest=max(row.date for row in rows),
        leaders=_leaders(board),
        marks=_marks(board, rows),
        lines=lines,
        costs=_stated_costs(rows),
        tiers=sorted({line.row.tier for line in lines.systems}),
        datasets=sorted({name for line in lines.systems for name in line.row.datasets}),
        basis=basis_lines(lines.columns),
        method=(*floor_words(board), *method_words(board), *interval_words(board)),
        stands_in=_stands_in(board),
        gaps=_gaps(board),
        quoted_columns=_quoted_columns(board.quoted),
        plots=_plots(board, lines.columns),
        left_out=max(0, len(rows) - PLOTTED),
        tables=tables,
        set_command=set_command(board, ids_file),
        of_a_folder=is_of_a_folder(board),
        ids_file=ids_file,
        n_ids=n_ids,
    )


def _leaders(board: Board) -> str:
    if not board.rows:
        return ""
    labels = labels_of(board)
    return leaders_words([labels[row.card] for row in tied(board, board.rows[0])], len(board.rows))


def _stated_costs(rows: Sequence[Row]) -> list[str]:
    """Return the cost columns that at least one row fills."""
    keys = ("steps", "seconds_per_image", "flop_per_image")
    return [key for key in keys if any(getattr(row.cost, key) is not None for row in rows)]


def _marks(board: Board, rows: Sequence[Row]) -> list[str]:
    """Return what a reader must know of every row: what bars all from ranking, or how far ranks reach."""
    scores = [[row.scores[key] for key in board.metrics if key in row.scores] for row in rows]
    barring = set.intersection(*map(bars_all, scores))
    unpinned = all(any(UNPINNED in score.notes for score in of) for of in scores)
    caution = "" if barring else protocol_caution(board.protocol)
    marks = [*sorted(barring), *([UNPINNED] if unpinned else [])]
    return [*filter(None, [caution]), *map(note_words, marks)]


def _stands_in(board: Board) -> str:
    """Return the name of the protocol's first metric where another one sorts the board; else ""."""
    roles = load(board.protocol).ranked_metrics(board.source)
    first = next((m for role in roles for m in board.metrics if m in forms_of(role)), board.sort)
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


def _plots(board: Board, columns: Sequence[Column]) -> list[tuple[str, tuple[str, str]]]:
    """Return (metric's name, dot-and-whisker plot as light and dark addresses), the sort metric first.

    Anchors alone have no plot: the table says it all.
    """
    if not board.systems:
        return []
    found = [(column, _plot_rows(board, column.key)[:PLOTTED]) for column in columns[:_MOST_PLOTS]]
    return [(column.name, _plot(rows, column)) for column, rows in found if rows]


def _plot(rows: Sequence[PlotRow], column: Column) -> tuple[str, str]:
    basis = column.basis.replace(", against ", "\nagainst ")
    plot = dot_whisker(rows, f"{column.name}, {column.direction}\n{basis}".strip())
    return data_uri("image/svg+xml", plot.light), data_uri("image/svg+xml", plot.dark)


def _plot_rows(board: Board, metric: str) -> list[PlotRow]:
    """Return the rows that have a value of a metric: anchors, systems best first, unranked systems."""
    kinds: list[tuple[Kind, Sequence[Row]]] = [
        ("anchor", board.anchors),
        ("system", sorted(board.rows, key=partial(badness, metric=metric))),
        ("unranked", [u.row for u in board.unranked]),
    ]
    labels = labels_of(board)
    return [
        PlotRow(
            _plot_label(labels[row.card], row, kind),
            score.value,
            score.low,
            score.high,
            kind,
            row.tie_group.get(metric, 0),
        )
        for kind, rows in kinds
        for row in rows
        if (score := row.scores.get(metric)) is not None and score.value is not None
    ]


def _plot_label(label: str, row: Row, kind: Kind) -> str:
    name = label if len(label) <= 28 else f"{label[:17]}…{label[-10:]}"  # versions stand at the end
    suffix = {"anchor": ANCHORS.get(row.slug), "unranked": "unranked", "system": None}[kind]
    return f"{name} ({suffix})" if suffix else name
