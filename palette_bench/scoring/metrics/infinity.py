"""FID-infinity: the Fréchet distance of infinitely many images, by a line in 1/N.

A Fréchet distance of N images lies about c/N above that of infinitely many. The outputs are dealt into equal
parts by a keyed shuffle: one of all images, two of a half, three of a third. The mean distance of the parts
of each size is a point over 1/N, and the line through the points is read at 0. As every image counts once at
every size, the line adds no noise of its own to the first order, unlike subsets drawn apart.
Source: Chong and Forsyth 2020, section 3; sizes and equal parts are ours, recorded as `sizes`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.rng import Stream
from palette_bench.scoring.metrics.frechet import FeaturesOrMoments, frechet_distance
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome, check_finite
from palette_bench.scoring.metrics.moments import Influence, Moments, whole_influence

PARTS = (1, 2, 3)
# Images per feature of the smallest part against a fixed reference. With fewer, the bias is no line in 1/N
# and the interval misses the limit more often than it says (benchmarks/cloud_coverage.py).
IMAGES_PER_FEATURE = 5
KEY = "palette-bench/frechet-infinity-v1"


def keyed_order(n: int) -> NDArray[np.int64]:
    """Return a shuffle of 0..n-1 that depends on n alone (Fisher and Yates, keyed draws)."""
    stream, order = Stream(f"{KEY}|{n}"), np.arange(n)
    for i in range(n - 1, 0, -1):
        j = stream.below(i + 1)
        order[[i, j]] = order[[j, i]]
    return order


def intercept_weights(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return w with sum w_s F_s = the value at 1/N = 0 of the least-squares line through (1/N_s, F_s)."""
    x = 1 / sizes
    gap = x - x.mean()
    return np.asarray(1 / len(x) - x.mean() * gap / (gap @ gap))


def frechet_infinity(tables: FeatureTables) -> MetricOutcome:
    """Return the limit of the Fréchet distance for infinitely many outputs, with its interval.

    Against the set's own originals both sides grow together; any other reference stays as it is, whole. The
    influence of an image is the weighted sum of its influences within its parts. The interval is for the
    limit itself. It counts the joint effect of pairs twice, so near zero it is up to 1.4 times too wide.

    Returns:
        The limit, which noise may push below 0; None under 6 images. No interval if a covariance is
            not definite or, against a fixed reference, the smallest part has under 5 images per feature.

    Raises:
        InputError: a value is not finite.
    """
    reference, outputs = tables.reference, tables.outputs
    assert reference is not None, "a referenced metric is given its reference"
    check_finite(outputs, "outputs")
    n, d = outputs.shape
    sizes = [n // parts for parts in PARTS]
    params = {"reference": reference.id, "reference_n": reference.n, "sizes": sizes}
    if sizes[-1] < 2 or reference.n < 2:
        return MetricOutcome(None, params=params, notes=("too-few-images",))
    order, originals = keyed_order(n), reference.features if reference.paired else None
    enough = sizes[-1] > d if reference.paired else sizes[-1] >= IMAGES_PER_FEATURE * d
    values, influence = np.zeros(len(PARTS)), np.zeros(n) if enough else None
    weights = intercept_weights(n / np.array(PARTS))
    for at, parts in enumerate(PARTS):
        for part in np.array_split(order, parts):
            rows = np.sort(part)
            one = Moments.of(outputs[rows])
            own = None if originals is None else originals[rows]
            two = reference.moments if own is None else Moments.of(own)
            value = _distance(outputs[rows], one, two if own is None else own, two)
            if value is None:
                return MetricOutcome(None, params=params, notes=("numerical-failure",))
            values[at] += value * len(rows) / n
            found = None if influence is None else whole_influence(outputs[rows], one, own, two)
            if influence is None or found is None:
                influence = None
                continue
            influence[rows] += weights[at] * found
    limit = float(weights @ values)
    if influence is None:
        return MetricOutcome(limit, params=params, notes=("few-images-per-feature",))
    spread = Influence(influence, None)
    interval = spread.interval(limit, "influence-infinity-v1")
    return MetricOutcome(limit, interval, params=params, notes=spread.notes)


def _distance(
    rows: NDArray[np.float32], one: Moments, reference: FeaturesOrMoments, two: Moments
) -> float | None:
    """Return the distance of one part, from whichever of rows and moments is the smaller factor."""
    if one.n > len(one.mean) and two.n > len(two.mean):
        return frechet_distance(one, two).value
    return frechet_distance(rows, reference).value
