"""Do the intervals of CMMD, FID-infinity, precision, recall, density and coverage hold what they promise?

    python benchmarks/cloud_coverage.py                    # all tables
    python benchmarks/cloud_coverage.py --scale 0.1        # a tenth of the repetitions
    python benchmarks/cloud_coverage.py --images 10000 --features 16

Seeded simulations. Paired: x = s y + 0.3 noise + shift of the original's features y. Fixed: x is made of
other images, and y is a fixed reference. Each row prints the mean value, the share of repetitions with an
interval, and of those the mean standard error over the Monte-Carlo standard deviation and how many intervals
hold the truth: of FID-infinity the limit, in closed form; of the others the mean value.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

from palette_bench import frechet_distance
from palette_bench.scoring.metrics import FEATURE_METRICS
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome, ReferenceSet
from palette_bench.scoring.metrics.moments import Moments

Rows = NDArray[np.float32]

METRICS = ("gaussian_distance", "frechet_infinity", "precision", "recall", "density", "coverage")
REPEATS = {256: 400, 1000: 200, 10_000: 30}
# name of the law -> (n, d) draws of mean 0 and variance 1
LAWS: dict[str, Callable[[np.random.Generator, int, int], NDArray[np.float64]]] = {
    "Gaussian": lambda draw, n, d: draw.normal(size=(n, d)),
    "skewed": lambda draw, n, d: draw.exponential(size=(n, d)) - 1,
}
SYSTEMS = ((0.95, 0.0), (0.85, 0.0), (0.95, 0.3), (0.5, 0.0))  # s and shift
NOISE = 0.3


def main() -> None:
    """Print a row per law, number of images and features, system and metric."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the repetitions")
    parser.add_argument("--images", type=int, nargs="+", default=[256, 1000], help="of REPEATS")
    parser.add_argument("--features", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--law", choices=tuple(LAWS), nargs="+", default=list(LAWS))
    parser.add_argument("--metrics", choices=METRICS, nargs="+", default=list(METRICS))
    options = parser.parse_args()
    print(f"{'':46}{'metric':18} {'mean':>9} {'given':>6} {'SE/sd':>6} {'held':>7} runs")
    for law, n, d, paired in product(options.law, options.images, options.features, (True, False)):
        for s, shift in SYSTEMS:
            runs = max(10, round(options.scale * REPEATS[n]))
            words = f"{law:8} N {n:5} D {d:2} {'paired' if paired else 'fixed':6} s {s:4} shift {shift}"
            for name, text in rows(options.metrics, law, n, d, paired, s, shift, runs):
                print(f"{words:46}{name:18} {text} {runs:4}", flush=True)


def rows(
    metrics: list[str], law: str, n: int, d: int, paired: bool, s: float, shift: float, runs: int
) -> list[tuple[str, str]]:
    """Return the printed numbers of each metric, over repetitions that draw all images anew."""
    draw, make = np.random.default_rng([n, d, paired, round(100 * s)]), LAWS[law]
    fixed = ReferenceSet.of("other", make(draw, n, d).astype(np.float32))
    found: dict[str, list[MetricOutcome]] = {name: [] for name in metrics}
    for _ in range(runs):
        base = make(draw, n, d)
        outputs = (s * base + NOISE * draw.normal(size=(n, d)) + shift).astype(np.float32)
        own = ReferenceSet.of("originals", base.astype(np.float32), paired=True) if paired else fixed
        tables = FeatureTables(outputs, outputs, own)
        for name in metrics:
            found[name].append(FEATURE_METRICS[name].score(tables))
    population = Moments(10**9, np.full(d, shift), (s**2 + NOISE**2) * np.eye(d))
    originals = Moments(10**9, np.zeros(d), np.eye(d)) if paired else fixed.moments
    limit = frechet_distance(population, originals).value
    return [(name, text(all_, limit if name == "frechet_infinity" else None)) for name, all_ in found.items()]


def text(outcomes: list[MetricOutcome], truth: float | None) -> str:
    """Return mean value, share with an interval, SE over sd, and how many intervals hold the truth."""
    values = np.array([found.value for found in outcomes], float)
    target = values.mean() if truth is None else truth
    given = [found.interval for found in outcomes if found.interval]
    line = f"{values.mean():9.4f} {len(given) / len(outcomes):6.0%}"
    if not given:
        return f"{line} {'':6} {'':7}"
    spread = values.std(ddof=1)
    ratio = np.mean([interval.se for interval in given]) / spread if spread else np.inf
    rounding = 1e-12  # Wilson ends at 1 less the last bit
    held = np.mean([interval.low <= target <= interval.high + rounding for interval in given])
    return f"{line} {ratio:6.2f} {held:7.1%}"


if __name__ == "__main__":
    main()
