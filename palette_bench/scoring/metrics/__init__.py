"""The metrics: features to numbers, intervals and per-image columns. NumPy and SciPy only.

One table, id -> row. `fid` and `inception_score` are reserved for the FID network: with any other the
same arithmetic has its general name, so that no page prints FID for a number that is not.
"""

from __future__ import annotations

from palette_bench.scoring.metrics.classifier import accuracy, agreement, inception_score
from palette_bench.scoring.metrics.diagnostics import DIAGNOSTICS, Diagnostic
from palette_bench.scoring.metrics.frechet import frechet
from palette_bench.scoring.metrics.outcome import Metric
from palette_bench.scoring.metrics.perceptual import perceptual_distance

_SQUARED = "squared feature units"

FEATURE_METRICS: dict[str, Metric] = {
    row.id: row
    for row in (
        Metric("fid", "Fréchet Inception distance", "lower", _SQUARED, "features", True, frechet),
        Metric(
            "frechet_distance",
            "FID's arithmetic on another network",
            "lower",
            _SQUARED,
            "features",
            True,
            frechet,
        ),
        Metric("inception_score", "Inception Score", "higher", "classes", "logits", False, inception_score),
        Metric(
            "classifier_score",
            "Inception Score's arithmetic on another network",
            "higher",
            "classes",
            "logits",
            False,
            inception_score,
        ),
        Metric(
            "classification_accuracy",
            "outputs recognised as their class",
            "higher",
            "%",
            "logits",
            False,
            accuracy,
        ),
        Metric(
            "classification_agreement", "same class as the original", "higher", "%", "logits", True, agreement
        ),
        Metric(
            "perceptual_distance",
            "squared feature distance to the original",
            "lower",
            _SQUARED,
            "features",
            True,
            perceptual_distance,
        ),
    )
}

# everything a scorecard may hold
METRICS: dict[str, Metric | Diagnostic] = {**FEATURE_METRICS, **DIAGNOSTICS}
