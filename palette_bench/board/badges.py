"""A badge per row of a board, as SVG for a README: value, rank and tier.

Source: reports and studies, section 3.
"""

from __future__ import annotations

from pathlib import PurePosixPath

from palette_bench.board.comparability import ANCHORS
from palette_bench.board.leaderboard import Board, Row
from palette_bench.board.lines import all_rows
from palette_bench.board.pages import render
from palette_bench.board.ranks import rank_text
from palette_bench.board.words import (
    basis_words,
    decimals,
    metric_words,
    number,
    place,
    shown_key,
    value_text,
)
from palette_bench.scoring.scorecard import Score

_LETTER = 6.1  # px, the mean width of a letter at 11 px; textLength fits the text to it exactly
_PADDING = 10


def badge_name(page: str, row: Row) -> str:
    """Return where a row's badge lies in the site; the card's digest stands for the version, any text."""
    return f"badges/{PurePosixPath(page).stem}.{row.slug}-{row.card[:8]}.svg"


def badge_files(board: Board) -> dict[str, str]:
    """Return a badge for every card of a board, by path inside the site."""
    return {
        badge_name(board.page, row): badge(board.task, board.variant, board.sort, row)
        for shared in all_rows(board)
        for row in (shared, *shared.copies)
    }


def badge_words(sort: str | None, row: Row) -> str:
    """Return what a row's badge says."""
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
    """Return which network and reference the value comes from."""
    score = row.scores.get(sort or "")
    words = basis_words(score) if score else ""
    return f" ({words})" if words else ""


def _standing(sort: str | None, row: Row) -> str:
    rank = row.rank.get(sort or "")
    return "not ranked" if rank is None else f"rank {rank_text(rank)}"


def badge(task: str, variant: str | None, sort: str | None, row: Row) -> str:
    """Return a row's badge as SVG: the task on the left, its words on the right."""
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
