"""`leaderboard.csv`: every score of every board, a line each, with its rank or why there is none."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from palette_bench.board.leaderboard import Board, Leaderboard, Row
from palette_bench.board.ranks import rank_text
from palette_bench.scoring.scorecard import Score

_COLUMNS = [
    *("protocol", "task", "variant", "source", "page", "status", "slug", "version", "tier"),
    *("metric", "value", "low", "high", "n", "direction", "unit", "extractor", "card"),
    *("rank", "rank_low", "rank_high", "tie_group", "unranked_reason"),
]


def csv_text(leaderboard: Leaderboard) -> str:
    """Return every score of every board as CSV; text that a spreadsheet would run gets an apostrophe."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for board in leaderboard.boards:
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
    return [*where, *who, *what, row.card, *_rank(row, metric)]


def _rank(row: Row, metric: str) -> list[object]:
    if metric not in row.rank:
        return ["", "", "", "", row.no_rank.get(metric, "")]
    return [rank_text(row.rank[metric]), *row.rank[metric], row.tie_group[metric], ""]


def _guarded(cells: Iterable[object]) -> list[object]:
    return [f"'{c}" if isinstance(c, str) and c[:1] in "=+-@\t\r" and c else c for c in cells]
