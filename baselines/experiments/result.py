"""Results of a study: verdicts on the paper's claims, the record `experiment.json`, and the page.

The record holds runs and their data, every figure with its interval, and the verdicts. The page shows the
paper's finding, the verdicts, all figures, loss curves and images.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from scipy import special

from palette_bench.core import atomic
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.records import Part, Record, Sha, read_file, today
from palette_bench.core.significance import Difference, holm, paired_t, z_of_influence
from palette_bench.pages.plots import Curve, curves
from palette_bench.pages.render import data_uri, render
from palette_bench.pages.text import NOTHING, MetricWords, metric_words
from palette_bench.scoring.scorecard import BARRING

from ..training.checkpoint import open_run
from .evaluation import SystemReading
from .runs import PlannedRun
from .study import Claim, Sign, StudyDeclaration

# --- verdicts ---

LEVEL = 0.05  # of significance, after correction
Holds = Literal["yes", "no", "not told apart"]
Lookup = Mapping[tuple[str, str, str], Sequence[SystemReading]]  # (system, set, metric) -> reading per seed


class Verdict(Part):
    """A claim of the paper and the result here; `delta` is first minus second."""

    first: str
    second: str
    metric: str
    set: str
    sign: Sign
    source: str
    holds: Holds
    why: str
    delta: float | None = None
    se: float | None = None
    p: float | None = None
    p_holm: float | None = None
    n: int = 0
    test: str = ""


def verdicts(claims: Iterable[Claim], found: Lookup) -> tuple[Verdict, ...]:
    """Return a verdict per claim and set; the p values of all are corrected together (Holm)."""
    tests = [(claim, target, *_tested(claim, target, found)) for claim in claims for target in claim.sets]
    corrected = iter(holm([difference.p for _, _, difference, _ in tests if difference]))
    made = []
    for claim, target, difference, why in tests:
        own = {**claim.model_dump(exclude={"sets"}), "set": target}
        if difference is None:
            made.append(Verdict(**own, holds="not told apart", why=why))
            continue
        p = next(corrected)
        agrees = (difference.delta < 0) == (claim.sign == "lower")
        numbers = {name: getattr(difference, name) for name in ("delta", "se", "p", "n", "test")}
        holds: Holds = "not told apart" if p > LEVEL else "yes" if agrees else "no"
        made.append(Verdict(**own, **numbers, holds=holds, why=f"p = {p:.2g} after correction", p_holm=p))
    return tuple(made)


def _tested(claim: Claim, target: str, found: Lookup) -> tuple[Difference | None, str]:
    """Return the difference of a claim's systems on a set, or the reason why there is none."""
    firsts, seconds = (found.get((s, target, claim.metric), ()) for s in (claim.first, claim.second))
    if not firsts or not seconds or any(r.value is None for r in (*firsts, *seconds)):
        return None, "there is no such number"
    if forbidding := sorted({note for r in (*firsts, *seconds) for note in r.notes if note in BARRING}):
        return None, f"these numbers allow no conclusion: {', '.join(forbidding)}"
    first, second, difference = firsts[0], seconds[0], None
    assert first.value is not None, "checked above"
    assert second.value is not None, "checked above"
    if len(firsts) > 1:  # a paired t test over seeds, which covers the variance of retraining
        values, others = (np.array([r.value for r in side], np.float64) for side in (firsts, seconds))
        difference = paired_t(values, others)
    elif first.column is not None and second.column is not None:  # over images, whose contributions are known
        if first.key.partition("_")[0] in {"fid", "frechet", "kid", "kernel"}:
            halves = first.halves, second.halves
            difference = z_of_influence(first.value, second.value, first.column, second.column, *halves)
        else:
            difference = paired_t(first.column, second.column)
    elif first.se is not None and second.se is not None:
        # The errors of both systems are taken as independent. Systems err on the same images, so this test
        # has less power.
        delta, se = first.value - second.value, math.hypot(first.se, second.se)
        p = 2 * float(special.ndtr(-abs(delta) / se)) if se else float(delta == 0)
        difference = Difference(delta, se, p, min(first.n, second.n), "z-unpaired")
    return difference, "" if difference else "the numbers have no interval"


# --- record ---

_CURVE = 60  # points kept per loss curve

Found = Mapping[tuple[str, str, int], Mapping[str, SystemReading]]  # (system, set, seed) -> metric -> reading


class LossPoint(Part):
    """A point of a loss curve: the mean loss of the log interval that ends at `images`."""

    images: int
    loss: float


class RunResult(Part):
    """Result of one training run."""

    name: str
    system: str
    tasks: tuple[str, ...]
    seed: int
    method: str
    images_seen: int
    weights: Sha
    loss: tuple[LossPoint, ...]


class Figure(Part):
    """One number of one system on one set; `key` is its name on the scorecard."""

    system: str
    set: str
    seed: int
    metric: str
    key: str
    value: float | None
    low: float | None
    high: float | None
    se: float | None
    n: int
    notes: tuple[str, ...]


class Experiment(Record):
    """`experiment.json`: the record of a finished study."""

    kind: ClassVar[str] = "experiment"
    study: str
    size: str
    scale: float
    date: str
    identity: Sha  # digest of recipes, images, images seen, sets and extractors
    recipes: dict[str, Any]
    data: Sha
    training_pictures: int
    extractors: dict[str, Sha]
    sets: dict[str, Sha]
    runs: tuple[RunResult, ...]
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...]


