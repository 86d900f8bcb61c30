"""HTML page of a study: the paper's finding, verdicts, all figures, loss curves and images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from palette_bench.core import atomic
from palette_bench.core.records import read_file
from palette_bench.pages.plots import Curve, curves
from palette_bench.pages.render import data_uri, render
from palette_bench.pages.text import NOTHING, MetricWords, metric_words

from .result import Experiment, Figure, Verdict
from .study import StudyDeclaration

PAGE = "index.html"
OWN_WORDS = {
    "pairwise_rmse": MetricWords("Pairwise RMSE", "pixel difference of consecutive samples, levels"),
    "pairwise_ssim": MetricWords("Pairwise SSIM", "likeness of consecutive samples over three scales"),
    "neither_colour": MetricWords("Neither colour", "share of squares of neither true colour"),
    "minority_share": MetricWords("Minority share", "share of the rarer colour among squares of either"),
    "background_error": MetricWords("Background error", "mean difference outside the square, range 2"),
}

Panels = Mapping[str, Mapping[str, Sequence[Path]]]  # set -> caption -> images


@dataclass(frozen=True)
class FigureRow:
    """A row of a set's table: a system, a seed, and texts per metric."""

    system: str
    seed: int
    cells: tuple[tuple[str, str], ...]  # (value, interval) per metric


@dataclass(frozen=True)
class FigureTable:
    """The figures of all systems on a set."""

    name: str
    columns: tuple[MetricWords, ...]
    rows: tuple[FigureRow, ...]


def write_page(
    out: Path,
    study: StudyDeclaration,
    result: Experiment,
    caveats: Sequence[str],
    panels: Panels,
    site: bool = True,
) -> Path:
    """Write `index.html`; return its path.

    Args:
        out: folder of the study.
        study: declaration of the study.
        result: record of the study.
        caveats: remarks for readers, shown beside the numbers.
        panels: images to show.
        site: whether a board's site lies beside the page.
    """
    embedded = {
        target: {name: [data_uri("image/png", read_file(f)) for f in files] for name, files in rows.items()}
        for target, rows in panels.items()
    }
    text = render(
        "study.html.jinja",
        title=study.title,
        study=study,
        result=result,
        caveats=caveats,
        notes=sorted({note for figure in result.figures for note in figure.notes}),
        verdicts=[(verdict, words(verdict.metric), claim(study, verdict)) for verdict in result.verdicts],
        tables=[table(study, result, target) for target in result.sets],
        panels=[(target, rows.items()) for target, rows in embedded.items()],
        plot=_plot(result),
        site=site,
    )
    atomic.write_text(out / PAGE, text)
    return out / PAGE


def words(metric: str) -> MetricWords:
    """Return a metric's name and explanation."""
    return OWN_WORDS.get(metric) or metric_words(metric)


def claim(study: StudyDeclaration, verdict: Verdict) -> str:
    """Return the paper's claim as a sentence."""
    first, second = study.title_of(verdict.first), study.title_of(verdict.second)
    return f"{first} is {verdict.sign} than {second}"


def table(study: StudyDeclaration, result: Experiment, target: str) -> FigureTable:
    """Return the figures on a set: the study's metrics first, then the others in the order of the cards."""
    found = [figure for figure in result.figures if figure.set == target]
    keys = dict.fromkeys((*study.metrics, *(figure.metric for figure in found)))
    shown = [key for key in keys if any(figure.metric == key for figure in found)]
    names = {figure.metric: figure.key for figure in found}
    by_row: dict[tuple[str, int], dict[str, Figure]] = {}
    for figure in found:
        by_row.setdefault((figure.system, figure.seed), {})[figure.metric] = figure
    rows = tuple(
        FigureRow(study.title_of(system), seed, tuple(_cell(figures.get(key)) for key in shown))
        for (system, seed), figures in by_row.items()
    )
    return FigureTable(target, tuple(words(names[key]) for key in shown), rows)


def _cell(figure: Figure | None) -> tuple[str, str]:
    if figure is None or figure.value is None:
        return NOTHING, ""
    reach = "" if figure.low is None or figure.high is None else f"{figure.low:.3g} to {figure.high:.3g}"
    return f"{figure.value:.4g}", reach


def _plot(result: Experiment) -> tuple[str, str] | None:
    """Return the loss curves as data URIs for light and dark pages; None if no run has a curve.

    Losses of different methods cannot be compared.
    """
    lines = [
        Curve(run.name, [point.images for point in run.loss], [point.loss for point in run.loss])
        for run in result.runs
    ]
    if not any(line.x for line in lines):
        return None
    plot = curves(lines, "images seen", "training loss")
    return data_uri("image/svg+xml", plot.light), data_uri("image/svg+xml", plot.dark)
