"""Which metric comes from which extractor: protocol, labels and names decide, before any network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import Problem, UsageError, problem, suggest
from palette_bench.scoring.features import FID_NETWORK, IMAGENET
from palette_bench.scoring.metrics import FEATURE_METRICS, METRICS
from palette_bench.scoring.metrics.diagnostics import DIAGNOSTICS, Diagnostic
from palette_bench.scoring.metrics.diversity import DIVERSITIES, Diversity
from palette_bench.scoring.metrics.outcome import Metric
from palette_bench.scoring.scorecard import GENERAL_FORM, ORIGINALS_FORM

if TYPE_CHECKING:
    from palette_bench.scoring.features.extractor import FeatureExtractor

_RESERVED_FORM = {
    form: reserved for forms in (GENERAL_FORM, ORIGINALS_FORM) for reserved, form in forms.items()
}


@dataclass(frozen=True)
class Step:
    """One metric and the extractor that feeds it."""

    metric: Metric
    extractor: FeatureExtractor

    @property
    def head(self) -> str:
        """Return the extractor's head that the metric reads."""
        return self.extractor.heads[self.metric.head]


@dataclass(frozen=True)
class MetricSelection:
    """The metrics of a card, by what they read: features, several samples, pixels."""

    features: tuple[str, ...]
    diversities: tuple[Diversity, ...]
    diagnostics: tuple[Diagnostic, ...]


def select_metrics(
    target: BenchSet, extractors: Sequence[str], chosen: Sequence[str] = ()
) -> MetricSelection:
    """Return the metrics that were chosen, or all that this set and these extractors have.

    Raises:
        UsageError: an unknown metric, or one of another task; all of them.
    """
    pixels = diagnostics(target.task.degradation)
    if not chosen:
        return MetricSelection(wanted_metrics(target, extractors), tuple(DIVERSITIES.values()), pixels)
    known = {*FEATURE_METRICS, *DIVERSITIES, *(row.id for row in pixels)}
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
        tuple(row for row in DIVERSITIES.values() if row.id in chosen),
        tuple(row for row in pixels if row.id in chosen),
    )


def servable(
    wanted: Sequence[str], extractors: Sequence[FeatureExtractor]
) -> tuple[tuple[str, ...], list[Problem]]:
    """Return the metrics that some extractor serves, and PB207 for the others.

    A network without classes has no classifier scores, and what it can do is done.
    """
    served = tuple(name for name in wanted if _offering(FEATURE_METRICS[name], extractors))
    chosen = ", ".join(e.id for e in extractors)
    return served, [
        problem(
            "PB207",
            name,
            expected=_needs(FEATURE_METRICS[name]),
            found=chosen,
            fix="add such a network with --extractor; a board ranks by it only cards that have it",
        )
        for name in wanted
        if name not in served
    ]


def wanted_metrics(target: BenchSet, extractors: Sequence[str]) -> tuple[str, ...]:
    """Return the feature metrics of a card: those that rank, then those that are only shown.

    KID stands beside FID where sets are too small for it: everywhere but on the paper's own sources
    (protocol, section 8). A metric defined on one network alone comes with that network.
    """
    source = target.manifest.source
    ranked = target.protocol.ranked_metrics(source)
    bound = [m.id for m in FEATURE_METRICS.values() if m.extractor in extractors]
    beside = () if target.protocol.has_validation_set(source) else ("kid",)
    return tuple(dict.fromkeys((*ranked, *beside, *bound)))


def check_metrics(names: Sequence[str]) -> None:
    """Accept ids of metrics on features.

    Raises:
        UsageError: an unknown one, with a suggestion.
    """
    unknown = [name for name in names if name not in FEATURE_METRICS]
    if unknown:
        raise UsageError(f"unknown metric {unknown[0]!r}: {suggest(unknown[0], FEATURE_METRICS)}")


def needed_extractors(metrics: Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """Return which of a protocol's extractors some metrics need: the classifier only where classes count.

    Args:
        metrics: ids.
        available: extractors in the protocol's order, the one FID is computed on first.
    """
    bound = [FEATURE_METRICS[name].extractor for name in metrics]
    classifies = any(name.startswith("classification") for name in metrics)
    shared = available if classifies else available[:1]
    return (*shared, *dict.fromkeys(name for name in bound if name))


def plan(wanted: Sequence[str], extractors: Sequence[FeatureExtractor], labelled: bool) -> tuple[Step, ...]:
    """Return a step per wanted metric.

    Args:
        wanted: metric ids; reserved and general names mean the same arithmetic.
        extractors: in the order chosen; the first that offers the needed head is taken.
        labelled: every picture has a class.

    Raises:
        UsageError: an unknown metric, or no extractor offers a head that a metric needs.

    Source: metrics, section 4, "Reserved names".
    """
    check_metrics(wanted)
    return tuple(_step(_RESERVED_FORM.get(name, name), extractors, labelled) for name in wanted)


def _step(name: str, extractors: Sequence[FeatureExtractor], labelled: bool) -> Step:
    metric = FEATURE_METRICS[name]
    offering = _offering(metric, extractors)
    if not offering:
        chosen = ", ".join(e.id for e in extractors)
        raise UsageError(f"{name} needs {_needs(metric)}; chosen: {chosen or 'none'}")
    extractor = offering[0]
    keeps_name = name not in GENERAL_FORM or extractor.id == FID_NETWORK
    if name == "classification_accuracy":
        extractor = next((e for e in offering if e.label_space == IMAGENET), offering[0])
        keeps_name = labelled and extractor.label_space == IMAGENET
    return Step(FEATURE_METRICS[name if keeps_name else GENERAL_FORM[name]], extractor)


def _offering(metric: Metric, extractors: Sequence[FeatureExtractor]) -> list[FeatureExtractor]:
    return [e for e in extractors if metric.head in e.heads and metric.extractor in (None, e.id)]


def _needs(metric: Metric) -> str:
    """Return in words what network a metric needs."""
    if metric.extractor:
        return metric.extractor
    return "a network that tells classes apart" if metric.head == "logits" else "a network with features"


def diagnostics(degradation: str) -> tuple[Diagnostic, ...]:
    """Return the diagnostics of a task."""
    return tuple(d for d in DIAGNOSTICS.values() if d.degradation in (None, degradation))
