"""One score as a page shows it: its texts, and the interval drawn beside the number."""

from __future__ import annotations

import math
from dataclasses import dataclass

from palette_bench.pages.text import (
    EXPECTED_VALUE,
    ORIGINALS_FIXED,
    basis_words,
    direction_words,
    interval_text,
    is_frechet,
    is_percent,
    metric_words,
    network_words,
    note_words,
    number,
    reference_words,
    shown_key,
    value_text,
)
from palette_bench.scoring.scorecard import BARRING, Score, took_originals_as_fixed

_NICE = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Whisker:
    """A dot and its interval on an axis; positions are per cent of the axis from `start` to `end`."""

    low: float
    value: float
    high: float
    start: str
    end: str


@dataclass(frozen=True)
class ScoreCell:
    """Everything a page prints of one score; `marks` bar the score from ranking, `notes` explain it."""

    key: str
    name: str
    meaning: str
    value: str
    interval: str
    method: str
    n: int
    direction: str
    extractor: str
    network: str
    reference: str
    reference_name: str
    basis: str
    marks: tuple[str, ...]
    notes: tuple[str, ...]
    whisker: Whisker | None
    sort: float | None


def nice_ceiling(value: float) -> float:
    """Return the smallest of 1, 2, 5 x 10^k that is at least `value` (> 0)."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _NICE if step * power >= value * (1 - 1e-12))


def whisker(score: Score) -> Whisker | None:
    """Return the positions of a score's dot and interval on an axis; None without a value.

    The axis starts at 0, or below the interval if the interval reaches below 0.
    """
    if score.value is None:
        return None
    low = score.value if score.low is None else score.low
    high = score.value if score.high is None else score.high
    start = -nice_ceiling(-low) if low < 0 else 0.0
    end = 100.0 if is_percent(score) else nice_ceiling(high) if high > 0 else 1.0

    def at(value: float) -> float:
        return round(100.0 * (min(max(value, start), end) - start) / (end - start), 2)

    return Whisker(at(low), at(score.value), at(high), _axis_text(start), _axis_text(end))


def _axis_text(value: float) -> str:
    return number(value, 0 if abs(value) >= 1 or value == 0 else -math.floor(math.log10(abs(value))))


def score_cell(key: str, score: Score) -> ScoreCell:
    """Return the texts of a score."""
    words = metric_words(shown_key(key, score))
    # the score's own notes, and what its interval covers
    notes = [note_words(note) for note in score.notes if note not in BARRING]
    if took_originals_as_fixed(score):
        notes.append(ORIGINALS_FIXED)
    elif is_frechet(key) and score.interval:
        notes.append(EXPECTED_VALUE)
    return ScoreCell(
        key=key,
        name=words.name,
        meaning=words.meaning,
        value=value_text(score),
        interval=interval_text(score),
        method=score.interval or "",
        n=score.n,
        direction=direction_words(key, score),
        extractor=score.extractor or "",
        network=network_words(score.extractor),
        reference=(score.reference or "")[:12],
        reference_name=reference_words(score),
        basis=basis_words(score),
        marks=tuple(note.replace("-", " ") for note in score.notes if note in BARRING),
        notes=tuple(notes),
        whisker=whisker(score),
        sort=score.value,
    )
