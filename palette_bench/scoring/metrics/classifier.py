"""Metrics from a classifier's logits: Inception Score, accuracy, and agreement with the originals."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from palette_bench.core.errors import InputError, UsageError
from palette_bench.core.intervals import Interval, log_mean, mean_t, wilson
from palette_bench.core.types import Features
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome, check_finite, require_finite

SPLITS, SEED = 10, 2020  # for `inception_score_10`; torch-fidelity's defaults


def divergences(logits: Features) -> NDArray[np.float64]:
    """Return KL(p_i, mean p) of each image in nats, with the mean over all images (one split).

    Args:
        logits: (N, K) float32.

    Returns:
        (N,) float64, >= 0 up to rounding. The exponential of their mean is the Inception Score.

    Raises:
        InputError: a value is not finite.

    Source: Salimans et al. 2016, section 4; softmax in float64.
    """
    log_p = special.log_softmax(require_finite(logits, "logits"), axis=1)
    log_mean_p = special.logsumexp(log_p, axis=0) - math.log(len(log_p))
    return np.asarray((np.exp(log_p) * (log_p - log_mean_p)).sum(axis=1))


def inception_score(tables: FeatureTables) -> MetricOutcome:
    """Return exp of the mean divergence over one split, between 1 and K.

    The score is 1 if all predictions are equal, and K if every prediction is certain and all classes are
    equally frequent.
    """
    values = divergences(tables.outputs)
    params = {"splits": 1}
    if _low_coverage(tables, np.arange(len(values))):
        return MetricOutcome(None, params=params, notes=("low-coverage",), columns={"is_kl": values})
    interval = log_mean(values)
    return MetricOutcome(
        float(np.exp(values.mean())),
        interval,
        params=params,
        notes=() if interval else ("n<2",),
        columns={"is_kl": values},
    )


def split_scores(logits: Features, splits: list[NDArray[np.int64]]) -> NDArray[np.float64]:
    """Return the score of each split of (N, K) logits; a split is an array of row indices."""
    return np.array([np.exp(divergences(logits[rows]).mean()) for rows in splits])


def shuffled_splits(n: int, splits: int = SPLITS, seed: int = SEED) -> list[NDArray[np.int64]]:
    """Return the row indices of each split after shuffling n rows.

    Raises:
        UsageError: more splits than rows.

    Source: torch-fidelity 0.4, metric_isc.py; the same seed gives the same splits.
    """
    if splits > n:
        raise UsageError(f"{splits:,} splits of {n:,} images: choose at most as many splits as images")
    order = np.random.RandomState(seed).permutation(n)
    return [order[i * n // splits : (i + 1) * n // splits] for i in range(splits)]


def inception_score_10(tables: FeatureTables) -> MetricOutcome:
    """Return the mean score of ten shuffled splits; `params.sd` is the number that papers print after +-.

    A tenth of the images has fewer classes than all images, so the value lies below the score of one split.
    It never ranks.

    Raises:
        InputError: a value is not finite.
        UsageError: fewer than ten images.
    """
    check_finite(tables.outputs, "logits")
    splits = shuffled_splits(len(tables.outputs))
    params: dict[str, Any] = {"splits": SPLITS, "seed": SEED}
    if any(_low_coverage(tables, rows) for rows in splits):
        return MetricOutcome(None, params=params, notes=("low-coverage",))
    scores = split_scores(tables.outputs, splits)
    params["sd"] = float(scores.std())  # divisor 10, as in other programs
    return MetricOutcome(float(scores.mean()), mean_t(scores), params=params)


def _low_coverage(tables: FeatureTables, rows: NDArray[np.int64]) -> bool:
    """Return whether rows show under half the classes expected of as many images drawn at random.

    Splits in list order alone have turned a score of 298 into 62 (openai/guided-diffusion, issue 165).
    """
    if tables.labels is None:
        return False
    found = len(np.unique(tables.labels[rows]))
    return found < _expected_classes(tables.labels, tables.classes, len(rows)) / 2


def _expected_classes(labels: NDArray[np.int64], classes: int | None, size: int) -> float:
    """Return the expected number of classes among `size` randomly chosen images.

    A class with c of the n labels is missed with probability C(n - c, size) / C(n, size). If the labels are
    part of a set with more classes, all classes of that set count as equally frequent.
    """
    counts = np.unique(labels, return_counts=True)[1]
    if classes is not None and classes > len(counts):
        return float(classes * (1 - (1 - 1 / classes) ** size))
    n = len(labels)
    others = n - counts[n - counts >= size]  # n - c, for classes that can be missed at all
    # in logarithms, because binomial coefficients of thousands of images overflow
    log_missed = _log_choose(others, size) - _log_choose(np.array([n]), size)
    return float(len(counts) - np.exp(log_missed).sum())


def _log_choose(n: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return np.asarray(special.gammaln(n + 1) - special.gammaln(k + 1) - special.gammaln(n - k + 1))


def accuracy(tables: FeatureTables) -> MetricOutcome:
    """Return the percentage of outputs whose top class is their label, with the column `p_label`.

    Raises:
        InputError: no labels, labels outside the classes, or a logit that is not finite.
    """
    if tables.labels is None:
        raise InputError("classification_accuracy needs a label for every image")
    logits, labels = require_finite(tables.outputs, "logits"), tables.labels
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        span = f"{labels.min()}..{labels.max()}"
        raise InputError(f"labels lie in {span}, the classifier's classes in 0..{logits.shape[1] - 1}")
    p_label = special.softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return _share(logits.argmax(axis=1) == labels, {"p_label": p_label})


def agreement(tables: FeatureTables) -> MetricOutcome:
    """Return the percentage of outputs with the same top class as their original.

    Raises:
        InputError: a logit is not finite.
    """
    outputs, originals = (require_finite(t, "logits") for t in (tables.outputs, tables.originals))
    return _share(outputs.argmax(axis=1) == originals.argmax(axis=1), {})


def _share(hits: NDArray[np.bool_], columns: dict[str, NDArray[np.float64]]) -> MetricOutcome:
    share = wilson(int(hits.sum()), len(hits))
    interval = Interval(100 * share.low, 100 * share.high, 100 * share.se, share.method)
    return MetricOutcome(
        100 * float(hits.mean()), interval, columns={"top1": hits.astype(np.int64), **columns}
    )
