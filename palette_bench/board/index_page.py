"""The front page of a site: every board with who leads it, and every method.

Source: reports and studies, section 3.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from palette_bench.board.cells import score_cell
from palette_bench.board.claims import leaders_words
from palette_bench.board.comparability import ANCHORS
from palette_bench.board.leaderboard import Board, Leaderboard, Row
from palette_bench.board.lines import all_rows, columns_of, labels_of, tied
from palette_bench.board.method_page import method_page_name
from palette_bench.board.pages import render
from palette_bench.board.words import NOTHING, source_words, value_text
from palette_bench.tasks.protocol import load


def index_page(leaderboard: Leaderboard) -> str:
    """Return the front page's HTML."""
    sections: dict[str, list[dict[str, Any]]] = defaultdict(list)  # a task of two protocols is one section
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
    """Return what the index says of a board: its place, size, and who leads it by the sort metric."""
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
    """Return every system by name: its page, on how many boards it stands, on how many it leads."""
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
