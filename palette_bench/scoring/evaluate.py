"""Selection of metrics and their extractors, and computation of scores from feature tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import Problem, UsageError, problem, suggest
from palette_bench.core.types import Fingerprint, ImageId
from palette_bench.scoring.features import FID_NETWORK, IMAGENET
from palette_bench.scoring.features.cache import HeadTables
from palette_bench.scoring.metrics import FEATURE_METRICS, METRICS, RANKING_METRICS, RESERVED_FORM
from palette_bench.scoring.metrics.diagnostics import DIAGNOSTICS, Diagnostic, DiagnosticReading, summarise
from palette_bench.scoring.metrics.diversity import DIVERSITIES, Diversity
from palette_bench.scoring.metrics.metric import FeatureTables, Metric, MetricOutcome, MetricRow
from palette_bench.scoring.metrics.paired import PAIRED_METRICS, PairedMetric
from palette_bench.scoring.references import ORIGINALS, ReferenceSource
from palette_bench.scoring.scorecard import Score

if TYPE_CHECKING:
    from palette_bench.scoring.features.extractor import FeatureExtractor


# --- selection of metrics and extractors ---


@dataclass(frozen=True)
class MetricStep:
    """One metric and the extractor whose features it reads."""

    metric: Metric
    extractor: FeatureExtractor

    @property
    def head(self) -> str:
        """Return the name of the extractor's head that the metric reads."""
        return self.extractor.heads[self.metric.head]


@dataclass(frozen=True)
class MetricSelection:
    """The metrics of a scorecard by what they read: features, pairs with originals, samples, or pixels."""

    features: tuple[str, ...]
    distances: tuple[PairedMetric, ...]
    diversities: tuple[Diversity, ...]
    diagnostics: tuple[Diagnostic, ...]


def select_metrics(
    target: BenchSet, extractors: Sequence[str], chosen: Sequence[str] = ()
) -> MetricSelection:
    """Return the chosen metrics, or all metrics that this set and these extractors support.

    Unless chosen, paired distances are included only if the protocol names them.

    Raises:
        UsageError: metrics are unknown or belong to another task; the message lists all of them.
    """
    pixels = diagnostics(target.task.degradation)
    if not chosen:
        ranked = target.protocol.ranked_metrics(target.manifest.source, target.public.task)
        wanted = (*ranked, *target.protocol.shown)
        paired = tuple(row for row in PAIRED_METRICS.values() if row.id in wanted)
        return MetricSelection(
            wanted_metrics(target, extractors), paired, tuple(DIVERSITIES.values()), pixels
        )
    known = {*RANKING_METRICS, *DIVERSITIES, *(row.id for row in pixels)}
    faults = [
        f"{name} is not for {target.public.task}"
        if name in METRICS
        else f"unknown metric {name!r}: {suggest(name, known)}"
        for name in chosen
        if name not in known
    ]
    if faults:
        raise UsageError("; ".join(faults))
    return MetricSelection(
        tuple(dict.fromkeys(name for name in chosen if name in FEATURE_METRICS)),
        tuple(row for row in PAIRED_METRICS.values() if row.id in chosen),
        tuple(row for row in DIVERSITIES.values() if row.id in chosen),
        tuple(row for row in pixels if row.id in chosen),
    )


