"""The page of one board with its CSV, JSON, Markdown and LaTeX files, and the front page of the site.

Source: reports and studies, section 3.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from palette_bench.board.comparability import ANCHORS, bars_all
from palette_bench.board.exports import csv_text, latex_table, markdown_table
from palette_bench.board.leaderboard import Board, Leaderboard, Row
from palette_bench.board.method_page import method_page_name
from palette_bench.board.paired_tests import ALPHA, rule_of
from palette_bench.board.quoted import QuotedRow
from palette_bench.board.rows import (
    MetricColumn,
    PrintedTable,
    all_rows,
    badness,
    basis_lines,
    columns_of,
    labels_of,
    lines_of,
    tied,
)
from palette_bench.board.set_again import IDS, is_of_a_folder, set_command
from palette_bench.core.records import canonical_json
from palette_bench.core.types import ImageId
from palette_bench.pages.plots import Kind, PlotRow, dot_whisker
from palette_bench.pages.render import data_uri, render
from palette_bench.pages.score_cell import score_cell
from palette_bench.pages.text import (
    EXPECTED_VALUE,
    NOTHING,
    ORIGINALS_FIXED,
    MetricWords,
    is_frechet,
    metric_words,
    note_words,
    place,
    protocol_caution,
    source_words,
    task_words,
    value_text,
)
from palette_bench.scoring.metrics import forms_of
from palette_bench.scoring.scorecard import UNPINNED, Score, took_originals_as_fixed
from palette_bench.tasks.protocol import load

# --- sentences below the table ---


def method_words(board: Board) -> tuple[str, ...]:
    """Return the lines below a board's table: the tests, what a rank means, and the detectable difference."""
    systems = len(board.rows)
    if systems < 2:
        return ("A system alone has nobody to be compared with.",) if systems else ()
    pairs = systems * (systems - 1) // 2
    tests = "; ".join(
        f"{metric_words(m).name} by {rule.words}" for m in board.metrics if (rule := rule_of(m))
    )
    return (
        f"Every two systems are compared on the same {board.rows[0].n:,} images: {tests}. Two differ where "
        f"p is under {ALPHA} after Holm's correction for every pair a metric ranks, {pairs:,} at most.",
        "A rank runs from one after the systems that are significantly better to the last place before those "
        "that are significantly worse. Group 1 is the best value with every system not told apart from "
        "it, group 2 the same among the rest.",
        *_resolution(board),
    )


def _resolution(board: Board) -> tuple[str, ...]:
    sort = board.sort or ""
    difference = board.resolution.get(sort)
    rule = rule_of(sort)
    if not difference or rule is None:
        return ()
    column = rule.column
    size = (
        f"{100 * math.expm1(difference):.2g} %" if column == "is_kl" else f"{difference:.2g}"
    )  # a difference on a log scale is a ratio
    unit = " percentage points" if column in ("top1", "") else ""
    return (f"Gaps in {metric_words(sort).name} of {size}{unit} and more are found with 80 % power.",)


def interval_words(board: Board) -> tuple[str, ...]:
    """Return one sentence for each thing that the intervals of a board's metrics do not cover."""
    rows = [*board.rows, *board.anchors, *(u.row for u in board.unranked)]
    scores = [(m, row.scores[m]) for row in rows for m in board.metrics if m in row.scores]
    fixed = sorted({metric_words(m).name for m, score in scores if took_originals_as_fixed(score)})
    found = [EXPECTED_VALUE] if any(is_frechet(m) and score.interval for m, score in scores) else []
    found += [f"{' and '.join(fixed)} of earlier cards: {ORIGINALS_FIXED}"] if fixed else []
    return tuple(found)


def floor_words(board: Board) -> tuple[str, ...]:
    """Return a sentence that names the systems which are worse than the floor anchor; () if there are none.

    A system is worse if its interval by the sorting metric lies entirely on the worse side of the floor's.
    """
    sort = board.sort or ""
    floor = next((row for row in board.anchors if ANCHORS[row.slug] == "floor" and sort in row.scores), None)
    if floor is None:
        return ()
    rows = (*board.rows, *(unranked.row for unranked in board.unranked))
    behind = [row.slug for row in rows if sort in row.scores and _worse(row.scores[sort], floor.scores[sort])]
    if not behind:
        return ()
    names = f"{', '.join(behind[:-1])} and {behind[-1]} are" if behind[1:] else f"{behind[0]} is"
    what = f"worse than {floor.slug}, which changes nothing, by {metric_words(sort).name}"
    return (f"{names} {what}: the intervals lie apart.",)


def _worse(one: Score, other: Score) -> bool:
    ends = one.low, one.high, other.low, other.high
    if one.direction == "none" or None in ends:
        return False
    return one.high < other.low if one.direction == "higher" else one.low > other.high  # type: ignore[operator]


def leaders_words(names: Sequence[str], systems: int) -> str:
    """Return the words that name the leaders of a board.

    Args:
        names: names of the systems in the first tie group.
        systems: number of ranked systems.
    """
    if systems == 1:
        return f"the only system: {names[0]}"
    match names:
        case []:
            return ""
        case [one]:
            return f"first: {one}"
        case [one, two]:
            return f"first: {one} and {two}, not told apart"
        case [one, *others]:
            return f"first: {one} and {len(others)} others, not told apart"
    raise AssertionError(names)


# --- the board's page ---

TWINS = ("html", "csv", "json", "md", "tex", IDS)
PLOTTED = 40  # most rows in a plot; the table below the plot has all rows
_MOST_PLOTS = 6  # each plot is drawn for both themes


