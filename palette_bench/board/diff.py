"""Changes between two leaderboards: new and removed systems, values, ranks, tiers.

Two boards match if they have the same protocol, task, variant and source and no common fingerprint differs.
Systems match by method and version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from palette_bench.board.leaderboard import Board, Leaderboard, Row
from palette_bench.board.ranking import rank_text
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
        before = next((other for other in left if _meet(other, board)), None)
        if before is None:
            found.append(_whole(board, "new"))
            found += [_appeared(board, row) for row in _rows(board).values()]
        else:
            left.remove(before)
            found += _moved(before, board)
    return found + [_whole(board, "gone") for board in left]


def _whole(board: Board, kind: Kind) -> BoardChange:
    count = board.systems
    return BoardChange(_name(board), kind, "", f"a board of {count} system{'s' if count != 1 else ''}")


def _meet(one: Board, other: Board) -> bool:
    shared = one.fingerprints.keys() & other.fingerprints.keys()
    return _key(one) == _key(other) and all(one.fingerprints[n] == other.fingerprints[n] for n in shared)


def _key(board: Board) -> tuple[str, ...]:
    return board.protocol, board.task, board.variant or "default", board.source


def _name(board: Board) -> str:
    return f"{board.protocol} {place(board.task, board.variant)} on {board.source}"


def _rows(board: Board) -> dict[tuple[str, str], Row]:
    """Return every system and anchor by (slug, version); cards that share a row get a row each."""
    rows = (*board.anchors, *board.rows, *(u.row for u in board.unranked))
    return {(row.slug, row.version): row for shared in rows for row in (shared, *shared.copies)}


def _moved(before: Board, after: Board) -> Iterator[BoardChange]:
    was, now = _rows(before), _rows(after)
    for key, row in now.items():
        if key in was:
            yield from _steps(_name(after), after.metrics, was[key], row)
        else:
            yield _appeared(after, row)
    for key in sorted(was.keys() - now.keys()):
        yield BoardChange(_name(before), "gone", " ".join(key), "")


def _appeared(board: Board, row: Row) -> BoardChange:
    sort = board.sort or ""
    value, rank = _value(row, sort), _rank(row, sort)
    return BoardChange(_name(board), "new", _who(row), f"{sort} {value}, rank {rank}".strip())


def _steps(board: str, metrics: tuple[str, ...], was: Row, now: Row) -> Iterator[BoardChange]:
    """Yield the changes of one system, metric by metric."""
    if was.tier != now.tier:
        yield BoardChange(board, "tier", _who(now), f"{was.tier} -> {now.tier}")
    for metric in metrics:
        steps: tuple[tuple[Kind, str, str], ...] = (
            ("value", _value(was, metric), _value(now, metric)),
            ("rank", _rank(was, metric), _rank(now, metric)),
        )
        for kind, before, after in steps:
            if before != after:
                yield BoardChange(board, kind, _who(now), f"{metric} {before} -> {after}")


def _who(row: Row) -> str:
    return f"{row.slug} {row.version}"


def _value(row: Row, metric: str) -> str:
    score = row.scores.get(metric)
    return NOTHING if score is None or score.value is None else repr(score.value)


def _rank(row: Row, metric: str) -> str:
    if metric in row.rank:
        return rank_text(row.rank[metric])
    return f"none ({row.no_rank[metric]})" if metric in row.no_rank else "none"