def servable(
    wanted: Sequence[str], extractors: Sequence[FeatureExtractor]
) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the metrics that some extractor supports, and a PB207 problem for each of the others.

    A network without classes, for example, has no classifier scores; its other metrics are still computed.
    """
    served = tuple(name for name in wanted if _offering(FEATURE_METRICS[name], extractors))
    needs = {name: _needs(FEATURE_METRICS[name]) for name in wanted if name not in served}
    found = ", ".join(e.id for e in extractors)
    fix = "add such a network with --extractor; a board ranks by it only cards that have it"
    return served, [
        problem("PB207", name, expected=need, found=found, fix=fix) for name, need in needs.items()
    ]


def wanted_metrics(target: BenchSet, extractors: Sequence[str]) -> tuple[str, ...]:
    """Return the feature metrics of a scorecard: first those that rank, then those that are only shown.

    KID is shown beside FID on all sources except the paper's own, because other sets are too small for FID
    (protocol, section 8). A distance to originals defined on one network is included if that network is used.
    """
    source = target.manifest.source
    ranked = target.protocol.ranked_metrics(source, target.public.task)
    named = [name for name in (*ranked, *target.protocol.shown) if name in FEATURE_METRICS]
    bound = [m.id for m in FEATURE_METRICS.values() if m.extractor in extractors and not m.referenced]
    beside = () if target.protocol.has_validation_set(source) else ("kid",)
    return tuple(dict.fromkeys((*named, *beside, *bound)))


def check_metrics(names: Sequence[str]) -> None:
    """Raise unless all names are ids of feature metrics.

    Raises:
        UsageError: an unknown id; the message suggests a known one.
    """
    unknown = [name for name in names if name not in FEATURE_METRICS]
    if unknown:
        raise UsageError(f"unknown metric {unknown[0]!r}: {suggest(unknown[0], FEATURE_METRICS)}")


def needed_extractors(metrics: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """Return the extractors of a protocol that the given metrics need.

    The first is included for metrics of any network, the others only for classification metrics. A metric
    that is defined on one network, or has its reserved name there, adds that network.

    Args:
        metrics: metric ids.
        available: extractors in the protocol's order; FID is computed on the first.
    """
    rows = [FEATURE_METRICS[name] for name in metrics]
    shared = available if any(row.classifies for row in rows) else available[:1]
    if rows and all(row.extractor for row in rows):
        shared = ()
    return (*shared, *dict.fromkeys(row.extractor for row in rows if row.extractor))


def plan(
    wanted: Sequence[str], extractors: Sequence[FeatureExtractor], labelled: bool
) -> tuple[MetricStep, ...]:
    """Return one step per wanted metric.

    Args:
        wanted: metric ids; a reserved name and its general form mean the same arithmetic.
        extractors: extractors in order of preference. A metric uses the first one with the head it needs;
            one that classifies prefers a classifier of ImageNet labels, and one whose name is reserved for a
            network of its own prefers that.
        labelled: whether every image has a class.

    Two reserved names with one general form make one step, if neither has its network.

    Raises:
        UsageError: an unknown metric, or no extractor has the head that a metric needs.

    Source: metrics, section 4, "Reserved names".
    """
    check_metrics(wanted)
    steps = []
    for name in (RESERVED_FORM.get(name, name) for name in wanted):
        metric = FEATURE_METRICS[name]
        offering = _offering(metric, extractors)
        if not offering:
            chosen = ", ".join(e.id for e in extractors) or "none"
            raise UsageError(f"{name} needs {_needs(metric)}; chosen: {chosen}")
        extractor = next((e for e in offering if e.id == metric.extractor), offering[0])
        # a reserved name holds on one network only; on others the metric takes its general name
        keeps_name = not metric.general or extractor.id == (metric.extractor or FID_NETWORK)
        if metric.classifies:
            extractor = next((e for e in offering if e.label_space == IMAGENET), offering[0])
            keeps_name = labelled and extractor.label_space == IMAGENET
        steps.append(MetricStep(metric if keeps_name else FEATURE_METRICS[metric.general], extractor))
    return tuple({step.metric.id: step for step in steps}.values())


def _offering(metric: Metric, extractors: Sequence[FeatureExtractor]) -> list[FeatureExtractor]:
    """Return the extractors that a metric can use, under its own name or its general one."""
    anywhere = metric.extractor is None or metric.general
    return [e for e in extractors if metric.head in e.heads and (anywhere or e.id == metric.extractor)]


def _needs(metric: Metric) -> str:
    """Return a description of the network that a metric needs."""
    if metric.extractor and not metric.general:
        return metric.extractor
    return "a network that tells classes apart" if metric.head == "logits" else "a network with features"


def diagnostics(degradation: str) -> tuple[Diagnostic, ...]:
    """Return the pixel diagnostics that apply to a degradation."""
    return tuple(d for d in DIAGNOSTICS.values() if d.degradation in (None, degradation))


# --- scores from feature tables ---

MATCHED = "fid_matched"
PARTIAL_NOTE = "partial"


@dataclass(frozen=True)
class ScoredMetric:
    """The outcome of a metric and the score made from it."""

    outcome: MetricOutcome
    score: Score


@dataclass(frozen=True)
class ImageLabels:
    """The class labels of images.

    Attributes:
        classes: (N,) int64 in id order.
        count: number of classes in the whole set.
    """

    classes: NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, target: BenchSet, ids: Sequence[ImageId]) -> ImageLabels | None:
        """Return the labels of some images of a set, or None if any image of the set has no label."""
        known = {i: item.label for i, item in target.manifest.by_id.items() if item.label is not None}
        if len(known) < target.manifest.n:
            return None
        return cls(np.array([known[i] for i in ids], np.int64), len(set(known.values())))


@dataclass(frozen=True)
class MetricInputs:
    """Everything that metrics read of one submission; rows are in id order.

    Attributes:
        n: number of scored images.
        outputs: extractor id -> tables of the outputs.
        originals: extractor id -> tables of the originals of the same ids.
        originals_keys: extractor id -> fingerprint of these originals and the extractor.
        reference: reference of distances between clouds.
        labels: class labels, or None.
        notes: notes that every score carries, e.g. `partial`.
    """

    n: int
    outputs: Mapping[str, HeadTables]
    originals: Mapping[str, HeadTables]
    originals_keys: Mapping[str, Fingerprint]
    reference: ReferenceSource
    labels: ImageLabels | None
    notes: tuple[str, ...] = ()


def close(steps: Sequence[MetricStep], inputs: MetricInputs) -> dict[str, ScoredMetric]:
    """Return the outcome and the score of each step, by metric id.

    Against the set's own originals, `fid` and `kid` are named `fid_originals` and `kid_originals`.
    """
    named = steps
    if inputs.reference.id == ORIGINALS:
        named = [replace(s, metric=FEATURE_METRICS[s.metric.originals or s.metric.id]) for s in steps]
    tables: dict[_TablesKey, FeatureTables] = {}
    return {step.metric.id: _close(step, inputs, tables) for step in named}


def score_all(
    steps: Sequence[MetricStep],
    inputs: MetricInputs,
    matched: ReferenceSource | None,
    readings: Mapping[str, Sequence[DiagnosticReading]],
) -> dict[str, ScoredMetric]:
    """Return the feature scores and the pixel diagnostics, in the order of the scorecard.

    Args:
        steps: the feature metrics and their extractors.
        inputs: what they read.
        matched: reference cropped like the set. FID against it is shown beside the default FID as
            `fid_matched` and never ranks; None leaves it out.
        readings: diagnostic id -> one reading per image.
    """
    scored = close(steps, inputs)
    for step in steps:
        if step.metric.id == "fid" and matched is not None:
            renamed = replace(step, metric=replace(step.metric, id=MATCHED))
            one = _close(renamed, replace(inputs, reference=matched), {})
            # only the default FID has a column in the per-image table
            scored[MATCHED] = replace(one, outcome=replace(one.outcome, columns={}))
    for name, values in readings.items():
        outcome = summarise(DIAGNOSTICS[name], values)
        score = as_score(DIAGNOSTICS[name], outcome, inputs.n, notes=inputs.notes)
        scored[name] = ScoredMetric(outcome, score)
    return scored


# extractor, head, and what is read of the reference: metrics that agree in these share their tables
_TablesKey: TypeAlias = tuple[str, str, bool, bool, str | None]


def _tables_of(step: MetricStep, inputs: MetricInputs) -> FeatureTables:
    name, head, metric, reference = step.extractor.id, step.head, step.metric, None
    if metric.referenced:
        reference = inputs.reference.reference(step.extractor, head, metric.all_pairs, metric.kernel)
    labels = (inputs.labels.classes, inputs.labels.count) if inputs.labels else (None, None)
    return FeatureTables(inputs.outputs[name][head], inputs.originals[name][head], reference, *labels)


def _close(step: MetricStep, inputs: MetricInputs, known: dict[_TablesKey, FeatureTables]) -> ScoredMetric:
    """Return the score of one step; `known` holds the tables of steps before, and takes those of this."""
    key = (step.extractor.id, step.head, step.metric.referenced, step.metric.all_pairs, step.metric.kernel)
    if key not in known:
        known[key] = _tables_of(step, inputs)
    tables = known[key]
    outcome = step.metric.score(tables)
    # The originals taken as outputs give the paper's row "Original images".
    original: float | None = None
    if tables.reference is not None and tables.reference.paired:  # the originals against themselves
        is_distance = step.metric.direction == "lower"
        original = 0.0 if is_distance and tables.reference.n > 1 else None
    elif tables.reference is not None and step.metric.all_pairs:
        original = None  # all pairs in a whole validation set would cost more than everything else
    elif not step.metric.paired:
        original = step.metric.score(replace(tables, outputs=tables.originals)).value
    notes = (*step.extractor.notes, *inputs.notes)
    compared = inputs.originals_keys[step.extractor.id] if step.metric.paired else None
    if step.metric.referenced:
        compared = inputs.reference.fingerprint(step.extractor)
        notes = (*step.extractor.notes, *inputs.reference.notes, *inputs.notes)
    params = outcome.params if original is None else {**outcome.params, "original": original}
    score = as_score(
        step.metric,
        replace(outcome, params=params),
        inputs.n,
        extractor=step.extractor.id,
        reference=compared,
        notes=notes,
    )
    return ScoredMetric(outcome, score)


def as_score(
    row: MetricRow,
    outcome: MetricOutcome,
    n: int,
    *,
    extractor: str | None = None,
    reference: Fingerprint | None = None,
    notes: tuple[str, ...] = (),
) -> Score:
    """Return the scorecard entry of an outcome, each note once.

    Args:
        row: the metric's row in its table.
        outcome: value, interval, params and notes of the metric.
        n: number of images that the value covers.
        extractor: id of the extractor.
        reference: fingerprint of what the metric compares with.
        notes: notes of the extractor, the reference and the run.
    """
    return Score(
        value=outcome.value,
        low=outcome.low,
        high=outcome.high,
        se=outcome.se,
        interval=outcome.interval.method if outcome.interval else None,
        n=n,
        direction=row.direction,
        unit=row.unit,
        extractor=extractor,
        reference=reference,
        params=outcome.params,
        notes=tuple(dict.fromkeys((*outcome.notes, *notes))),
    )
