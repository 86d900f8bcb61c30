"""Boards in formats to paste or load: LaTeX and Markdown tables, CSV and Parquet, SVG badges.

The tables set the whole first tie group in bold, not only the best value. Every value carries its interval.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from pathlib import PurePosixPath

import pandas as pd

from palette_bench.board.comparability import ANCHORS
from palette_bench.board.leaderboard import Board, Row
from palette_bench.board.ranking import rank_text
from palette_bench.board.rows import PrintedTable, basis_lines, rows_of_cards
from palette_bench.core.errors import StackError, problem
from palette_bench.pages.render import render
from palette_bench.pages.score_cell import ScoreCell
from palette_bench.pages.text import (
    MINUS,
    NOTHING,
    basis_words,
    decimals,
    metric_words,
    network_words,
    number,
    place,
    reference_words,
    shown_key,
    value_text,
)
from palette_bench.scoring.scorecard import Score

_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"},
    **{NOTHING: "--", MINUS: "$-$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "…": r"\ldots{}"},
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


# --- LaTeX and Markdown ---


def latex(text: str) -> str:
    """Return the text with every LaTeX special character escaped."""
    return "".join(_LATEX.get(c, c) for c in text)


def markdown(text: str) -> str:
    """Return the text with every Markdown special character escaped."""
    return _MARKDOWN.sub(r"\\\1", text)


def latex_table(lines: PrintedTable, caption: str) -> str:
    """Return the board as a booktabs table, best value first.

    A row below each unranked system gives the reason.

    Args:
        lines: the printed table of the board.
        caption: text of the comment above the table.
    """
    heads = [latex(f"{c.name} {c.arrow}".strip()) for c in lines.columns]
    rows = []
    for line in lines.rows:
        cells = [_latex_cell(cell, leads=leads) for cell, leads in zip(line.cells, line.leads, strict=True)]
        rows.append(" & ".join([latex(line.role or line.place), latex(line.label), *cells]) + r" \\")
        if line.reason:
            note = rf"\footnotesize not ranked: {latex(line.reason)}"
            rows.append(rf"\multicolumn{{{len(line.cells) + 2}}}{{l}}{{{note}}} \\")
    return "\n".join(
        [
            f"% {' '.join(caption.split())}",
            *(f"% {text}" for text in basis_lines(lines.columns)),
            r"% \usepackage{booktabs}; bold: the first tie group, not told apart from the best",
            f"\\begin{{tabular}}{{ll{'r' * len(heads)}}}",
            r"\toprule",
            " & ".join(["Rank", "Method", *heads]) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex_cell(cell: ScoreCell | None, *, leads: bool) -> str:
    if cell is None:
        return "--"
    value = latex(cell.value)
    value = rf"\textbf{{{value}}}" if leads else value
    return value + (rf" {{\scriptsize [{latex(_bounds(cell))}]}}" if cell.interval else "")


def _bounds(cell: ScoreCell) -> str:
    return cell.interval.replace(" to ", ", ")


def markdown_table(lines: PrintedTable) -> str:
    """Return the board as a Markdown table, best value first.

    A list below the table gives the reason for each unranked system.
    """
    heads = ["Rank", "Method", *(markdown(f"{c.name} {c.arrow}".strip()) for c in lines.columns), "Tier"]
    rule = ["---", "---", *("---:" for _ in lines.columns), "---"]
    rows = [heads, rule]
    for line in lines.rows:
        cells = [
            _markdown_cell(cell, leads=leads) for cell, leads in zip(line.cells, line.leads, strict=True)
        ]
        tier = "" if line.role else line.row.tier
        rows.append([line.role or line.place, markdown(line.label), *cells, tier])
    why = [f"- {markdown(f'{u.row.name} {u.row.version}')}: {markdown(u.reason)}" for u in lines.unranked]
    unranked = ["", "Listed, not ranked:", "", *why] if why else []
    legend = "Bold: the first tie group, not told apart from the best. In brackets: 95 % intervals."
    basis = [markdown(text) for text in basis_lines(lines.columns)]
    table = [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join([*table, "", " ".join([legend, *basis]), *unranked, ""])


def _markdown_cell(cell: ScoreCell | None, *, leads: bool) -> str:
    if cell is None:
        return NOTHING
    value = f"**{cell.value}**" if leads else cell.value
    return value + (f" [{_bounds(cell)}]" if cell.interval else "")


# --- CSV and Parquet ---

_COLUMNS = [
    *("protocol", "task", "variant", "source", "page", "status", "slug", "version", "tier"),
    *("metric", "value", "low", "high", "n", "direction", "unit"),
    *("extractor", "network", "reference", "card"),
    *("rank", "rank_low", "rank_high", "tie_group", "unranked_reason"),
    *("date", "saw_test_images", "parameters", "steps", "seconds_per_image", "flop_per_image", "hardware"),
]
_NUMBERS = (
    *("value", "low", "high", "n", "rank_low", "rank_high", "tie_group"),
    *("parameters", "steps", "seconds_per_image", "flop_per_image"),
)


def csv_text(boards: Iterable[Board]) -> str:
    """Return every score of the boards as CSV, one row per card and metric.

    Text that a spreadsheet would run as a formula is prefixed with an apostrophe.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for board in boards:
        rows = [("ranked", r) for r in board.rows] + [("anchor", r) for r in board.anchors]
        rows += [(f"unranked {u.code}", u.row) for u in board.unranked]
        for status, row in rows:
            for metric, score in sorted(row.scores.items()):
                cells = _cells(board, status, row, metric, score)
                writer.writerow(
                    f"'{c}" if isinstance(c, str) and c[:1] in "=+-@\t\r" and c else c for c in cells
                )
    return file.getvalue()


