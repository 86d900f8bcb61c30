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
    """Return a booktabs table; anchors first, unranked systems last with their reasons.

    Args:
        lines: of the board.
        caption: what a comment above the table says.
    """
    heads = [latex(f"{c.name} {c.arrow}".strip()) for c in lines.columns]
    body = [
        [_latex_row(line, line.role) for line in lines.anchors],
        [_latex_row(line, line.ranks[0]) for line in lines.ranked],
        [text for line in lines.unranked for text in _latex_unranked(line)],
    ]
    return "\n".join(
        [
            f"% {' '.join(caption.split())}",
            *(f"% {text}" for text in basis_lines(lines.columns)),
            r"% \usepackage{booktabs}; bold: the first tie group, not told apart from the best",
            f"\\begin{{tabular}}{{ll{'r' * len(heads)}}}",
            r"\toprule",
            " & ".join(["Rank", "Method", *heads]) + r" \\",
            *(text for block in body if block for text in (r"\midrule", *block)),
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex_row(line: Line, rank: str) -> str:
    cells = [_latex_cell(cell, leads=leads) for cell, leads in zip(line.cells, line.leads, strict=True)]
    return " & ".join([latex(rank or NOTHING), latex(line.label), *cells]) + r" \\"


def _latex_cell(cell: ScoreCell | None, *, leads: bool) -> str:
    if cell is None:
        return "--"
    value = latex(cell.value)
    value = rf"\textbf{{{value}}}" if leads else value
    return value + (rf" {{\scriptsize [{latex(_bounds(cell))}]}}" if cell.interval else "")


def _latex_unranked(line: Line) -> Iterable[str]:
    yield _latex_row(line, "")
    yield rf"\multicolumn{{{len(line.cells) + 2}}}{{l}}{{\footnotesize not ranked: {latex(line.reason)}}} \\"


def _bounds(cell: ScoreCell) -> str:
    return cell.interval.replace(" to ", ", ")


def markdown_table(lines: Lines) -> str:
    """Return a Markdown table; anchors first, unranked systems last, their reasons below it."""
    heads = ["Rank", "Method", *(markdown(f"{c.name} {c.arrow}".strip()) for c in lines.columns), "Tier"]
    rows = [
        *(_markdown_row(line, line.role) for line in lines.anchors),
        *(_markdown_row(line, line.ranks[0]) for line in lines.ranked),
        *(_markdown_row(line, NOTHING) for line in lines.unranked),
    ]
    why = [f"- {markdown(f'{u.row.name} {u.row.version}')}: {markdown(u.reason)}" for u in lines.unranked]
    told = ["", "Listed, not ranked:", "", *why] if why else []
    rule = ["---", "---", *("---:" for _ in lines.columns), "---"]
    legend = "Bold: the first tie group, not told apart from the best. In brackets: 95 % intervals."
    basis = [markdown(text) for text in basis_lines(lines.columns)]
    return "\n".join([*map(_piped, [heads, rule, *rows]), "", " ".join([legend, *basis]), *told, ""])


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_row(line: Line, rank: str) -> list[str]:
    cells = [_markdown_cell(cell, leads=leads) for cell, leads in zip(line.cells, line.leads, strict=True)]
    return [rank, markdown(line.label), *cells, "" if line.role else line.row.tier]


def _markdown_cell(cell: ScoreCell | None, *, leads: bool) -> str:
    if cell is None:
        return NOTHING
    value = f"**{cell.value}**" if leads else cell.value
    return value + (f" [{_bounds(cell)}]" if cell.interval else "")
