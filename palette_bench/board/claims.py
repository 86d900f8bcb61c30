"""How a board came to its ranks, in sentences that follow from the board alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from palette_bench.board.comparability import ANCHORS
from palette_bench.board.leaderboard import Board
from palette_bench.board.ranks import ALPHA, rule_of
from palette_bench.board.words import EXPECTED_VALUE, ORIGINALS_FIXED, is_frechet, metric_words
from palette_bench.scoring.scorecard import Score, took_originals_as_fixed


def method_words(board: Board) -> tuple[str, ...]:
    """Return the lines under a board's table: the tests, what a rank means, the gap that is found."""
    systems = len(board.rows)
    if systems < 2:
        return ("A system alone has nobody to be compared with.",) if systems else ()
    pairs = systems * (systems - 1) // 2
    tests = "; ".join(
        f"{metric_words(m).name} by {rule.words}" for m in board.metrics if (rule := rule_of(m))
    )
    return (
        f"Every two systems are compared on the same {board.rows[0].n:,} pictures: {tests}. Two differ where "
        f"p is under {ALPHA} after Holm's correction for every pair a metric ranks, {pairs:,} at most.",
        "A rank runs from one after the systems that are significantly better to the last place before those "
        "that are significantly worse. Group 1 is the best value with every system not told apart from "
        "it, group 2 the same among the rest.",
        *_resolution(board),
    )


def _resolution(board: Board) -> tuple[str, ...]:
    sort = board.sort or ""
    gap = board.resolution.get(sort)
    rule = rule_of(sort)
    if not gap or rule is None:
        return ()
    column = rule.column
    size = (
        f"{100 * math.expm1(gap):.2g} %" if column == "is_kl" else f"{gap:.2g}"
    )  # a log scale's gap is a ratio
    unit = " percentage points" if column in ("top1", "") else ""
    return (f"Gaps in {metric_words(sort).name} of {size}{unit} and more are found with 80 % power.",)


def interval_words(board: Board) -> tuple[str, ...]:
    """Return what the intervals of a board's metrics do not cover, a sentence each."""
    rows = [*board.rows, *board.anchors, *(u.row for u in board.unranked)]
    scores = [(m, row.scores[m]) for row in rows for m in board.metrics if m in row.scores]
    fixed = sorted({metric_words(m).name for m, score in scores if took_originals_as_fixed(score)})
    found = [EXPECTED_VALUE] if any(is_frechet(m) and score.interval for m, score in scores) else []
    found += [f"{' and '.join(fixed)} of earlier cards: {ORIGINALS_FIXED}"] if fixed else []
    return tuple(found)


def floor_words(board: Board) -> tuple[str, ...]:
    """Return who does worse than nothing: by the metric that sorts a board, its interval past the floor's."""
    sort = board.sort or ""
    floor = next((row for row in board.anchors if ANCHORS[row.slug] == "floor" and sort in row.scores), None)
    if floor is None:
        return ()
    rows = (*board.rows, *(unranked.row for unranked in board.unranked))
    behind = [row.slug for row in rows if sort in row.scores and _worse(row.scores[sort], floor.scores[sort])]
    if not behind:
        return ()
    names = f"{', '.join(behind[:-1])} and {behind[-1]} are" if behind[1:] else f"{behind[0]} is"
    what = f"worse than {floor.slug}, which changes nothing, by {metric_words(sort).name}"
    return (f"{names} {what}: the intervals lie apart.",)


def _worse(one: Score, other: Score) -> bool:
    ends = one.low, one.high, other.low, other.high
    if one.direction == "none" or None in ends:
        return False
    return one.high < other.low if one.direction == "higher" else one.low > other.high  # type: ignore[operator]


def leaders_words(names: Sequence[str], systems: int) -> str:
    """Return who leads a board of `systems` ranked systems; `names` are its first tie group."""
    if systems == 1:
        return f"the only system: {names[0]}"
    match names:
        case []:
            return ""
        case [one]:
            return f"first: {one}"
        case [one, two]:
            return f"first: {one} and {two}, not told apart"
        case [one, *others]:
            return f"first: {one} and {len(others)} others, not told apart"
    raise AssertionError(names)