def _cells(board: Board, status: str, row: Row, metric: str, score: Score) -> list[object]:
    where = [board.protocol, board.task, board.variant, board.source, board.page]
    who = [status, row.slug, row.version, row.tier]
    what = [metric, score.value, score.low, score.high, score.n, score.direction, score.unit, score.extractor]
    basis = [network_words(score.extractor), reference_words(score), row.card]
    place: list[object] = ["", "", "", "", row.no_rank.get(metric, "")]
    if metric in row.rank:
        place = [rank_text(row.rank[metric]), *row.rank[metric], row.tie_group[metric], ""]
    cost = row.cost
    stated = [row.date, row.saw_test_images, row.parameters]
    spent = [cost.steps, cost.seconds_per_image, cost.flop_per_image, cost.hardware]
    return [*where, *who, *what, *basis, *place, *stated, *spent]


def parquet_bytes(data: bytes) -> bytes:
    """Return the CSV table as Parquet: numeric columns as numbers, all other columns as text.

    Raises:
        StackError: PB711, pyarrow is not installed.
    """
    frame = pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
    for name in _NUMBERS:
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    file = io.BytesIO()
    try:
        frame.to_parquet(file, index=False)
    except ImportError as error:
        raise StackError(problem("PB711", "pyarrow", fix="pip install palette-bench[parquet]")) from error
    return file.getvalue()


# --- badges ---

_LETTER = 6.1  # px, mean letter width at font size 11 px; SVG textLength stretches the text to fit exactly
_PADDING = 10


def badge_name(page: str, row: Row) -> str:
    """Return the path of a row's badge inside the site.

    The file name has the first 8 digits of the card's digest because a version may contain any characters.
    """
    return f"badges/{PurePosixPath(page).stem}.{row.slug}-{row.card[:8]}.svg"


def badge_files(board: Board) -> dict[str, str]:
    """Return a badge for every card of a board, by path inside the site."""
    return {
        badge_name(board.page, row): badge(board.task, board.variant, board.sort, row)
        for row in rows_of_cards(board)
    }


def badge_words(sort: str | None, row: Row) -> str:
    """Return the text of a row's badge: value, rank and tier, or value and "anchor"."""
    key = sort or ""
    score, value = row.scores.get(key), "no score"
    if score:
        value = f"{metric_words(shown_key(key, score)).name} {value_text(score)}"
        if score.value is not None and score.low is not None and score.high is not None:
            value += f" ±{number((score.high - score.low) / 2, decimals(score))}"
    if row.slug in ANCHORS:
        return f"{value} · anchor"
    standing = f"rank {rank_text(row.rank[key])}" if key in row.rank else "not ranked"
    return f"{value} · {standing} · {row.tier}"


def badge(task: str, variant: str | None, sort: str | None, row: Row) -> str:
    """Return a row's badge as SVG: the task on the left, the text of `badge_words` on the right."""
    left, right = place(task, variant), badge_words(sort, row)
    score = row.scores.get(sort or "")
    basis = basis_words(score) if score else ""
    return render(
        "badge.svg.jinja",
        left=left,
        right=right,
        widths=[round(_LETTER * len(text)) + 2 * _PADDING for text in (left, right)],
        padding=_PADDING,
        title=f"{row.name} {row.version}, {left}: {right}{f' ({basis})' if basis else ''}",
        ranked=(sort or "") in row.rank,
    )
