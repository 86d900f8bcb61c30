"""`experiment.json`: what was trained on what, every figure with its interval, and the verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.records import Part, Record, Sha, today

from ..training.run import open_run
from .readings import Reading
from .study import Claim
from .training import Trainee, identity_of
from .verdicts import Verdict, verdicts

_CURVE = 60  # points kept of a loss curve

Found = Mapping[tuple[str, str, int], Mapping[str, Reading]]  # (system, set, seed) -> metric -> reading


class Point(Part):
    """Of a loss curve: the mean loss since the point before."""

    images: int
    loss: float


class RunResult(Part):
    """One trained run."""

    name: str
    system: str
    tasks: tuple[str, ...]
    seed: int
    method: str
    images_seen: int
    weights: Sha
    loss: tuple[Point, ...]


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
    """`experiment.json`."""

    kind: ClassVar[str] = "experiment"
    study: str
    size: str
    scale: float
    date: str
    identity: Sha  # of recipes, pictures, images seen, sets and extractors
    recipes: dict[str, Any]
    data: Sha
    training_pictures: int
    extractors: dict[str, Sha]
    sets: dict[str, Sha]
    runs: tuple[RunResult, ...]
    figures: tuple[Figure, ...]
    verdicts: tuple[Verdict, ...]


def run_results(trainees: Sequence[Trainee]) -> tuple[RunResult, ...]:
    """Return what each run came to."""
    return tuple(_run_result(trainee) for trainee in trainees)


def _run_result(trainee: Trainee) -> RunResult:
    opened = open_run(trainee.folder)
    points = [
        Point(images=line["images_seen"], loss=line["loss"])
        for line in trainee.log()
        if line["loss"] is not None
    ]
    stride = -(-len(points) // _CURVE) or 1
    return RunResult(
        name=trainee.run.name,
        system=trainee.run.system.name,
        tasks=trainee.run.tasks,
        seed=trainee.run.seed,
        method=trainee.run.system.method,
        images_seen=opened.step * trainee.recipe.training.batch,
        weights=opened.sha256,
        loss=tuple(points[::-1][::stride][::-1]),  # the last point stays
    )


def figures(found: Found) -> tuple[Figure, ...]:
    """Return every number, without its per-image column."""
    return tuple(
        Figure(
            system=system,
            set=target,
            seed=seed,
            metric=metric,
            key=reading.key,
            value=reading.value,
            low=reading.low,
            high=reading.high,
            se=reading.se,
            n=reading.n,
            notes=reading.notes,
        )
        for (system, target, seed), readings in found.items()
        for metric, reading in readings.items()
    )


def judged(claims: Sequence[Claim], found: Found) -> tuple[Verdict, ...]:
    """Return the verdicts on claims, seeds of a system side by side in their order."""
    by_seed: dict[tuple[str, str, str], list[Reading]] = {}
    for (system, target, _), readings in sorted(found.items()):
        for metric, reading in readings.items():
            by_seed.setdefault((system, target, metric), []).append(reading)
    return verdicts(claims, by_seed)


def experiment(
    name: str,
    size: str,
    scale: float,
    trainees: Mapping[str, Trainee],
    data: tuple[Sha, int],
    networks: tuple[dict[str, Sha], dict[str, Sha]],
    found: Found,
    claims: Sequence[Claim],
) -> Experiment:
    """Return the record of a finished study.

    Args:
        name: of the study.
        size: its name.
        scale: by which it was made smaller.
        trainees: trained, by run.
        data: digest and number of the training pictures.
        networks: fingerprints of extractors, and of sets.
        found: every reading.
        claims: of the paper.
    """
    recipes = identity_of(trainees)
    extractors, sets = networks
    return Experiment(
        schema=Experiment.schema_name(),
        study=name,
        size=size,
        scale=scale,
        date=today(),
        identity=fingerprint({"runs": recipes, "data": data[0], "extractors": extractors, "sets": sets}),
        recipes=recipes,
        data=data[0],
        training_pictures=data[1],
        extractors=extractors,
        sets=sets,
        runs=run_results(list(trainees.values())),
        figures=figures(found),
        verdicts=judged(claims, found),
    )
