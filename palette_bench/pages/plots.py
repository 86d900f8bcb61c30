"""Plots as SVG, each drawn for light and dark pages. Equal input gives equal bytes.

Source: reports and studies, section 6: fixed hash salt, text as paths of the bundled DejaVu Sans, no
date and no creator inside.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from palette_bench.pages.render import data_uri

_SETTINGS: Any = {
    "svg.hashsalt": "palette-bench",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
}


Kind: TypeAlias = Literal["system", "anchor", "unranked"]


@dataclass(frozen=True)
class ThemeColours:
    """Colours of one theme; the same values as in the style sheet."""

    text: str
    soft: str
    line: str
    accent: str


LIGHT = ThemeColours(text="#1f1d1a", soft="#625d55", line="#d9d4ca", accent="#0e6a62")
DARK = ThemeColours(text="#ecebe6", soft="#aaa69d", line="#3a3d45", accent="#63c9bb")


@dataclass(frozen=True)
class ThemedPlot:
    """One plot in both themes, as SVG bytes."""

    light: bytes
    dark: bytes

    @property
    def addresses(self) -> tuple[str, str]:
        """Return both drawings as `data:` addresses: light, dark."""
        return data_uri("image/svg+xml", self.light), data_uri("image/svg+xml", self.dark)


@dataclass(frozen=True)
class PlotRow:
    """A row of the dot-and-whisker plot.

    Hollow marks stand for rows that are not ranked systems. A bracket joins the rows of one `group`; 0 means
    no group.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    kind: Kind
    group: int = 0


@dataclass(frozen=True)
class Curve:
    """A line of a plot: its label and its points."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


# --- drawing in both themes ---


def _draw(width: float, height: float, paint: Callable[[Any, ThemeColours], None]) -> ThemedPlot:
    """Draw a plot of `width` x `height` inches with `paint`, once per theme."""
    drawings = []
    for inks in (LIGHT, DARK):
        with mpl.rc_context(_SETTINGS):
            figure = Figure(figsize=(width, height), layout="constrained")
            FigureCanvasSVG(figure)
            axes: Any = figure.add_subplot()
            for side in ("top", "right", "left"):
                axes.spines[side].set_visible(False)
            axes.spines["bottom"].set_color(inks.line)
            axes.tick_params(colors=inks.soft, length=0, pad=5)
            axes.xaxis.label.set_color(inks.soft)
            axes.yaxis.label.set_color(inks.soft)
            paint(axes, inks)
            axes.set_axisbelow(True)
            file = io.BytesIO()
            figure.savefig(
                file, format="svg", transparent=True, dpi=144, metadata={"Date": None, "Creator": None}
            )
        drawings.append(file.getvalue())
    return ThemedPlot(*drawings)


def _name_rows(axes: Any, rows: Sequence[PlotRow], inks: ThemeColours) -> None:
    """Write the rows' labels on the y axis, first row on top."""
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    _plain_text(axes.get_yticklabels(), inks)


def _plain_text(texts: Iterable[Any], inks: ThemeColours) -> None:
    for text in texts:
        text.set_color(inks.text)
        text.set_parse_math(False)  # names are not formulas


# --- the plots ---


def histogram(values: NDArray[np.float64], label: str) -> ThemedPlot:
    """Return the histogram of per-image values, with median and mean marked.

    Args:
        values: (N,) finite, N >= 1.
        label: axis label, including the direction.
    """
    bins = min(40, max(8, int(np.sqrt(len(values)) * 2)))

    def paint(axes: Any, inks: ThemeColours) -> None:
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
        axes.set(xlabel=label, ylabel="images", ylim=(0, float(counts.max()) * 1.24))
        axes.grid(axis="y", color=inks.line, linewidth=0.6)

    return _draw(7.2, 2.7 + 0.17 * label.count("\n"), paint)


def dot_whisker(rows: Sequence[PlotRow], label: str) -> ThemedPlot:
    """Return the plot of one metric: per row a dot and its 95 % interval as a line, first row on top.

    The axis spans the ranked systems. A row outside the axis is drawn as an arrow with the row's value.
    """
    # the axis spans the ranked systems, or all rows if none is ranked, plus a margin
    spanned = [row for row in rows if row.kind == "system"] or rows
    lows = [row.value if row.low is None else row.low for row in spanned]
    highs = [row.value if row.high is None else row.high for row in spanned]
    low, high = min(lows + highs), max(lows + highs)
    air = 0.25 * (high - low) or 0.1 * abs(high) or 1.0
    low = 0.0 if low - air < 0 <= low + air / 1000 else low - air  # no axis below 0 without negative values
    high += air

    def paint(axes: Any, inks: ThemeColours) -> None:
        for at, row in enumerate(rows):
            colour = inks.accent if row.kind == "system" else inks.soft
            if not low <= row.value <= high:
                # an arrow at the edge of the axis, and the value inside the plot
                right = row.value > high
                edge, turn = (high, -1) if right else (low, 1)
                axes.plot(
                    [edge], [at], marker=">" if right else "<", markersize=6.5, color=colour, clip_on=False
                )
                axes.annotate(
                    f"{row.value:,.4g}",
                    (edge, at),
                    xytext=(8 * turn, 0),
                    textcoords="offset points",
                    ha="right" if right else "left",
                    va="center",
                    color=colour,
                    fontsize=8.5,
                )
                continue
            if row.low is not None and row.high is not None:
                ends = np.clip([row.low, row.high], low, high)
                axes.plot(ends, [at, at], color=colour, linewidth=2.2, solid_capstyle="round", clip_on=False)
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
        _name_rows(axes, rows, inks)
        axes.set_xlim(low, high)
        # aligned right: the label may be longer than the axis, but fits the whole plot
        axes.set_xlabel(label, loc="right", multialignment="right")
        axes.grid(axis="x", color=inks.line, linewidth=0.6)
        _brackets(axes, inks, [row.group for row in rows])

    return _draw(5.9, 0.9 + 0.32 * len(rows) + 0.17 * label.count("\n"), paint)


