"""`experiment.json`: runs and their data, every figure with its interval, verdicts on the paper's claims."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from scipy import special

from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.records import Part, Record, Sha, today
from palette_bench.core.significance import Difference, holm, paired_t, z_of_influence

from ..training.weights import open_run
from .evaluation import SystemReading
from .runs import PlannedRun
from .study import Claim, Sign

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
    return tuple(_verdict(*test, next(corrected) if test[2] else None) for test in tests)


def _tested(claim: Claim, target: str, found: Lookup) -> tuple[Difference | None, str]:
    """Return the difference of a claim's systems on a set, or the reason why there is none."""
    firsts, seconds = (found.get((s, target, claim.metric), ()) for s in (claim.first, claim.second))
    if not firsts or not seconds or any(r.value is None for r in (*firsts, *seconds)):
        return None, "there is no such number"
    if forbidding := sorted({note for r in (*firsts, *seconds) for note in r.barred}):
        return None, f"these numbers allow no conclusion: {', '.join(forbidding)}"
    if len(firsts) > 1:  # a paired t test over seeds, which covers the variance of retraining
        values, others = (np.array([r.value for r in side], np.float64) for side in (firsts, seconds))
        difference = paired_t(values, others)
    else:
        difference = of_images(firsts[0], seconds[0])
    return difference, "" if difference else "the numbers have no interval"


def of_images(first: SystemReading, second: SystemReading) -> Difference | None:
    """Return the difference on one set: paired if each image's contribution is known, else unpaired.

    The unpaired test takes the errors of both systems as independent. Systems err on the same images, so this
    test has less power.
    """
    assert first.value is not None, "asked of numbers that exist"
    assert second.value is not None, "asked of numbers that exist"
    if first.column is not None and second.column is not None:
        if first.key.partition("_")[0] in {"fid", "frechet", "kid", "kernel"}:
            return z_of_influence(
                first.value, second.value, first.column, second.column, first.halves, second.halves
            )
        return paired_t(first.column, second.column)
    if first.se is None or second.se is None:
        return None
    delta, se = first.value - second.value, math.hypot(first.se, second.se)
    p = 2 * float(special.ndtr(-abs(delta) / se)) if se else float(delta == 0)
    return Difference(delta, se, p, min(first.n, second.n), "z-unpaired")


def _verdict(
    claim: Claim, target: str, difference: Difference | None, why: str, corrected: float | None
) -> Verdict:
    own = claim.model_dump(exclude={"sets"})
    untold = Verdict(**own, set=target, holds="not told apart", why=why)
    if difference is None or corrected is None:
        return untold
    agrees = (difference.delta < 0) == (claim.sign == "lower")
    return untold.model_copy(
        update={
            "holds": "not told apart" if corrected > LEVEL else "yes" if agrees else "no",
            "why": f"p = {corrected:.2g} after correction",
            "delta": difference.delta,
            "se": difference.se,
            "p": difference.p,
            "p_holm": corrected,
            "n": difference.n,
            "test": difference.test,
        }
    )


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


def _run_result(trainee: PlannedRun) -> RunResult:
    opened = open_run(trainee.folder)
    points = [
        LossPoint(images=line["images_seen"], loss=line["loss"])
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
        loss=tuple(points[::-1][::stride][::-1]),  # reversed, so that the last point is kept
    )


def experiment(
    name: str,
    size: str,
    scale: float,
    trainees: Mapping[str, PlannedRun],
    data: tuple[Sha, int],
    networks: tuple[dict[str, Sha], dict[str, Sha]],
    found: Found,
    claims: Sequence[Claim],
) -> Experiment:
    """Return the record of a finished study.

    Args:
        name: name of the study.
        size: name of the size.
        scale: factor for the numbers of images and inputs.
        trainees: trained runs by name.
        data: digest and number of the training images.
        networks: fingerprints of the extractors, and of the sets.
        found: every reading.
        claims: claims of the paper.
    """
    # everything that determines the weights, except the images
    recipes = {
        name: {"recipe": t.recipe.choices(), "images": t.images, "seed": t.run.seed}
        for name, t in sorted(trainees.items())
    }
    extractors, sets = networks
    told = ("key", "value", "low", "high", "se", "n", "notes")
    figures, by_seed = [], defaultdict[tuple[str, str, str], list[SystemReading]](list)
    for (system, target, seed), readings in found.items():
        for metric, reading in readings.items():
            numbers = {name: getattr(reading, name) for name in told}
            figures.append(Figure(system=system, set=target, seed=seed, metric=metric, **numbers))
    for (system, target, _), readings in sorted(found.items()):
        for metric, reading in readings.items():
            by_seed[system, target, metric].append(reading)
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
        runs=tuple(map(_run_result, trainees.values())),
        figures=tuple(figures),
        verdicts=verdicts(claims, by_seed),
    )
