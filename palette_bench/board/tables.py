"""A board as a table to paste into a paper or a README: LaTeX with booktabs, or Markdown.

The whole first tie group is bold, never one smallest number; every value carries its interval.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from palette_bench.board.cells import ScoreCell
from palette_bench.board.lines import Line, Lines, basis_lines
from palette_bench.board.words import MINUS, NOTHING

_LATEX = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}"},
    **{NOTHING: "--", MINUS: "$-$", "↓": r"$\downarrow$", "↑": r"$\uparrow$", "…": r"\ldots{}"},
}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&-])")


def latex(text: str) -> str:
    """Return plain text as LaTeX prints it; nothing in it is a command."""
    return "".join(_LATEX.get(c, c) for c in text)


def markdown(text: str) -> str:
    """Return plain text as Markdown prints it; nothing in it is markup."""
    return _MARKDOWN.sub(r"\\\1", text)


def latex_table(lines: Lines, caption: str) -> str:
    """Return a booktabs table, the best value first; unranked systems say why.

    Args:
        lines: of the board.
        caption: what a comment above the table says.
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


def _latex_rows(line: Line) -> Iterable[str]:
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


def markdown_table(lines: Lines) -> str:
    """Return a Markdown table, the best value first; why some are not ranked stands below it."""
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


def _markdown_row(line: Line) -> list[str]:
    cells = [_markdown_cell(cell, leads=leads) for cell, leads in zip(line.cells, line.leads, strict=True)]
    return [line.role or line.place, markdown(line.label), *cells, "" if line.role else line.row.tier]


def _markdown_cell(cell: ScoreCell | None, *, leads: bool) -> str:
    if cell is None:
        return NOTHING
    value = f"**{cell.value}**" if leads else cell.value
    return value + (f" [{_bounds(cell)}]" if cell.interval else "")
