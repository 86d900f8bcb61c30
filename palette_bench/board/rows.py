"""The rows of a board ready to print: the same texts for its page and for the LaTeX and Markdown tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from palette_bench.board.comparability import ANCHORS
from palette_bench.board.leaderboard import Board, Row
from palette_bench.board.ranking import rank_text
from palette_bench.core.records import Sha
from palette_bench.core.types import Direction
from palette_bench.pages.score_cell import ScoreCell, score_cell
from palette_bench.pages.text import NOTHING, basis_words, direction_words, metric_words, shown_key
from palette_bench.scoring.metrics import forms_of
from palette_bench.scoring.scorecard import EXTERNAL, FOOL_RATE

_ARROWS: dict[Direction, str] = {"lower": "↓", "higher": "↑", "none": ""}


@dataclass(frozen=True)
class MetricColumn:
    """A metric column of a board's table.

    `arrow` and `direction` say which values are better, `basis` which network and reference the metric uses.
    """

    key: str
    name: str
    direction: str
    arrow: str
    basis: str


@dataclass(frozen=True)
class PrintedRow:
    """A row of a board's table.

    Attributes:
        row: the row of the board.
        label: the name, with version and slug if another row has the same name, and the names of the cards
            that share the row.
        cells: scores by column.
        ranks: printed rank by column; "" if the metric has no rank.
        leads: by column, whether the row is in the metric's first tie group.
        role: the role of an anchor, or "".
        reason: why the row is unranked, or "".
        group: tie group by the metric that sorts the board; 0 without a rank.
        shares: number of systems in that group, including this one.
    """

    row: Row
    label: str
    cells: tuple[ScoreCell | None, ...]
    ranks: tuple[str, ...]
    leads: tuple[bool, ...]
    role: str = ""
    reason: str = ""
    group: int = 0
    shares: int = 0

    @property
    def place(self) -> str:
        """Return the printed rank by the metric that sorts the board, or a dash."""
        return self.ranks[0] if self.group else NOTHING


@dataclass(frozen=True)
class PrintedTable:
    """A board's table: anchors, ranked and unranked systems, best value of the sorting metric first."""

    columns: tuple[MetricColumn, ...]
    rows: tuple[PrintedRow, ...]

    @property
    def systems(self) -> tuple[PrintedRow, ...]:
        """Return the rows that are not anchors."""
        return tuple(line for line in self.rows if not line.role)

    @property
    def ranked(self) -> tuple[PrintedRow, ...]:
        """Return the systems with a rank."""
        return tuple(line for line in self.rows if line.group)

    @property
    def unranked(self) -> tuple[PrintedRow, ...]:
        """Return the systems without a rank."""
        return tuple(line for line in self.systems if not line.group)


def all_rows(board: Board) -> list[Row]:
    """Return the anchors, ranked systems and unranked systems of a board."""
    return [*board.anchors, *board.rows, *(u.row for u in board.unranked)]


def rows_of_cards(board: Board) -> list[Row]:
    """Return one row per card of a board; cards that share a row each get a row under their own name."""
    return [one for row in all_rows(board) for one in (row, *row.copies)]


def tied(board: Board, row: Row) -> list[Row]:
    """Return all systems of a ranked row's tie group, including the row itself, best first."""
    sort = board.sort or ""
    return [other for other in board.rows if other.tie_group[sort] == row.tie_group[sort]]


def lines_of(board: Board) -> PrintedTable:
    """Return a board's table ready to print."""
    columns = columns_of(board)
    keys = [column.key for column in columns]
    labels, sort = labels_of(board), board.sort or ""

    def line(row: Row, **standing: Any) -> PrintedRow:
        shared = ", ".join(f"{copy.name} {copy.version}" for copy in row.same_outputs)
        return PrintedRow(
            row=row,
            label=labels[row.card] + (f" (the same outputs: {shared})" if shared else ""),
            cells=tuple(score_cell(k, row.scores[k]) if k in row.scores else None for k in keys),
            ranks=tuple(rank_text(row.rank[k]) if k in row.rank else "" for k in keys),
            leads=tuple(row.tie_group.get(k) == 1 for k in keys),
            **standing,
        )

    rows = [
        *(line(r, group=r.tie_group[sort], shares=len(tied(board, r))) for r in board.rows),
        *(line(row, role=ANCHORS[row.slug]) for row in board.anchors),
        *(line(u.row, reason=u.reason) for u in board.unranked),
    ]
    return PrintedTable(columns, tuple(sorted(rows, key=lambda line: badness(line.row, sort))))


def badness(row: Row, metric: str) -> float:
    """Return the sort key that puts the better of two rows first; rows without a value come last."""
    score = row.scores.get(metric)
    if score is None or score.value is None:
        return math.inf
    return -score.value if score.direction == "higher" else score.value


def labels_of(board: Board) -> dict[Sha, str]:
    """Return a unique label for each row of a board, by card digest."""
    rows = all_rows(board)
    names = Counter(row.name for row in rows)
    versions = Counter((row.name, row.version) for row in rows)

    def label(row: Row) -> str:
        words = row.name
        if names[row.name] > 1:
            words += f" {row.version}"
        if versions[row.name, row.version] > 1:
            words += f" ({row.slug})"
        return words

    return {row.card: label(row) for row in rows}


def columns_of(board: Board) -> tuple[MetricColumn, ...]:
    """Return the columns of the board's metrics, of those its protocol shows, of fool rates and of externals.

    Direction and basis of a column come from the first row with that metric. A metric that is only shown has
    a column if all rows took it from the same network and reference; ranked metrics always do.
    """
    found = {key: score for row in reversed(all_rows(board)) for key, score in row.scores.items()}
    bases: dict[str, set[tuple[str | None, str | None]]] = {}
    for row in all_rows(board):
        for key, score in row.scores.items():
            bases.setdefault(key, set()).add((score.extractor, score.reference))
    forms = [key for metric in board.rules.shown for key in forms_of(metric) if key in found]
    shown = [key for key in forms if key not in board.metrics and len(bases[key]) == 1]
    fooled = sorted(key for key in found if key.startswith(FOOL_RATE))
    columns = []
    external = sorted(key for key in found if key.startswith(EXTERNAL))
    for key in (*board.metrics, *shown, *fooled, *external):
        score = found[key]
        name, direction = metric_words(shown_key(key, score)).name, score.direction
        words, basis = direction_words(key, score), basis_words(score)
        words += ", not ranked" if key in shown else ""
        columns.append(MetricColumn(key, name, words, _ARROWS[direction], basis))
    return tuple(columns)


def basis_lines(columns: Sequence[MetricColumn]) -> list[str]:
    """Return one line per network and reference, with the columns that use them."""
    shared: dict[str, list[str]] = {}
    for column in columns:
        if column.basis:
            shared.setdefault(column.basis, []).append(column.name)
    return [f"{', '.join(names)}: {basis}." for basis, names in shared.items()]
