"""Do the intervals hold what they promise? Seeded simulations; each prints a row per case.

The reference is fixed and images are drawn anew each time, as section 5 of the metrics says. The truth is the
mean of the estimates: FID has a bias at any N, which its interval does not claim to cover.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from palette_bench.core.intervals import Interval, wilson
from palette_bench.core.significance import mcnemar, paired_t, z_of_influence, z_of_log_mean
from palette_bench.scoring.metrics.classifier import inception_score
from palette_bench.scoring.metrics.frechet import frechet
from palette_bench.scoring.metrics.kid import kernel
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome, ReferenceSet

pytestmark = pytest.mark.slow

Z = 1.959963984540054
Table = NDArray[np.float32]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Held:
    """What a simulation found: mean standard error, Monte-Carlo sd, share of intervals with the truth."""

    se: float
    sd: float
    coverage: float
    runs: int

    def line(self, name: str) -> str:
        ratio = self.se / self.sd
        return (
            f"{name:<34} {self.runs:>5} {self.se:>9.5f} {self.sd:>9.5f} {ratio:>6.3f} {self.coverage:>7.1%}"
        )


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Print a line although pytest captures output, under a heading."""

    def line(text: str) -> None:
        with capsys.disabled():
            print(text)

    heading = ("runs", "mean SE", "MC sd", "ratio", "covered")
    line("\n{:<34} {:>5} {:>9} {:>9} {:>6} {:>7}".format("", *heading))
    return line


def judged(values: list[float], spreads: list[float], reach: float = Z) -> Held:
    found, se = np.array(values), np.array(spreads)
    covered = np.abs(found - found.mean()) <= reach * se
    return Held(float(se.mean()), float(found.std(ddof=1)), float(covered.mean()), len(found))


def of_outcomes(outcomes: list[MetricOutcome]) -> Held:
    values, intervals = [o.value for o in outcomes], [o.interval for o in outcomes]
    known = [(v, i.se) for v, i in zip(values, intervals, strict=True) if v is not None and i is not None]
    assert len(known) == len(outcomes)
    return judged([v for v, _ in known], [se for _, se in known])


def holds(found: Held, *, error: float = 0.10) -> None:
    assert found.se == pytest.approx(found.sd, rel=error)
    assert 0.92 <= found.coverage <= 0.985


@dataclass(frozen=True)
class World:
    """Gaussian features of two systems that see the same images, and a fixed reference."""

    mixing: NDArray[np.float64]
    reference: ReferenceSet

    @classmethod
    def of(cls, d: int, reference_n: int) -> World:
        draw = np.random.default_rng(d)
        mixing = draw.normal(size=(d, d)) / np.sqrt(d)
        others = (draw.normal(size=(reference_n, d)) @ mixing).astype(np.float32)
        return cls(mixing, ReferenceSet.of("originals", others))

    def systems(self, draw: np.random.Generator, n: int) -> tuple[FeatureTables, FeatureTables]:
        """Return two systems: one shrinks the images' features, one adds noise to them."""
        d = len(self.mixing)
        images = draw.normal(size=(n, d)) @ self.mixing
        first, second = 0.85 * images + 0.1, images + 0.3 * draw.normal(size=(n, d))
        return self._tables(first), self._tables(second)

    def _tables(self, features: NDArray[np.float64]) -> FeatureTables:
        table: Table = features.astype(np.float32)
        return FeatureTables(table, table, self.reference)


@pytest.mark.parametrize(("d", "n", "runs"), [(32, 2000, 400), (128, 2000, 300), (256, 3000, 200)])
def test_fid(d: int, n: int, runs: int, say: Say) -> None:
    world, draw = World.of(d, 20_000), np.random.default_rng(1)
    pairs = [tuple(frechet(t) for t in world.systems(draw, n)) for _ in range(runs)]
    single = of_outcomes([first for first, _ in pairs])
    differences = [
        z_of_influence(
            a.value or 0.0,
            b.value or 0.0,
            *(o.columns[name] for name in ("fid_influence", "fid_influence_halves") for o in (a, b)),
        )
        for a, b in pairs
    ]
    known = [found for found in differences if found is not None]
    paired = judged([found.delta for found in known], [found.se for found in known])
    say(single.line(f"fid, d {d}, N {n}"))
    say(paired.line(f"fid, two systems, d {d}, N {n}"))
    holds(single)
    holds(paired)


