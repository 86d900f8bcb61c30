"""The metrics: features to numbers, intervals and per-image columns. NumPy and SciPy only.

`FEATURE_METRICS` maps ids to rows; a row holds all that scoring, boards and pages know of a metric. `fid`,
`kid` and `inception_score` are reserved for the FID network, `fd_dinov2` and `cmmd` for the network of their
papers; all but the score also require a reference other than the set's own originals. In all other cases the
same arithmetic has another name, so that no page prints FID for a number that is not FID.
"""

from __future__ import annotations

from functools import partial

from palette_bench.scoring.metrics.classifier import accuracy, agreement, inception_score, inception_score_10
from palette_bench.scoring.metrics.cmmd import gaussian_mmd
from palette_bench.scoring.metrics.diagnostics import DIAGNOSTICS
from palette_bench.scoring.metrics.diversity import DIVERSITIES
from palette_bench.scoring.metrics.frechet import frechet
from palette_bench.scoring.metrics.infinity import frechet_infinity
from palette_bench.scoring.metrics.kid import kernel
from palette_bench.scoring.metrics.metric import Metric, MetricRow, RankingRow
from palette_bench.scoring.metrics.paired import PAIRED_METRICS
from palette_bench.scoring.metrics.perceptual import perceptual_distance
from palette_bench.scoring.metrics.prdc import coverage, density, precision, recall

_DINOV2, _CLIP = "dinov2-vitl14", "clip-vitl14-336"  # networks of Stein et al. 2023, Jayasumana et al. 2024

_frechet = partial(
    Metric, direction="lower", unit="squared feature units", head="features", score=frechet, referenced=True,
    test="z-influence", column="fid_influence",
)  # fmt: skip
_kernel = partial(
    Metric, direction="lower", unit="squared kernel units", head="features", score=kernel, referenced=True,
    all_pairs=True, kernel="cubic", test="z-influence", column="kid_influence",
)  # fmt: skip
_frechet_dinov2 = partial(
    _frechet, score=partial(frechet, column="fd_dinov2_influence"), column="fd_dinov2_influence",
    extractor=_DINOV2,
)  # fmt: skip
_gaussian = partial(
    Metric, direction="lower", unit="1,000 squared kernel units", head="features", score=gaussian_mmd,
    referenced=True, all_pairs=True, kernel="gaussian", test="z-influence", column="cmmd_influence",
)  # fmt: skip
_infinity = partial(
    Metric, direction="lower", unit="squared feature units", head="features", score=frechet_infinity,
    referenced=True,
)  # fmt: skip
_manifold = partial(Metric, direction="higher", head="features", referenced=True, all_pairs=True)
_inception = partial(Metric, direction="higher", unit="classes", head="logits")
_classes = partial(Metric, direction="higher", unit="%", head="logits", classifies=True)
_perceptual = partial(Metric, direction="lower", unit="squared feature units", head="features", paired=True)

