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

from palette_bench.board.citations import board_bibtex, board_dataset
from palette_bench.board.comparability import ANCHORS, bars_all
from palette_bench.board.exports import csv_text, latex_table, markdown_table
from palette_bench.board.leaderboard import Board, Leaderboard, Row
from palette_bench.board.method_page import method_page_name
from palette_bench.board.paired_tests import ALPHA, rule_of
from palette_bench.board.rows import (
    MetricColumn,
    all_rows,
    badness,
    basis_lines,
    columns_of,
    labels_of,
    lines_of,
    tied,
)
from palette_bench.board.set_again import DECLARATION, IDS, is_of_a_folder, set_command
from palette_bench.core.records import canonical_json
from palette_bench.core.types import ImageId
from palette_bench.pages.plots import Kind, PlotRow, dot_whisker
from palette_bench.pages.render import render
from palette_bench.pages.score_cell import score_cell
from palette_bench.pages.text import (
    EXPECTED_VALUE,
    NOTHING,
    ORIGINALS_FIXED,
    is_frechet,
    metric_words,
    network_words,
    note_words,
    place,
    protocol_caution,
    protocol_words,
    source_words,
    task_words,
    value_text,
)
from palette_bench.scoring.metrics import FEATURE_METRICS, forms_of
from palette_bench.scoring.scorecard import UNPINNED, took_originals_as_fixed

# --- sentences below the table ---


def method_words(board: Board) -> tuple[str, ...]:
    """Return the lines below a board's table: the tests, what a rank means, and the detectable difference."""
    systems = len(board.rows)
    if systems < 2:
        return ("A single system has no other system to be compared with.",) if systems else ()
    pairs = systems * (systems - 1) // 2
    tests = "; ".join(
        f"{metric_words(m).name} by {rule.words}" for m in board.metrics if (rule := rule_of(m))
    )
    words = [
        f"Every two systems are compared on the same {board.rows[0].n:,} images: {tests}. Two differ "
        f"if p is below {ALPHA} after Holm's correction for all pairs a metric ranks, at most {pairs:,}.",
        "A rank runs from one after the systems that are significantly better to the last place before those "
        "that are significantly worse. Group 1 is the system with the best value and all systems "
        "not told apart from it; group 2 is the same among the rest.",
    ]
    sort = board.sort or ""
    difference, rule = board.resolution.get(sort), rule_of(sort)
    if difference and rule:
        # a difference on a log scale is a ratio
        ratio = rule.column == "is_kl"
        size = f"{100 * math.expm1(difference):.2g} %" if ratio else f"{difference:.2g}"
        unit = " percentage points" if rule.column in ("top1", "") else ""
        name = metric_words(sort).name
        words.append(f"The tests find differences in {name} of {size}{unit} and more with 80 % power.")
    return tuple(words)


def interval_words(board: Board) -> tuple[str, ...]:
    """Return one sentence for each thing that the intervals of a board's metrics do not cover."""
    scores = [(m, row.scores[m]) for row in all_rows(board) for m in board.metrics if m in row.scores]
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
    base, behind = floor.scores[sort], []
    for row in (*board.rows, *(unranked.row for unranked in board.unranked)):
        score = row.scores.get(sort)
        if score is None or None in (score.low, score.high, base.low, base.high):
            continue
        higher = score.high < base.low  # type: ignore[operator]  # None is excluded above
        lower = score.low > base.high  # type: ignore[operator]
        if {"higher": higher, "lower": lower, "none": False}[score.direction]:
            behind.append(row.slug)
    if not behind:
        return ()
    names = f"{', '.join(behind[:-1])} and {behind[-1]} are" if behind[1:] else f"{behind[0]} is"
    what = f"worse than {floor.slug}, which changes nothing, by {metric_words(sort).name}"
    return (f"{names} {what}: the intervals do not overlap.",)


def leaders_words(board: Board) -> str:
    """Return the words that name the leaders of a board: the systems of its first tie group."""
    if not board.rows:
        return ""
    labels = labels_of(board)
    first, *others = (labels[row.card] for row in tied(board, board.rows[0]))
    if len(board.rows) == 1:
        return f"the only system: {first}"
    if not others:
        return f"first: {first}"
    return f"first: {first} and {others[0] if len(others) == 1 else f'{len(others)} others'}, not told apart"