@pytest.mark.parametrize(("d", "n", "runs"), [(16, 500, 400), (64, 500, 400)])
def test_kid(d: int, n: int, runs: int, say: Say) -> None:
    world, draw = World.of(d, 1000), np.random.default_rng(2)
    found = of_outcomes([kernel(world.systems(draw, n)[0]) for _ in range(runs)])
    say(found.line(f"kid, d {d}, N {n}"))
    holds(found)


@pytest.mark.parametrize(("classes", "n", "runs"), [(10, 500, 600), (100, 2000, 300)])
def test_inception_score_on_the_log_scale(classes: int, n: int, runs: int, say: Say) -> None:
    draw, logs, spreads, deltas = np.random.default_rng(3), [], [], []
    for _ in range(runs):
        images = 2 * draw.normal(size=(n, classes))
        noisy = images + draw.normal(size=(n, classes))
        columns = []
        for logits in (images, noisy):
            table = logits.astype(np.float32)
            columns.append(inception_score(FeatureTables(table, table)).columns["is_kl"])
        logs.append(float(columns[0].mean()))
        spreads.append(float(columns[0].std(ddof=1)) / np.sqrt(n))
        deltas.append(z_of_log_mean(columns[0], columns[1]))
    single = judged(logs, spreads)
    paired = judged([d.delta for d in deltas if d], [d.se for d in deltas if d])
    say(single.line(f"log IS, K {classes}, N {n}"))
    say(paired.line(f"log IS, two systems, K {classes}, N {n}"))
    holds(single)
    holds(paired)


@pytest.mark.parametrize("n", [12, 256])
def test_perceptual_distance_and_its_difference(n: int, say: Say) -> None:
    """Squared distances are skew: chi-squared with 20 degrees of freedom, two systems with shared images."""
    draw, runs, reach = np.random.default_rng(4), 2000, float(stats.t.ppf(0.975, n - 1))
    values, spreads, deltas = [], [], []
    for _ in range(runs):
        images = draw.normal(size=(n, 20))
        one = (images**2).sum(axis=1)
        two = ((images + 0.5 * draw.normal(size=(n, 20))) ** 2).sum(axis=1)
        values.append(float(one.mean()))
        spreads.append(float(one.std(ddof=1)) / np.sqrt(n))
        deltas.append(paired_t(one, two))
    single = judged(values, spreads, reach)
    paired = judged([d.delta for d in deltas if d], [d.se for d in deltas if d], reach)
    say(single.line(f"perceptual distance, N {n}"))
    say(paired.line(f"perceptual distance, two systems, N {n}"))
    holds(single)
    holds(paired)


@pytest.mark.parametrize("n", [12, 256, 10_000])
def test_accuracy(n: int, say: Say) -> None:
    """Exact: the binomial weight of the counts whose interval holds the truth, mean over 0.1..0.9."""
    intervals: list[Interval] = [wilson(k, n) for k in range(n + 1)]
    low, high = (np.array([getattr(i, side) for i in intervals]) for side in ("low", "high"))
    truths = np.linspace(0.1, 0.9, 81)
    held = [stats.binom.pmf(np.arange(n + 1), n, p)[(low <= p) & (p <= high)].sum() for p in truths]
    say(f"accuracy, N {n:,}, {len(truths)} shares, exact: {np.mean(held):.1%} covered, worst {min(held):.1%}")
    assert 0.94 <= np.mean(held) <= 0.96


def test_two_equal_systems_are_told_apart_in_at_most_a_twentieth(say: Say) -> None:
    """McNemar's exact test is cautious; the others reject near 5 %."""
    draw, runs, n = np.random.default_rng(5), 2000, 400
    rejected = {"mcnemar-exact": 0, "paired-t": 0, "z-log-influence": 0}
    for _ in range(runs):
        hard = draw.normal(size=n)
        hits = [(hard + draw.normal(size=n) > 0).astype(np.int64) for _ in range(2)]
        values = [hard + draw.normal(size=n) for _ in range(2)]
        for found in (mcnemar(*hits), paired_t(*values), z_of_log_mean(*values)):
            assert found is not None
            rejected[found.test] += found.p < 0.05
    for test, count in rejected.items():
        say(f"{test:<34} {runs:>5} rejects equal systems in {count / runs:.1%}")
        assert count / runs <= 0.065
    assert rejected["paired-t"] / runs >= 0.035
