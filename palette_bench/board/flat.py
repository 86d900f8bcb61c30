"""The flat form of boards: every score a line, with its rank or why there is none, and what it cost."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

import pandas as pd

from palette_bench.board.leaderboard import Board, Row
from palette_bench.board.ranks import rank_text
from palette_bench.board.words import network_words, reference_words
from palette_bench.core.errors import StackError, problem
from palette_bench.scoring.scorecard import Score

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
    """Return every score of some boards as CSV; text that a spreadsheet would run gets an apostrophe."""
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
    """Return the flat form as Parquet: numbers as numbers, everything else as text.

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
