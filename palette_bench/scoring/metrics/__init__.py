"""The metrics: features to numbers, intervals and per-image columns. NumPy and SciPy only.

`FEATURE_METRICS` maps ids to rows. `fid`, `kid` and `inception_score` are reserved for the FID network; `fid`
and `kid` also require a reference other than the set's own originals. In all other cases the same arithmetic
has another name, so that no page prints FID for a number that is not FID.
"""

from __future__ import annotations

from collections.abc import Callable

from palette_bench.scoring.metrics.classifier import (
    accuracy,
    agreement,
    inception_score,
    inception_score_10,
)
from palette_bench.scoring.metrics.diagnostics import DIAGNOSTICS, Diagnostic
from palette_bench.scoring.metrics.diversity import DIVERSITIES, Diversity
from palette_bench.scoring.metrics.frechet import frechet
from palette_bench.scoring.metrics.kid import kernel
from palette_bench.scoring.metrics.metric import FeatureTables, Metric, MetricOutcome
from palette_bench.scoring.metrics.perceptual import perceptual_distance, perceptual_distance_googlenet

_SQUARED = "squared feature units"
_KERNEL = "squared kernel units"
_ELSEWHERE = "'s arithmetic on another network"

Score = Callable[[FeatureTables], MetricOutcome]


def _to_reference(name: str, title: str, unit: str, score: Score) -> Metric:
    return Metric(name, title, "lower", unit, "features", False, score, referenced=True)


def _to_originals(name: str, title: str, score: Score, extractor: str | None = None) -> Metric:
    return Metric(name, title, "lower", _SQUARED, "features", True, score, extractor=extractor)


def _of_classes(name: str, title: str, unit: str, score: Score, *, paired: bool = False) -> Metric:
    return Metric(name, title, "higher", unit, "logits", paired, score)


FEATURE_METRICS: dict[str, Metric] = {
    row.id: row
    for row in (
        _to_reference("fid", "Fréchet Inception distance", _SQUARED, frechet),
        _to_reference("fid_originals", "FID's arithmetic against the set's own originals", _SQUARED, frechet),
        _to_reference("frechet_distance", "FID" + _ELSEWHERE, _SQUARED, frechet),
        _to_reference("kid", "kernel Inception distance, all pairs", _KERNEL, kernel),
        _to_reference("kid_originals", "KID's arithmetic against the set's own originals", _KERNEL, kernel),
        _to_reference("kernel_distance", "KID" + _ELSEWHERE, _KERNEL, kernel),
        _of_classes("inception_score", "Inception Score, one split", "classes", inception_score),
        _of_classes("classifier_score", "Inception Score" + _ELSEWHERE, "classes", inception_score),
        _of_classes("inception_score_10", "Inception Score, ten splits", "classes", inception_score_10),
        _of_classes("classifier_score_10", "ten splits on another network", "classes", inception_score_10),
        _of_classes("classification_accuracy", "outputs recognised as their class", "%", accuracy),
        _of_classes("classification_agreement", "same class as the original", "%", agreement, paired=True),
        _to_originals("perceptual_distance", "squared feature distance to the original", perceptual_distance),
        _to_originals(
            "perceptual_distance_googlenet",
            "the same on torchvision's GoogLeNet",
            perceptual_distance_googlenet,
            "googlenet-v1",
        ),
    )
}

# all metrics that scoring computes, by id
METRICS: dict[str, Metric | Diversity | Diagnostic] = {**FEATURE_METRICS, **DIVERSITIES, **DIAGNOSTICS}