# --- the board's page ---

TWINS = ("html", "csv", "json", "md", "tex", IDS, DECLARATION)
PLOTTED = 40  # most rows in a plot; the table below the plot has all rows
_MOST_PLOTS = 6  # each plot is drawn for both themes


def board_files(
    board: Board, ids: Sequence[ImageId] = (), authors: Sequence[str] = (), license_url: str = ""
) -> dict[str, str]:
    """Return a board's page and its numbers as CSV, JSON, Markdown and LaTeX, by path inside the site.

    Args:
        board: the board.
        ids: ids of a set made from a user's folder; they become a file for `generate --ids`.
        authors: authors of the scorecards, for search engines.
        license_url: licence of the scores, for search engines.
    """
    lines, rows = lines_of(board), all_rows(board)
    title = task_words(board.rules, board.task, board.variant)
    images = max(row.n for row in rows)
    source = source_words(board.rules, board.source, images)
    caption = f"{board.protocol}: {title}, {source}"
    tables = {"md": markdown_table(lines), "tex": latex_table(lines, caption)}
    stem = PurePosixPath(board.page).stem
    ids_file = f"{stem}.{IDS}" if ids else ""
    costs = ("steps", "seconds_per_image", "flop_per_image")
    # the protocol's first metric that cards here state; the page says so if another metric sorts the board
    roles = board.rules.ranked_metrics(board.source, board.task)
    first = next((m for role in roles for m in board.metrics if m in forms_of(role)), board.sort)
    page = render(
        "board.html.jinja",
        parts=("sorting", "board"),
        title=title,
        root="../",
        stem=stem,
        board=board,
        place=place(board.task, board.variant),
        protocol=protocol_words(board),
        source=source,
        images=images,
        sort=metric_words(board.sort).name if board.sort else "no metric",
        newest=max(row.date for row in rows),
        leaders=leaders_words(board),
        marks=_marks(board, rows),
        lines=lines,
        costs=[key for key in costs if any(getattr(row.cost, key) is not None for row in rows)],
        tiers=sorted({line.row.tier for line in lines.systems}),
        datasets=sorted({name for line in lines.systems for name in line.row.datasets}),
        basis=basis_lines(lines.columns),
        method=(*floor_words(board), *method_words(board), *interval_words(board)),
        stands_in=metric_words(first).name if first and first != board.sort else "",
        gaps=_gaps(board),
        quoted_columns=[
            (key, metric_words(key))
            for key in dict.fromkeys(key for row in board.quoted for key in row.values)
        ],
        plots=_plots(board, lines.columns),
        left_out=max(0, len(rows) - PLOTTED),
        tables=tables,
        bibtex=board_bibtex(board),
        dataset=board_dataset(board, authors, license_url),
        set_command=set_command(board, ids_file),
        of_a_folder=is_of_a_folder(board),
        ids_file=ids_file,
        protocol_file=f"{stem}.{DECLARATION}" if board.declaration else "",
        n_ids=len(ids),
    )
    base = board.page.removesuffix("html")
    return {
        board.page: page,
        f"{base}csv": csv_text([board]),
        f"{base}json": canonical_json(board.model_dump(mode="json")),
        **{f"{base}{kind}": text for kind, text in tables.items()},
        **({f"{base}{DECLARATION}": board.declaration.to_json()} if board.declaration else {}),
        **({f"{base}{IDS}": "".join(f"{image_id}\n" for image_id in ids)} if ids else {}),
    }


def _marks(board: Board, rows: Sequence[Row]) -> list[str]:
    """Return the notes that hold for every row: what bars all rows from ranking, how far ranks are valid."""
    scores = [[row.scores[key] for key in board.metrics if key in row.scores] for row in rows]
    barring = set.intersection(*map(bars_all, scores))
    unpinned = all(any(UNPINNED in score.notes for score in of) for of in scores)
    caution = "" if barring else protocol_caution(board)
    marks = [*sorted(barring), *([UNPINNED] if unpinned else [])]
    return [*filter(None, [caution, _stand_in(board, rows)]), *map(note_words, marks)]


