"""Plots as SVG, each drawn for light and dark pages; equal input gives equal bytes.

Source: reports and studies, section 6: fixed hash salt, text as paths of the bundled DejaVu Sans, no
date and no creator inside.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

_SETTINGS: Any = {
    "svg.hashsalt": "palette-bench",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
}


Kind: TypeAlias = Literal["system", "anchor", "unranked"]


@dataclass(frozen=True)
class Inks:
    """Colours of one theme; the same values as in the style sheet."""

    text: str
    soft: str
    line: str
    accent: str


LIGHT = Inks(text="#1f1d1a", soft="#625d55", line="#d9d4ca", accent="#0e6a62")
DARK = Inks(text="#ecebe6", soft="#aaa69d", line="#3a3d45", accent="#63c9bb")


@dataclass(frozen=True)
class Plot:
    """One plot in both themes, SVG bytes."""

    light: bytes
    dark: bytes


@dataclass(frozen=True)
class PlotRow:
    """A line of the dot-and-whisker plot; hollow marks stand for rows that do not compete."""

    label: str
    value: float
    low: float | None
    high: float | None
    kind: Kind


@dataclass(frozen=True)
class Curve:
    """A line of a plot: its label, and its points."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


def _draw(width: float, height: float, paint: Callable[[Any, Inks], None]) -> Plot:
    """Return the plot `paint` draws on an axes of `width` x `height` inches, once per theme."""
    return Plot(*(_svg(width, height, paint, inks) for inks in (LIGHT, DARK)))


def _svg(width: float, height: float, paint: Callable[[Any, Inks], None], inks: Inks) -> bytes:
    with mpl.rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _quiet_axes(axes, inks)
        paint(axes, inks)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()


def _quiet_axes(axes: Any, inks: Inks) -> None:
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(inks.line)
    axes.tick_params(colors=inks.soft, length=0, pad=5)
    axes.xaxis.label.set_color(inks.soft)
    axes.yaxis.label.set_color(inks.soft)


def histogram(values: NDArray[np.float64], label: str) -> Plot:
    """Return the histogram of per-image values, with median and mean marked.

    Args:
        values: (N,) finite, N >= 1.
        label: the axis label, with direction.
    """
    bins = min(40, max(8, int(np.sqrt(len(values)) * 2)))

    def paint(axes: Any, inks: Inks) -> None:
        top = float(values.max()) or 1.0
        counts, _, _ = axes.hist(values, bins=bins, range=(0.0, top), color=inks.accent, rwidth=0.9)
        marks = [("median", float(np.median(values)), "-"), ("mean", float(values.mean()), ":")]
        for at, (name, value, dash) in enumerate(marks):
            height = float(counts.max()) * (1.16 - 0.1 * at)
            axes.plot([value, value], [0, height], color=inks.text, linewidth=1.1, linestyle=dash)
            axes.annotate(
                f"{name} {value:,.4g}",
                (value, height),
                xytext=(5, -4),
                textcoords="offset points",
                color=inks.text,
                fontsize=8.5,
            )
        axes.set(xlabel=label, ylabel="pictures", ylim=(0, float(counts.max()) * 1.24))
        axes.grid(axis="y", color=inks.line, linewidth=0.6)
        axes.set_axisbelow(True)

    return _draw(7.2, 2.7, paint)


def dot_whisker(rows: Sequence[PlotRow], label: str) -> Plot:
    """Return the plot of one metric: a dot per row, its 95 % interval as a line, first row on top."""

    def paint(axes: Any, inks: Inks) -> None:
        for at, row in enumerate(rows):
            colour = inks.accent if row.kind == "system" else inks.soft
            if row.low is not None and row.high is not None:
                axes.plot(
                    [row.low, row.high],
                    [at, at],
                    color=colour,
                    linewidth=2.2,
                    solid_capstyle="round",
                    clip_on=False,
                )
            axes.plot(
                [row.value],
                [at],
                marker="D" if row.kind == "anchor" else "o",
                markersize=6.5,
                markerfacecolor=colour if row.kind == "system" else "none",
                markeredgecolor=colour,
                markeredgewidth=1.4,
                clip_on=False,
            )
        axes.tick_params(axis="y", pad=11)  # room for a mark that stands on the axis
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        for text in axes.get_yticklabels():
            text.set_color(inks.text)
            text.set_parse_math(False)  # names are not formulas
        axes.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
        lows = [row.value if row.low is None else row.low for row in rows]
        axes.set_xlim(left=min([0.0, *lows]))
        axes.grid(axis="x", color=inks.line, linewidth=0.6)
        axes.set_axisbelow(True)

    return _draw(7.2, 0.95 + 0.36 * len(rows), paint)


def around_half(rows: Sequence[PlotRow], margin: float, label: str) -> Plot:
    """Return shares in per cent with their intervals about the line of 50 %, first row on top.

    Args:
        rows: as `dot_whisker` takes them.
        margin: points either side of 50 that are shaded.
        label: of the axis.
    """

    def paint(axes: Any, inks: Inks) -> None:
        axes.axvspan(50 - margin, 50 + margin, color=inks.accent, alpha=0.13, linewidth=0)
        axes.axvline(50, color=inks.text, linewidth=1.1, linestyle=":")
        for at, row in enumerate(rows):
            if row.low is not None and row.high is not None:
                ends = [row.low, row.high]
                axes.plot(ends, [at, at], color=inks.accent, linewidth=2.2, solid_capstyle="round")
            axes.plot([row.value], [at], marker="o", markersize=6.5, color=inks.accent)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        for text in axes.get_yticklabels():
            text.set_color(inks.text)
            text.set_parse_math(False)  # names are not formulas
        ends = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
        reach = max(15.0, *(1.15 * abs(end - 50) for end in ends))
        axes.set(xlabel=label, ylim=(len(rows) - 0.5, -0.5))
        axes.set_xlim(max(0.0, 50 - reach), min(100.0, 50 + reach))
        axes.grid(axis="x", color=inks.line, linewidth=0.6)
        axes.set_axisbelow(True)

    return _draw(7.2, 0.95 + 0.42 * len(rows), paint)


_DASHES = ("-", "--", ":", "-.")


def curves(lines: Sequence[Curve], xlabel: str, ylabel: str) -> Plot:
    """Return lines over one axis, told apart by dash and shade, and named in a legend."""

    def paint(axes: Any, inks: Inks) -> None:
        for at, line in enumerate(lines):
            colour = (inks.accent, inks.text, inks.soft)[at // len(_DASHES) % 3]
            dash = _DASHES[at % len(_DASHES)]
            axes.plot(line.x, line.y, color=colour, linestyle=dash, linewidth=1.4, label=line.label)
        legend = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
        for text in legend.get_texts():
            text.set_color(inks.text)
            text.set_parse_math(False)  # names are not formulas
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(axis="y", color=inks.line, linewidth=0.6)
        axes.set_axisbelow(True)

    return _draw(7.2, max(2.7, 0.6 + 0.2 * len(lines)), paint)