def _brackets(axes: Any, inks: ThemeColours, groups: Sequence[int]) -> None:
    """Draw a bracket beside the rows of each group, with a tick at each end.

    Consecutive groups use two alternating columns, so that their brackets do not touch.
    """
    for group in sorted(set(groups) - {0}):
        members = [at for at, other in enumerate(groups) if other == group]
        colour, lane = (inks.accent if group == 1 else inks.soft), 1.03 + 0.035 * ((group - 1) % 2)
        place = {"transform": axes.get_yaxis_transform(), "clip_on": False, "color": colour, "linewidth": 1.4}
        axes.plot([lane, lane], [members[0] - 0.28, members[-1] + 0.28], **place)
        for end in (members[0] - 0.28, members[-1] + 0.28):
            axes.plot([lane - 0.009, lane], [end, end], **place)
        axes.text(
            lane + 0.009, (members[0] + members[-1]) / 2, str(group),
            transform=axes.get_yaxis_transform(), color=colour, va="center", fontsize=8.5,
        )  # fmt: skip


def scatter(x: NDArray[np.float64], y: NDArray[np.float64], xlabel: str, ylabel: str) -> ThemedPlot:
    """Return the plot of one point per image, with the line of equal values.

    Args:
        x: (N,) finite, N >= 1.
        y: (N,) values of the same images.
        xlabel: label of the x axis.
        ylabel: label of the y axis.
    """
    top = 1.04 * max(float(x.max()), float(y.max())) or 1.0
    low = min(0.0, float(x.min()), float(y.min()))

    def paint(axes: Any, inks: ThemeColours) -> None:
        axes.plot([low, top], [low, top], color=inks.soft, linewidth=1.1, linestyle="--")
        # rasterized: 10,000 points as single vector marks would make the page slow
        axes.plot(
            x, y, linestyle="", marker="o", markersize=3.2, markeredgewidth=0,
            color=inks.accent, alpha=0.45, rasterized=True,
        )  # fmt: skip
        axes.set(xlim=(low, top), ylim=(low, top), aspect="equal")
        axes.set_xlabel(xlabel, parse_math=False)  # names are not formulas
        axes.set_ylabel(ylabel, parse_math=False)
        axes.grid(color=inks.line, linewidth=0.6)

    return _draw(5.4, 5.0, paint)


def around_half(rows: Sequence[PlotRow], margin: float, label: str) -> ThemedPlot:
    """Return shares in per cent with their intervals around a line at 50 %, first row on top.

    Args:
        rows: rows as in `dot_whisker`.
        margin: half width of the shaded band around 50, in points.
        label: axis label.
    """

    def paint(axes: Any, inks: ThemeColours) -> None:
        axes.axvspan(50 - margin, 50 + margin, color=inks.accent, alpha=0.13, linewidth=0)
        axes.axvline(50, color=inks.text, linewidth=1.1, linestyle=":")
        for at, row in enumerate(rows):
            if row.low is not None and row.high is not None:
                ends = [row.low, row.high]
                axes.plot(ends, [at, at], color=inks.accent, linewidth=2.2, solid_capstyle="round")
            axes.plot([row.value], [at], marker="o", markersize=6.5, color=inks.accent)
        _name_rows(axes, rows, inks)
        ends = [end for row in rows for end in (row.low, row.value, row.high) if end is not None]
        reach = max(15.0, *(1.15 * abs(end - 50) for end in ends))
        axes.set_xlabel(label)
        axes.set_xlim(max(0.0, 50 - reach), min(100.0, 50 + reach))
        axes.grid(axis="x", color=inks.line, linewidth=0.6)

    return _draw(7.2, 0.95 + 0.42 * len(rows), paint)


_DASHES = ("-", "--", ":", "-.")


def curves(lines: Sequence[Curve], xlabel: str, ylabel: str) -> ThemedPlot:
    """Return lines over one axis, distinguished by dash and colour, with a legend."""

    def paint(axes: Any, inks: ThemeColours) -> None:
        for at, line in enumerate(lines):
            colour = (inks.accent, inks.text, inks.soft)[at // len(_DASHES) % 3]
            dash = _DASHES[at % len(_DASHES)]
            axes.plot(line.x, line.y, color=colour, linestyle=dash, linewidth=1.4, label=line.label)
        legend = axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8.5)
        _plain_text(legend.get_texts(), inks)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(axis="y", color=inks.line, linewidth=0.6)

    return _draw(7.2, max(2.7, 0.6 + 0.2 * len(lines)), paint)