def experiment(
    study: StudyDeclaration,
    size: str,
    scale: float,
    trainees: Mapping[str, PlannedRun],
    found: Found,
    data: tuple[Sha, int],
    sets: dict[str, Sha],
    extractors: dict[str, Sha],
) -> Experiment:
    """Return the record of a finished study.

    Args:
        study: declaration of the study.
        size: name of the size.
        scale: factor for the numbers of images and inputs.
        trainees: trained runs by name.
        found: every reading.
        data: digest and number of the training images.
        sets: fingerprints of the sets.
        extractors: fingerprints of the extractors.
    """
    # everything that determines the weights, except the images
    recipes = {
        name: {"recipe": t.recipe.choices(), "images": t.images, "seed": t.run.seed}
        for name, t in sorted(trainees.items())
    }
    runs = []
    for trainee in trainees.values():
        opened, run = open_run(trainee.folder), trainee.run
        lines = [line for line in trainee.log() if line["loss"] is not None]
        stride = -(-len(lines) // _CURVE) or 1
        kept = lines[::-1][::stride][::-1]  # reversed, so that the last point is kept
        runs.append(
            RunResult(
                name=run.name,
                system=run.system.name,
                tasks=run.tasks,
                seed=run.seed,
                method=run.system.method,
                images_seen=opened.step * trainee.recipe.training.batch,
                weights=opened.sha256,
                loss=tuple(LossPoint(images=line["images_seen"], loss=line["loss"]) for line in kept),
            )
        )
    copied = ("key", "value", "low", "high", "se", "n", "notes")
    figures, by_seed = [], defaultdict[tuple[str, str, str], list[SystemReading]](list)
    for (system, target, seed), readings in found.items():  # seeds come in rising order
        for metric, reading in readings.items():
            numbers = {name: getattr(reading, name) for name in copied}
            figures.append(Figure(system=system, set=target, seed=seed, metric=metric, **numbers))
            by_seed[system, target, metric].append(reading)
    return Experiment(
        schema=Experiment.schema_name(),
        study=study.name,
        size=size,
        scale=scale,
        date=today(),
        identity=fingerprint({"runs": recipes, "data": data[0], "extractors": extractors, "sets": sets}),
        recipes=recipes,
        data=data[0],
        training_pictures=data[1],
        extractors=extractors,
        sets=sets,
        runs=tuple(runs),
        figures=tuple(figures),
        verdicts=verdicts(study.claims, by_seed),
    )


# --- page ---

PAGE = "index.html"
OWN_WORDS = {
    "pairwise_rmse": MetricWords("Pairwise RMSE", "pixel difference of consecutive samples, levels"),
    "pairwise_ssim": MetricWords("Pairwise SSIM", "likeness of consecutive samples over three scales"),
    "neither_colour": MetricWords("Neither colour", "share of squares of neither true colour"),
    "minority_share": MetricWords("Minority share", "share of the rarer colour among squares of either"),
    "background_error": MetricWords("Background error", "mean difference outside the square, range 2"),
}

Panels = Mapping[str, Mapping[str, Sequence[Path]]]  # set -> caption -> images


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
    verdicts = []
    for verdict in result.verdicts:
        first, second = study.title_of(verdict.first), study.title_of(verdict.second)
        verdicts.append((verdict, words(verdict.metric), f"{first} is {verdict.sign} than {second}"))
    # losses of different methods cannot be compared, but they share a plot
    lines = [Curve(run.name, [p.images for p in run.loss], [p.loss for p in run.loss]) for run in result.runs]
    drawn = any(line.x for line in lines)
    text = render(
        "study.html.jinja",
        title=study.title,
        study=study,
        result=result,
        caveats=caveats,
        notes=sorted({note for figure in result.figures for note in figure.notes}),
        verdicts=verdicts,
        tables=[table(study, result, target) for target in result.sets],
        panels=[(target, rows.items()) for target, rows in embedded.items()],
        plot=curves(lines, "images seen", "training loss").addresses if drawn else None,
        site=site,
    )
    atomic.write_text(out / PAGE, text)
    return out / PAGE


def words(metric: str) -> MetricWords:
    """Return a metric's name and explanation."""
    return OWN_WORDS.get(metric) or metric_words(metric)


def table(study: StudyDeclaration, result: Experiment, target: str) -> dict[str, Any]:
    """Return the figures on a set: its name, the columns' words, and a row per system and seed.

    The study's metrics come first, then the others in the order of the cards. A cell is (value, interval).
    """
    found = [figure for figure in result.figures if figure.set == target]
    keys = dict.fromkeys((*study.metrics, *(figure.metric for figure in found)))
    shown = [key for key in keys if any(figure.metric == key for figure in found)]
    names = {figure.metric: figure.key for figure in found}
    by_row: dict[tuple[str, int], dict[str, Figure]] = {}
    for figure in found:
        by_row.setdefault((figure.system, figure.seed), {})[figure.metric] = figure
    rows = [
        {"system": study.title_of(system), "seed": seed, "cells": [_cell(figures.get(key)) for key in shown]}
        for (system, seed), figures in by_row.items()
    ]
    return {"name": target, "columns": [words(names[key]) for key in shown], "rows": rows}


def _cell(figure: Figure | None) -> tuple[str, str]:
    if figure is None or figure.value is None:
        return NOTHING, ""
    reach = "" if figure.low is None or figure.high is None else f"{figure.low:.3g} to {figure.high:.3g}"
    return f"{figure.value:.4g}", reach