def board_files(board: Board, ids: Sequence[ImageId] = ()) -> dict[str, str]:
    """Return a board's page and its numbers as CSV, JSON, Markdown and LaTeX, by path inside the site.

    Args:
        board: the board.
        ids: ids of a set made from a user's folder; they become a file for `generate --ids`.
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


def _page(board: Board, lines: PrintedTable, tables: dict[str, str], n_ids: int) -> str:
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
        images=max(row.n for row in rows),
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
    """Return the cost columns that have a value in at least one row."""
    keys = ("steps", "seconds_per_image", "flop_per_image")
    return [key for key in keys if any(getattr(row.cost, key) is not None for row in rows)]


def _marks(board: Board, rows: Sequence[Row]) -> list[str]:
    """Return the notes that hold for every row: what bars all rows from ranking, how far ranks are valid."""
    scores = [[row.scores[key] for key in board.metrics if key in row.scores] for row in rows]
    barring = set.intersection(*map(bars_all, scores))
    unpinned = all(any(UNPINNED in score.notes for score in of) for of in scores)
    caution = "" if barring else protocol_caution(board.protocol)
    marks = [*sorted(barring), *([UNPINNED] if unpinned else [])]
    return [*filter(None, [caution]), *map(note_words, marks)]


def _stands_in(board: Board) -> str:
    """Return the name of the protocol's first metric if another metric sorts the board, else ""."""
    roles = load(board.protocol).ranked_metrics(board.source)
    first = next((m for role in roles for m in board.metrics if m in forms_of(role)), board.sort)
    return metric_words(first).name if first and first != board.sort else ""


def _gaps(board: Board) -> list[str]:
    """Return a sentence for each metric and reason for which ranked systems have no rank."""
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


def _plots(board: Board, columns: Sequence[MetricColumn]) -> list[tuple[str, tuple[str, str]]]:
    """Return (metric name, (light, dark) data addresses of a dot-and-whisker plot), the sorting metric first.

    A board of anchors alone has no plots.
    """
    if not board.systems:
        return []
    found = [(column, _plot_rows(board, column.key)[:PLOTTED]) for column in columns[:_MOST_PLOTS]]
    return [(column.name, _plot(rows, column)) for column, rows in found if rows]


def _plot(rows: Sequence[PlotRow], column: MetricColumn) -> tuple[str, str]:
    basis = column.basis.replace(", against ", "\nagainst ")
    plot = dot_whisker(rows, f"{column.name}, {column.direction}\n{basis}".strip())
    return data_uri("image/svg+xml", plot.light), data_uri("image/svg+xml", plot.dark)


def _plot_rows(board: Board, metric: str) -> list[PlotRow]:
    """Return the rows with a value of the metric: anchors, systems (best first), unranked systems."""
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
    # cut the middle: the version is at the end of a label
    name = label if len(label) <= 28 else f"{label[:17]}…{label[-10:]}"
    suffix = {"anchor": ANCHORS.get(row.slug), "unranked": "unranked", "system": None}[kind]
    return f"{name} ({suffix})" if suffix else name


# --- the front page ---


def index_page(leaderboard: Leaderboard) -> str:
    """Return the front page's HTML."""
    sections: dict[str, list[dict[str, Any]]] = defaultdict(list)  # one per task title, across protocols
    for board in leaderboard.boards:
        sections[load(board.protocol).task(board.task).title].append(_entry(board))
    return render(
        "index.html.jinja",
        title="Leaderboards",
        root="",
        sections=list(sections.items()),
        boards=leaderboard.boards,
        methods=_methods(leaderboard),
    )


def _entry(board: Board) -> dict[str, Any]:
    """Return what the index prints about a board: its title, date, and the leaders by the sorting metric."""
    columns = columns_of(board)
    best = board.rows[0] if board.rows else None
    labels = labels_of(board)
    leaders = [labels[row.card] for row in tied(board, best)] if best else []
    return {
        "board": board,
        "title": load(board.protocol).variant(board.task, board.variant or "default").title,
        "source": source_words(board.protocol, board.source, max(row.n for row in all_rows(board))),
        "metric": next((column.name for column in columns if column.key == board.sort), ""),
        "basis": next((column.basis for column in columns if column.key == board.sort), ""),
        "leaders": leaders_words(leaders, len(board.rows)),
        "anchors": [(ANCHORS[row.slug], _sort_value(board, row)) for row in board.anchors],
        "cell": score_cell(board.sort, best.scores[board.sort]) if best and board.sort else None,
        "date": max((row.date for row in all_rows(board)), default=""),
    }


def _sort_value(board: Board, row: Row) -> str:
    score = row.scores.get(board.sort or "")
    return value_text(score) if score else NOTHING


def _methods(leaderboard: Leaderboard) -> list[dict[str, Any]]:
    """Return every system, sorted by slug: its page, and how many boards list it and how many it leads."""
    rows: dict[str, list[Row]] = defaultdict(list)
    boards: dict[str, set[str]] = defaultdict(set)
    leads: dict[str, set[str]] = defaultdict(set)
    for board in leaderboard.boards:
        for row in [*board.rows, *(u.row for u in board.unranked)]:
            rows[row.slug].append(row)
            boards[row.slug].add(board.page)
            if row.tie_group.get(board.sort or "") == 1:
                leads[row.slug].add(board.page)
    return [
        {
            "name": max(found, key=lambda row: (row.date, row.card)).name,
            "page": method_page_name(slug),
            "slug": slug,
            "boards": len(boards[slug]),
            "leads": len(leads[slug]),
        }
        for slug, found in sorted(rows.items())
    ]