def _stand_in(board: Board, rows: Sequence[Row]) -> str:
    """Return that ranked metrics come from other networks than the protocol's, or ""."""
    found = {(key, row.scores[key].extractor) for row in rows for key in board.metrics if key in row.scores}
    named = board.rules.extractors
    others = sorted(
        {name for key, name in found if key in FEATURE_METRICS and name and name not in named}
        - {row.extractor for row in FEATURE_METRICS.values()}
    )
    if not others:
        return ""
    words = " and ".join(map(network_words, others))
    wanted = ", ".join(map(network_words, named))
    return (
        f"{words} stands in for the networks of {board.protocol} ({wanted}): these numbers and ranks compare "
        "methods on this board, and with no other numbers of this protocol."
    )


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


def _plots(board: Board, columns: Sequence[MetricColumn]) -> list[tuple[str, tuple[str, str]]]:
    """Return (metric name, (light, dark) data addresses of a dot-and-whisker plot), the sorting metric first.

    A board of anchors alone has no plots.
    """
    if not board.systems:
        return []
    labels, found = labels_of(board), []
    for column in columns[:_MOST_PLOTS]:
        kinds: list[tuple[Kind, Sequence[Row]]] = [
            ("anchor", board.anchors),
            ("system", sorted(board.rows, key=partial(badness, metric=column.key))),
            ("unranked", [u.row for u in board.unranked]),
        ]
        rows = []
        for kind, row in ((kind, row) for kind, members in kinds for row in members):
            score = row.scores.get(column.key)
            if score is None or score.value is None:
                continue
            label = labels[row.card]
            if len(label) > 28:
                label = f"{label[:17]}…{label[-10:]}"  # cut the middle: the version is at the end of a label
            suffix = {"anchor": ANCHORS.get(row.slug), "unranked": "unranked", "system": None}[kind]
            label += f" ({suffix})" if suffix else ""
            group = row.tie_group.get(column.key, 0)
            rows.append(PlotRow(label, score.value, score.low, score.high, kind, group))
        if rows:
            basis = column.basis.replace(", against ", "\nagainst ")
            plot = dot_whisker(rows[:PLOTTED], f"{column.name}, {column.direction}\n{basis}".strip())
            found.append((column.name, plot.addresses))
    return found


# --- the front page ---


def index_page(leaderboard: Leaderboard) -> str:
    """Return the front page's HTML."""
    sections: dict[str, list[dict[str, Any]]] = defaultdict(list)  # one per task title, across protocols
    for board in leaderboard.boards:
        sections[board.rules.task(board.task).title].append(_entry(board))
    # every system, sorted by slug: its page, and how many boards list it and how many it leads
    rows: dict[str, list[Row]] = defaultdict(list)
    boards: dict[str, set[str]] = defaultdict(set)
    leads: dict[str, set[str]] = defaultdict(set)
    for board in leaderboard.boards:
        for row in [*board.rows, *(u.row for u in board.unranked)]:
            rows[row.slug].append(row)
            boards[row.slug].add(board.page)
            if row.tie_group.get(board.sort or "") == 1:
                leads[row.slug].add(board.page)
    methods = [
        {
            "name": max(found, key=lambda row: (row.date, row.card)).name,
            "page": method_page_name(slug),
            "slug": slug,
            "boards": len(boards[slug]),
            "leads": len(leads[slug]),
        }
        for slug, found in sorted(rows.items())
    ]
    return render(
        "index.html.jinja",
        title="Leaderboards",
        root="",
        sections=list(sections.items()),
        boards=leaderboard.boards,
        methods=methods,
    )


def _entry(board: Board) -> dict[str, Any]:
    """Return what the index prints about a board: its title, date, and the leaders by the sorting metric."""
    best = board.rows[0] if board.rows else None
    column = next((column for column in columns_of(board) if column.key == board.sort), None)
    anchors = [(ANCHORS[row.slug], row.scores.get(board.sort or "")) for row in board.anchors]
    return {
        "board": board,
        "protocol": protocol_words(board),
        "title": board.rules.variant(board.task, board.variant or "default").title,
        "source": source_words(board.rules, board.source, max(row.n for row in all_rows(board))),
        "metric": column.name if column else "",
        "basis": column.basis if column else "",
        "leaders": leaders_words(board),
        "anchors": [(role, value_text(score) if score else NOTHING) for role, score in anchors],
        "cell": score_cell(board.sort, best.scores[board.sort]) if best and board.sort else None,
        "date": max((row.date for row in all_rows(board)), default=""),
    }
