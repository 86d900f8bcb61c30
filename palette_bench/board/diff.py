"""Changes between two leaderboards: new and removed systems, values, ranks, tiers.

Two boards match if they have the same protocol, task, variant and source and no common fingerprint differs.
Systems match by method and version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from palette_bench.board.leaderboard import Board, Leaderboard, Row
from palette_bench.board.ranking import rank_text
from palette_bench.board.rows import rows_of_cards
from palette_bench.pages.text import NOTHING, place

Kind: TypeAlias = Literal["new", "gone", "value", "rank", "tier"]


@dataclass(frozen=True)
class BoardChange:
    """One change; `who` is empty if the change concerns the board itself."""

    board: str
    kind: Kind
    who: str
    what: str

    def __str__(self) -> str:
        """Return the change as one line."""
        return f"{self.kind:<6} {self.board}: {' '.join(filter(None, (self.who, self.what)))}"


def changes(old: Leaderboard, new: Leaderboard) -> list[BoardChange]:
    """Return every change, in the order of the new boards; removed boards come last."""
    left, found = list(old.boards), list[BoardChange]()
    for board in new.boards:
        name, now = _name(board), _rows(board)
        before = next((other for other in left if _is_same(other, board)), None)
        if before is None:
            found.append(_whole(board, "new"))
        else:
            left.remove(before)
        was = _rows(before) if before else {}
        for key, row in now.items():
            who = " ".join(key)
            if key not in was:
                sort = board.sort or ""
                what = f"{sort} {_value(row, sort)}, rank {_rank(row, sort)}".strip()
                found.append(BoardChange(name, "new", who, what))
                continue
            if was[key].tier != row.tier:
                found.append(BoardChange(name, "tier", who, f"{was[key].tier} -> {row.tier}"))
            for metric in board.metrics:
                steps: tuple[tuple[Kind, str, str], ...] = (
                    ("value", _value(was[key], metric), _value(row, metric)),
                    ("rank", _rank(was[key], metric), _rank(row, metric)),
                )
                for kind, earlier, later in steps:
                    if earlier != later:
                        found.append(BoardChange(name, kind, who, f"{metric} {earlier} -> {later}"))
        found += [BoardChange(name, "gone", " ".join(key), "") for key in sorted(was.keys() - now.keys())]
    return found + [_whole(board, "gone") for board in left]


def _is_same(one: Board, other: Board) -> bool:
    shared = one.fingerprints.keys() & other.fingerprints.keys()
    return _name(one) == _name(other) and all(one.fingerprints[n] == other.fingerprints[n] for n in shared)


def _whole(board: Board, kind: Kind) -> BoardChange:
    count = board.systems
    return BoardChange(_name(board), kind, "", f"a board of {count} system{'s' if count != 1 else ''}")


def _name(board: Board) -> str:
    return f"{board.protocol} {place(board.task, board.variant)} on {board.source}"


def _rows(board: Board) -> dict[tuple[str, str], Row]:
    """Return every system and anchor by (slug, version); cards that share a row get a row each."""
    return {(row.slug, row.version): row for row in rows_of_cards(board)}


def _value(row: Row, metric: str) -> str:
    score = row.scores.get(metric)
    return NOTHING if score is None or score.value is None else repr(score.value)


def _rank(row: Row, metric: str) -> str:
    if metric in row.rank:
        return rank_text(row.rank[metric])
    return f"none ({row.no_rank[metric]})" if metric in row.no_rank else "none"
