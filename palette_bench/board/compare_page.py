"""The page that compares two cards side by side. Source: reports and studies, section 3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from palette_bench.board.compare import CardPair, Change, Paired, VerifiedCard, changes_of, compare
from palette_bench.board.record import board_key, read_proven
from palette_bench.board.report import Images, shown_size
from palette_bench.core import atomic
from palette_bench.core.types import SILENT, ImageId, Progress
from palette_bench.pages.images import (
    EmbeddedPreviews,
    Preview,
    Previews,
    Size,
    open_gallery,
    redistributable,
)
from palette_bench.pages.plots import scatter
from palette_bench.pages.render import data_uri, render
from palette_bench.pages.score_cell import ScoreCell, score_cell
from palette_bench.pages.text import (
    NOTHING,
    basis_words,
    is_percent,
    metric_words,
    note_words,
    number,
    place,
    source_words,
    task_words,
)
from palette_bench.scoring.metrics import FEATURE_METRICS

Strip: TypeAlias = tuple[Preview, Preview, Preview, Preview]


@dataclass(frozen=True)
class _Line:
    """A metric of both cards, ready to print; `verdict` names the better card, or says "not told apart"."""

    of: Paired
    first: ScoreCell
    second: ScoreCell
    delta: str
    interval: str
    p: str
    verdict: str


@dataclass(frozen=True)
class CardFolders:
    """The sources of the images: the set, and the submission of each card."""

    benchset: Path
    first: Path
    second: Path


def write_comparison(
    first: Path,
    second: Path,
    out: Path,
    *,
    json: Path | None = None,
    folders: CardFolders | None = None,
    images: Images = "auto",
    progress: Progress = SILENT,
) -> CardPair:
    """Write the comparison of two cards as one self-contained HTML page.

    Args:
        first: a card.
        second: another card of the same set.
        out: the page.
        json: optional file for the comparison's numbers.
        folders: set and submissions; with them the page shows images side by side.
        images: "auto" shows images if the source's terms allow redistribution.
        progress: reports every verified image.

    Raises:
        RecordError: PB407, PB408, a card or its table was edited.
        UsageError: both arguments are the same card.
        IncomparableError: PB601-PB604, the cards have different sets, features or references; PB602, the
            folders are not the ones from which the cards were scored.
    """
    one, other = (VerifiedCard(*read_proven(path)) for path in (first, second))
    board_key(one.card)  # raises for a card of an unknown task, before the page is built
    pair = compare(one, other)
    size = shown_size(one.card, images)
    strips = {} if folders is None or size is None else _strips(one, other, pair, folders, size, progress)
    private = bool(strips) and not redistributable(one.card)
    atomic.write_text(out, _page(pair, changes_of(one, other), strips, private=private))
    if json is not None:
        pair.write(json)
    return pair


def _strips(
    one: VerifiedCard,
    other: VerifiedCard,
    pair: CardPair,
    folders: CardFolders,
    size: Size,
    progress: Progress,
) -> dict[ImageId, Strip]:
    """Return the input, both outputs and the original of every image on the page."""
    with (
        open_gallery(one.card, folders.benchset, folders.first, progress) as first,
        open_gallery(other.card, folders.benchset, folders.second, progress) as second,
    ):
        found: dict[ImageId, Strip] = {}
        for change in (*pair.first_better, *pair.second_better):
            here = Previews(first, EmbeddedPreviews(), size).panels(change.image_id)
            there = Previews(second, EmbeddedPreviews(), size).panels(change.image_id)
            found[change.image_id] = (here.input, here.output, there.output, here.original)
        return found


def _page(pair: CardPair, changes: list[Change], strips: Mapping[ImageId, Strip], *, private: bool) -> str:
    names, digits = _names(pair), _digits(changes)
    return render(
        "compare.html.jinja",
        title=" and ".join(names),
        root="",
        pair=pair,
        names=names,
        place=place(pair.task, pair.variant),
        task=task_words(pair.protocol, pair.task, pair.variant),
        source=source_words(pair.protocol, pair.source),
        lead=_lead(pair.metrics, names),
        watermarks=[note_words(mark) for mark in sorted({*pair.first.watermarks, *pair.second.watermarks})],
        lines=[_line(paired, names) for paired in pair.metrics],
        by=metric_words(pair.by).name,
        basis=next((basis_words(m.first) for m in pair.metrics if m.metric == pair.by), ""),
        strips=strips,
        private=private,
        split=_split(changes, names),
        plot=_plot(changes, names, metric_words(pair.by).name),
        ways=[
            (names[0], _rows(pair.first_better, digits)),
            (names[1], _rows(pair.second_better, digits)),
        ],
    )


def _names(pair: CardPair) -> tuple[str, str]:
    """Return the names of the two methods, with versions if the names are equal."""
    one, other = pair.first, pair.second
    if one.name != other.name:
        return one.name, other.name
    return f"{one.name} {one.version}", f"{other.name} {other.version}"


def _lead(metrics: Sequence[Paired], names: tuple[str, str]) -> str:
    """Return sentences that say which method is better by which metrics."""
    won = {
        name: [metric_words(m.metric).name for m in metrics if m.differs and _better(m, names) == name]
        for name in names
    }
    parts = [f"{name} is better by {_listed(found)}." for name, found in won.items() if found]
    even = [metric_words(m.metric).name for m in metrics if m.delta is not None and not m.differs]
    told = [f"{_listed(even)} cannot tell the two apart."] if even else []
    return " ".join([*parts, *told]) or "No metric could be tested."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _better(paired: Paired, names: tuple[str, str]) -> str:
    first_is_lower = (paired.delta or 0.0) < 0
    return names[0 if first_is_lower == (FEATURE_METRICS[paired.metric].direction == "lower") else 1]


def _line(paired: Paired, names: tuple[str, str]) -> _Line:
    delta, interval = _gap_texts(paired)
    return _Line(
        of=paired,
        first=score_cell(paired.metric, paired.first),
        second=score_cell(paired.metric, paired.second),
        delta=delta,
        interval=interval,
        p="" if paired.p_holm is None else "< 0.0001" if paired.p_holm < 1e-4 else f"{paired.p_holm:.2g}",
        verdict=f"{_better(paired, names)} is better" if paired.differs else "not told apart",
    )


def _gap_texts(paired: Paired) -> tuple[str, str]:
    """Return a difference and its interval as printed; on a log scale both are ratios, in per cent."""
    if paired.delta is None or paired.low is None or paired.high is None:
        return NOTHING, ""
    ends = [paired.delta, paired.low, paired.high]
    unit = " points" if is_percent(paired.first) else ""
    if FEATURE_METRICS[paired.metric].test == "z-log-mean":
        ends, unit = [100 * math.expm1(min(end, 700.0)) for end in ends], " %"
    spread = (ends[2] - ends[1]) / 2
    digits = max(0, min(4, 1 - math.floor(math.log10(spread)))) if spread > 0 else 2
    value, low, high = (_signed(end, digits) for end in ends)
    return value + unit, f"{low} to {high}"


def _signed(value: float, digits: int) -> str:
    text = number(value, digits)
    return text if value <= 0 or text.strip("0.") == "" else f"+{text}"


def _digits(changes: Sequence[Change]) -> int:
    """Return the number of decimals (0 to 4) that shows three digits of the largest value."""
    top = max((max(c.first, c.second) for c in changes), default=0.0)
    return max(0, min(4, 2 - math.floor(math.log10(top)))) if top > 0 else 0


def _rows(changes: Sequence[Change], digits: int) -> list[tuple[str, str, str, str]]:
    return [
        (c.image_id, number(c.first, digits), number(c.second, digits), _signed(c.change, digits))
        for c in changes
    ]


def _split(changes: Sequence[Change], names: tuple[str, str]) -> str:
    """Return the scatter plot as a sentence."""
    first, second = sum(c.change > 0 for c in changes), sum(c.change < 0 for c in changes)
    return (
        f"Of {len(changes):,} images {names[0]} is nearer to the original on {first:,}, "
        f"{names[1]} on {second:,}; {len(changes) - first - second:,} are equal."
    )


def _plot(changes: Sequence[Change], names: tuple[str, str], metric: str) -> tuple[str, str] | None:
    if not changes:
        return None
    ordered = sorted(changes, key=lambda c: c.image_id)
    values = np.array([(c.first, c.second) for c in ordered])
    plot = scatter(values[:, 0], values[:, 1], f"{metric}, {names[0]}", f"{metric}, {names[1]}")
    return data_uri("image/svg+xml", plot.light), data_uri("image/svg+xml", plot.dark)
