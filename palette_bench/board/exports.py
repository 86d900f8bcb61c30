"""Boards in formats to paste or load: LaTeX and Markdown tables, CSV and Parquet, SVG badges.

The tables set the whole first tie group in bold, not only the best value. Every value carries its interval.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import pandas as pd

from palette_bench.board.comparability import ANCHORS
from palette_bench.board.leaderboard import Board, Row
from palette_bench.board.ranking import rank_text
from palette_bench.board.rows import PrintedRow, PrintedTable, all_rows, basis_lines
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
    return "\n".join(
        [
            f"% {' '.join(caption.split())}",
            *(f"% {text}" for text in basis_lines(lines.columns)),
            r"% \usepackage{booktabs}; bold: the first tie group, not told apart from the best",
            f"\\begin{{tabular}}{{ll{'r' * len(heads)}}}",
            r"\toprule",
            " & ".join(["Rank", "Method", *heads]) + r" \\",
            r"\midrule",
            *(text for line in lines.rows for text in _latex_rows(line)),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex_rows(line: PrintedRow) -> Iterable[str]:
    cells = [_latex_cell(cell, leads=leads) for cell, leads in zip(line.cells, line.leads, strict=True)]
    yield " & ".join([latex(line.role or line.place), latex(line.label), *cells]) + r" \\"
    if line.reason:
        told = rf"\footnotesize not ranked: {latex(line.reason)}"
        yield rf"\multicolumn{{{len(line.cells) + 2}}}{{l}}{{{told}}} \\"


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
    rows = [_markdown_row(line) for line in lines.rows]
    why = [f"- {markdown(f'{u.row.name} {u.row.version}')}: {markdown(u.reason)}" for u in lines.unranked]
    told = ["", "Listed, not ranked:", "", *why] if why else []
    rule = ["---", "---", *("---:" for _ in lines.columns), "---"]
    legend = "Bold: the first tie group, not told apart from the best. In brackets: 95 % intervals."
    basis = [markdown(text) for text in basis_lines(lines.columns)]
    return "\n".join([*map(_piped, [heads, rule, *rows]), "", " ".join([legend, *basis]), *told, ""])


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_row(line: PrintedRow) -> list[str]:
    cells = [_markdown_cell(cell, leads=leads) for cell, leads in zip(line.cells, line.leads, strict=True)]
    return [line.role or line.place, markdown(line.label), *cells, "" if line.role else line.row.tier]


def _markdown_cell(cell: ScoreCell | None, *, leads: bool) -> str:
    if cell is None:
        return NOTHING
    value = f"**{cell.value}**" if leads else cell.value
    return value + (f" [{_bounds(cell)}]" if cell.interval else "")


# --- CSV and Parquet ---

_COLUMNS = [
    *("protocol", "task", "variant", "source", "page", "status", "slug", "version", "tier"),
    *(
        "metric",
        "value",
        "low",
        "high",
        "n",
        "direction",
        "unit",
        "extractor",
        "network",
        "reference",
        "card",
    ),
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
                writer.writerow(_guarded(_cells(board, status, row, metric, score)))
    return file.getvalue()


def _cells(board: Board, status: str, row: Row, metric: str, score: Score) -> list[object]:
    where = [board.protocol, board.task, board.variant, board.source, board.page]
    who = [status, row.slug, row.version, row.tier]
    what = [metric, score.value, score.low, score.high, score.n, score.direction, score.unit, score.extractor]
    stands_on = [network_words(score.extractor), reference_words(score)]
    return [*where, *who, *what, *stands_on, row.card, *_rank(row, metric), *_declared(row)]


def _declared(row: Row) -> list[object]:
    cost = row.cost
    spent = [cost.steps, cost.seconds_per_image, cost.flop_per_image, cost.hardware]
    return [row.date, row.saw_test_images, row.parameters, *spent]


def _rank(row: Row, metric: str) -> list[object]:
    if metric not in row.rank:
        return ["", "", "", "", row.no_rank.get(metric, "")]
    return [rank_text(row.rank[metric]), *row.rank[metric], row.tie_group[metric], ""]


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


def _guarded(cells: Iterable[object]) -> list[object]:
    return [f"'{c}" if isinstance(c, str) and c[:1] in "=+-@\t\r" and c else c for c in cells]


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
        for shared in all_rows(board)
        for row in (shared, *shared.copies)
    }


def badge_words(sort: str | None, row: Row) -> str:
    """Return the text of a row's badge: value, rank and tier, or value and "anchor"."""
    score = row.scores.get(sort or "")
    value = f"{metric_words(shown_key(sort or '', score)).name} {_value(score)}" if score else "no score"
    return " · ".join(
        [value, _standing(sort, row), row.tier] if row.slug not in ANCHORS else [value, "anchor"]
    )


def _value(score: Score) -> str:
    text = value_text(score)
    if score.value is None or score.low is None or score.high is None:
        return text
    return f"{text} ±{number((score.high - score.low) / 2, decimals(score))}"


def _basis(sort: str | None, row: Row) -> str:
    """Return the network and the reference of the row's value, in parentheses."""
    score = row.scores.get(sort or "")
    words = basis_words(score) if score else ""
    return f" ({words})" if words else ""


def _standing(sort: str | None, row: Row) -> str:
    rank = row.rank.get(sort or "")
    return "not ranked" if rank is None else f"rank {rank_text(rank)}"


def badge(task: str, variant: str | None, sort: str | None, row: Row) -> str:
    """Return a row's badge as SVG: the task on the left, the text of `badge_words` on the right."""
    left, right = place(task, variant), badge_words(sort, row)
    return render(
        "badge.svg.jinja",
        left=left,
        right=right,
        widths=[round(_LETTER * len(text)) + 2 * _PADDING for text in (left, right)],
        padding=_PADDING,
        title=f"{row.name} {row.version}, {left}: {right}{_basis(sort, row)}",
        ranked=(sort or "") in row.rank,
    )
