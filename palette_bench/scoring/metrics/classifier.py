"""What a classifier makes of the outputs: Inception Score, accuracy, agreement with the originals."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from palette_bench.core.errors import InputError
from palette_bench.core.intervals import Interval, log_mean, wilson
from palette_bench.core.types import Features
from palette_bench.scoring.metrics.outcome import Outcome, Tables, require_finite


def divergences(logits: Features) -> NDArray[np.float64]:
    """Return KL(p_i, mean p) of each picture, nats, over one split of all pictures.

    Args:
        logits: (N, K) float32.

    Returns:
        (N,) float64, >= 0 but for rounding; the exponential of their mean is the Inception Score.

    Raises:
        InputError: a value is not finite.

    Source: Salimans et al. 2016, section 4; softmax in float64.
    """
    log_p = special.log_softmax(require_finite(logits, "logits"), axis=1)
    log_mean_p = special.logsumexp(log_p, axis=0) - math.log(len(log_p))
    return np.asarray((np.exp(log_p) * (log_p - log_mean_p)).sum(axis=1))


def inception_score(tables: Tables) -> Outcome:
    """Return exp of the mean divergence, one split: 1 (all alike) to K (each class, each time sure)."""
    values = divergences(tables.outputs)
    interval = log_mean(values)
    return Outcome(
        float(np.exp(values.mean())),
        interval,
        params={"splits": 1},
        notes=() if interval else ("n<2",),
        columns={"is_kl": values},
    )


def accuracy(tables: Tables) -> Outcome:
    """Return the share of outputs whose first class is their label, percent, and `p_label`.

    Raises:
        InputError: no labels, labels outside the classes, or a logit that is not finite.
    """
    if tables.labels is None:
        raise InputError("classification_accuracy needs a label for every picture")
    logits, labels = require_finite(tables.outputs, "logits"), tables.labels
    if labels.min() < 0 or labels.max() >= logits.shape[1]:
        span = f"{labels.min()}..{labels.max()}"
        raise InputError(f"labels lie in {span}, the classifier's classes in 0..{logits.shape[1] - 1}")
    p_label = special.softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return _share(logits.argmax(axis=1) == labels, {"p_label": p_label})


def agreement(tables: Tables) -> Outcome:
    """Return the share of outputs with the first class of their original, percent.

    Raises:
        InputError: a logit is not finite.
    """
    outputs, references = (require_finite(t, "logits") for t in (tables.outputs, tables.references))
    return _share(outputs.argmax(axis=1) == references.argmax(axis=1), {})


def _share(hits: NDArray[np.bool_], columns: dict[str, NDArray[np.float64]]) -> Outcome:
    share = wilson(int(hits.sum()), len(hits))
    interval = Interval(100 * share.low, 100 * share.high, 100 * share.se, share.method)
    return Outcome(100 * float(hits.mean()), interval, columns={"top1": hits.astype(np.int64), **columns})
