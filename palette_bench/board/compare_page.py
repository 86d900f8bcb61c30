"""The page that compares two cards side by side. Source: reports and studies, section 3."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from palette_bench.board.compare import CardPair, Change, Paired, changes_of, compare
from palette_bench.board.record import VerifiedCard, board_key, read_proven
from palette_bench.board.report import Images, shown_size
from palette_bench.core import atomic
from palette_bench.core.types import SILENT, ImageId, Progress
from palette_bench.pages.images import (
    Preview,
    Previews,
    Size,
    embedded_preview,
    open_gallery,
    redistributable,
)
from palette_bench.pages.plots import scatter
from palette_bench.pages.render import render
from palette_bench.pages.score_cell import score_cell
from palette_bench.pages.text import (
    NOTHING,
    basis_words,
    decimals_for,
    is_percent,
    metric_words,
    note_words,
    number,
    place,
    protocol_words,
    source_words,
    task_words,
)
from palette_bench.scoring.metrics import RANKING_METRICS

Strip: TypeAlias = tuple[Preview, Preview, Preview, Preview]


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
    one, other = read_proven(first), read_proven(second)
    board_key(one.card)  # raises for a card of an unknown task, before the page is built
    pair = compare(one, other)
    size = shown_size(one.card, images)
    strips = {} if folders is None or size is None else _strips(one, other, pair, folders, size, progress)
    first_name, second_name = pair.first.name, pair.second.name
    if first_name == second_name:
        first_name, second_name = f"{first_name} {pair.first.version}", f"{second_name} {pair.second.version}"
    names = (first_name, second_name)
    changes = changes_of(one, other)
    by = metric_words(pair.by).name
    digits = decimals_for(max((max(c.first, c.second) for c in changes), default=0.0), 3)
    nearer, farther = sum(c.change > 0 for c in changes), sum(c.change < 0 for c in changes)
    plot = None
    if changes:
        ordered = sorted(changes, key=lambda c: c.image_id)
        values = np.array([(c.first, c.second) for c in ordered])
        plot = scatter(values[:, 0], values[:, 1], f"{by}, {names[0]}", f"{by}, {names[1]}").addresses
    html = render(
        "compare.html.jinja",
        title=" and ".join(names),
        root="",
        pair=pair,
        names=names,
        place=place(pair.task, pair.variant),
        task=task_words(pair.rules, pair.task, pair.variant),
        protocol=protocol_words(pair),
        source=source_words(pair.rules, pair.source),
        lead=_lead(pair.metrics, names),
        watermarks=[note_words(mark) for mark in sorted({*pair.first.watermarks, *pair.second.watermarks})],
        lines=[_line(paired, names) for paired in pair.metrics],
        by=by,
        basis=next((basis_words(m.first) for m in pair.metrics if m.metric == pair.by), ""),
        strips=strips,
        private=bool(strips) and not redistributable(one.card),
        split=f"Of {len(changes):,} images {names[0]} is nearer to the original on {nearer:,}, {names[1]} on "
        f"{farther:,}; {len(changes) - nearer - farther:,} are equal.",
        plot=plot,
        ways=[
            (names[0], _rows(pair.first_better, digits)),
            (names[1], _rows(pair.second_better, digits)),
        ],
    )
    atomic.write_text(out, html)
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
            here = Previews(first, embedded_preview, size).panels(change.image_id)
            there = Previews(second, embedded_preview, size).panels(change.image_id)
            found[change.image_id] = (here.input, here.output, there.output, here.original)
        return found


def _lead(metrics: Sequence[Paired], names: tuple[str, str]) -> str:
    """Return sentences that say which method is better by which metrics."""
    own = [m for m in metrics if m.metric in RANKING_METRICS]  # numbers of other programs stand in the table
    won = {
        name: [metric_words(m.metric).name for m in own if m.differs and _better(m, names) == name]
        for name in names
    }
    parts = [f"{name} is better by {_listed(found)}." for name, found in won.items() if found]
    even = [metric_words(m.metric).name for m in own if m.delta is not None and not m.differs]
    parts += [f"{_listed(even)} cannot tell the two apart."] if even else []
    return " ".join(parts) or "No metric could be tested."


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _better(paired: Paired, names: tuple[str, str]) -> str:
    first_is_lower = (paired.delta or 0.0) < 0
    return names[0 if first_is_lower == (paired.first.direction == "lower") else 1]


def _verdict(paired: Paired, names: tuple[str, str]) -> str:
    if not paired.differs:
        return "not told apart"
    return "told apart" if paired.first.direction == "none" else f"{_better(paired, names)} is better"


def _line(paired: Paired, names: tuple[str, str]) -> dict[str, Any]:
    """Return a metric of both cards as printed; `verdict` names the better card, if the test finds one."""
    delta, interval = NOTHING, ""
    if paired.delta is not None and paired.low is not None and paired.high is not None:
        ends = [paired.delta, paired.low, paired.high]
        unit = " points" if is_percent(paired.first) else ""
        if paired.test == "z-log-influence":
            # on a log scale, the difference and its interval are ratios, printed in per cent
            ends, unit = [100 * math.expm1(min(end, 700.0)) for end in ends], " %"
        digits = decimals_for((ends[2] - ends[1]) / 2, 2, otherwise=2)
        value, low, high = (_signed(end, digits) for end in ends)
        delta, interval = value + unit, f"{low} to {high}"
    p = paired.p_holm
    return {
        "of": paired,
        "first": score_cell(paired.metric, paired.first),
        "second": score_cell(paired.metric, paired.second),
        "delta": delta,
        "interval": interval,
        "p": "" if p is None else "< 0.0001" if p < 1e-4 else f"{p:.2g}",
        "verdict": _verdict(paired, names),
    }


def _signed(value: float, digits: int) -> str:
    text = number(value, digits)
    return text if value <= 0 or text.strip("0.") == "" else f"+{text}"


def _rows(changes: Sequence[Change], digits: int) -> list[tuple[str, str, str, str]]:
    return [
        (c.image_id, number(c.first, digits), number(c.second, digits), _signed(c.change, digits))
        for c in changes
    ]
