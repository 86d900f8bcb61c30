"""Which metric comes from which extractor: protocol, labels and names decide, before any network runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from palette_bench.core.errors import UsageError
from palette_bench.scoring.features import FID_NETWORK, IMAGENET
from palette_bench.scoring.metrics import FEATURE_METRICS
from palette_bench.scoring.metrics.diagnostics import DIAGNOSTICS, Diagnostic
from palette_bench.scoring.metrics.outcome import Metric
from palette_bench.scoring.scorecard import GENERAL_FORM

if TYPE_CHECKING:
    from palette_bench.scoring.features.extractor import FeatureExtractor

_RESERVED_FORM = {general: reserved for reserved, general in GENERAL_FORM.items()}


@dataclass(frozen=True)
class Step:
    """One metric and the extractor that feeds it."""

    metric: Metric
    extractor: FeatureExtractor


def plan(wanted: Sequence[str], extractors: Sequence[FeatureExtractor], labelled: bool) -> tuple[Step, ...]:
    """Return a step per wanted metric.

    Args:
        wanted: metric ids of the protocol; reserved and general names mean the same arithmetic.
        extractors: in the order chosen; the first that offers the needed head is taken.
        labelled: every picture has a class.

    Raises:
        UsageError: no extractor offers a head that a metric needs.

    Source: metrics, section 4, "Reserved names".
    """
    return tuple(_step(_RESERVED_FORM.get(name, name), extractors, labelled) for name in wanted)


def _step(name: str, extractors: Sequence[FeatureExtractor], labelled: bool) -> Step:
    head = FEATURE_METRICS[name].head
    offering = [e for e in extractors if head in e.heads]
    if not offering:
        chosen = ", ".join(e.id for e in extractors)
        raise UsageError(f"{name} needs an extractor with a {head} head; chosen: {chosen}")
    extractor = offering[0]
    keeps_name = name not in GENERAL_FORM or extractor.id == FID_NETWORK
    if name == "classification_accuracy":
        extractor = next((e for e in offering if e.label_space == IMAGENET), offering[0])
        keeps_name = labelled and extractor.label_space == IMAGENET
    return Step(FEATURE_METRICS[name if keeps_name else GENERAL_FORM[name]], extractor)


def diagnostics(degradation: str) -> tuple[Diagnostic, ...]:
    """Return the diagnostics of a task."""
    return tuple(d for d in DIAGNOSTICS.values() if d.degradation in (None, degradation))