FEATURE_METRICS: dict[str, Metric] = {
    row.id: row
    for row in (
        _frechet(
            "fid", "FID", "distance between the feature clouds of outputs and reference",
            "Fréchet Inception distance", general="frechet_distance", originals="fid_originals",
            role="Fréchet distance", tolerance=(0.3, 0.1),
        ),
        _frechet(
            "fid_originals", "FID against own originals",
            "distance between the feature clouds of outputs and their originals",
            "FID's arithmetic against the set's own originals",
        ),
        _frechet(
            "frechet_distance", "Fréchet distance", "FID's arithmetic on other features than FID's",
            "FID's arithmetic on another network",
        ),
        _kernel(
            "kid", "KID", "kernel distance between outputs and reference",
            "kernel Inception distance, all pairs", general="kernel_distance", originals="kid_originals",
            role="kernel distance",
        ),
        _kernel(
            "kid_originals", "KID against own originals", "kernel distance of outputs and their originals",
            "KID's arithmetic against the set's own originals",
        ),
        _kernel(
            "kernel_distance", "Kernel distance", "KID's arithmetic on other features than KID's",
            "KID's arithmetic on another network",
        ),
        _frechet_dinov2(
            "fd_dinov2", "FD-DINOv2", "distance between the DINOv2 clouds of outputs and reference",
            "Fréchet distance on DINOv2 ViT-L/14", general="frechet_distance",
            originals="fd_dinov2_originals", role="Fréchet distance on DINOv2",
        ),
        _frechet_dinov2(
            "fd_dinov2_originals", "FD-DINOv2 against own originals",
            "distance between the DINOv2 clouds of outputs and their originals",
            "FD-DINOv2's arithmetic against the set's own originals",
        ),
        _infinity(
            "fid_infinity", "FID-infinity", "FID of infinitely many images, by a line in 1/N",
            "FID's limit for infinitely many images", general="frechet_infinity",
            originals="fid_infinity_originals",
        ),
        _infinity(
            "fid_infinity_originals", "FID-infinity against own originals",
            "FID against own originals of infinitely many images, by a line in 1/N",
            "FID-infinity's arithmetic against the set's own originals",
        ),
        _infinity(
            "fd_dinov2_infinity", "FD-DINOv2-infinity",
            "FD-DINOv2 of infinitely many images, by a line in 1/N",
            "FD-DINOv2's limit for infinitely many images", general="frechet_infinity",
            originals="fd_dinov2_infinity_originals", extractor=_DINOV2,
        ),
        _infinity(
            "fd_dinov2_infinity_originals", "FD-DINOv2-infinity against own originals",
            "FD-DINOv2 against own originals of infinitely many images, by a line in 1/N",
            "FD-DINOv2-infinity's arithmetic against the set's own originals", extractor=_DINOV2,
        ),
        _infinity(
            "frechet_infinity", "Fréchet distance, infinity",
            "the Fréchet distance of infinitely many images, by a line in 1/N",
            "FID-infinity's arithmetic on another network",
        ),
        _gaussian(
            "cmmd", "CMMD", "Gaussian kernel distance between the CLIP clouds of outputs and reference",
            "CLIP maximum mean discrepancy", general="gaussian_distance", originals="cmmd_originals",
            role="Gaussian kernel distance", extractor=_CLIP,
        ),
        _gaussian(
            "cmmd_originals", "CMMD against own originals",
            "Gaussian kernel distance of the CLIP clouds of outputs and their originals",
            "CMMD's arithmetic against the set's own originals", extractor=_CLIP,
        ),
        _gaussian(
            "gaussian_distance", "Gaussian kernel distance", "CMMD's arithmetic on other features",
            "CMMD's arithmetic on another network",
        ),
        _manifold(
            "precision", "Precision", "share of outputs among the reference, by nearest neighbours",
            "outputs within balls of the reference", unit="share", score=precision,
        ),
        _manifold(
            "recall", "Recall", "share of the reference among the outputs, by nearest neighbours",
            "reference within balls of the outputs", unit="share", score=recall,
        ),
        _manifold(
            "density", "Density", "how many reference neighbourhoods hold an output, over k",
            "balls of the reference about an output", unit="balls over k", score=density,
        ),
        _manifold(
            "coverage", "Coverage", "share of reference neighbourhoods that hold an output",
            "balls of the reference with an output", unit="share", score=coverage,
        ),
        _inception(
            "inception_score", "Inception Score", "sure of each image, varied over all",
            "Inception Score, one split", score=inception_score, general="classifier_score",
            role="classifier score", test="z-log-mean", column="is_kl", tolerance=(5.0, 0.0),
        ),
        _inception(
            "classifier_score", "Classifier score", "Inception Score's arithmetic on another classifier",
            "Inception Score's arithmetic on another network", score=inception_score, test="z-log-mean",
            column="is_kl",
        ),
        _inception(
            "inception_score_10", "Inception Score, 10 splits", "the mean over ten shuffled splits",
            "Inception Score, ten splits", score=inception_score_10, general="classifier_score_10",
        ),
        _inception(
            "classifier_score_10", "Classifier score, 10 splits", "the mean over ten shuffled splits",
            "ten splits on another network", score=inception_score_10,
        ),
        _classes(
            "classification_accuracy", "Classification accuracy", "outputs recognised as their class",
            "outputs recognised as their class", score=accuracy, general="classification_agreement",
            role="classification", test="mcnemar", column="top1", tolerance=(1.0, 0.0),
        ),
        _classes(
            "classification_agreement", "Classification agreement", "same class as the original",
            "same class as the original", score=agreement, paired=True, test="mcnemar", column="top1",
        ),
        _perceptual(
            "perceptual_distance", "Perceptual distance", "squared feature distance to the original",
            "squared feature distance to the original", score=perceptual_distance, role="perceptual distance",
            test="paired-t", column="perceptual_distance",
        ),
        _perceptual(
            "perceptual_distance_googlenet", "Perceptual distance, GoogLeNet",
            "squared feature distance to the original, other network", "the same on torchvision's GoogLeNet",
            score=partial(perceptual_distance, name="perceptual_distance_googlenet"),
            extractor="googlenet-v1",
        ),
    )
}  # fmt: skip

# all metrics that a protocol may rank by, and all that scoring computes, by id
RANKING_METRICS: dict[str, RankingRow] = {**FEATURE_METRICS, **PAIRED_METRICS}
METRICS: dict[str, MetricRow] = {**RANKING_METRICS, **DIVERSITIES, **DIAGNOSTICS}

# reserved name -> name against the set's own originals, and general or originals name -> reserved name
ORIGINALS_FORM = {row.id: row.originals for row in FEATURE_METRICS.values() if row.originals}
# (of reserved names with one general form, the first)
RESERVED_FORM = {
    form: row.id
    for row in reversed(FEATURE_METRICS.values())
    for form in (row.general, row.originals)
    if form
}


def forms_of(metric: str) -> tuple[str, ...]:
    """Return the names that a metric may have on a scorecard, its own name first."""
    row = FEATURE_METRICS.get(metric)
    return (metric, *filter(None, (row.originals, row.general))) if row else (metric,)
