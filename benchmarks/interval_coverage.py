"""Do the intervals and tests of Fréchet and kernel distances hold what they promise? Seeded simulations.

    python benchmarks/interval_coverage.py                 # all tables; about three hours of one core
    python benchmarks/interval_coverage.py --scale 0.1     # a tenth of the repetitions

Paired: output features are x = s y + t noise of the original's features y. Unpaired: the same outputs against
a fixed reference of 3,000 other images. Each row prints the Monte-Carlo standard deviation of the value, the
mean standard error over it, and how many 95 % intervals hold the mean value; beside it the same for the rule
before, which took the originals as fixed. A repetition draws all images anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from palette_bench import frechet_distance, kernel_distance
from palette_bench.core.intervals import NORMAL_QUANTILE
from palette_bench.core.significance import Difference, z_of_influence
from palette_bench.scoring.metrics.frechet import FrechetResult
from palette_bench.scoring.metrics.kid import KernelResult
from palette_bench.scoring.metrics.moments import Moments, frechet_influence

Rows = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Rows]
Result = FrechetResult | KernelResult

SHRINKS = (0.2, 0.3, 0.5, 0.7, 0.85, 0.95)
NOISE = 0.3
REPEATS = {256: 1000, 1000: 600, 3000: 240}
LAWS: dict[str, Draw] = {
    "Gaussian": lambda draw, n, d: draw.normal(size=(n, d)),
    "skewed": lambda draw, n, d: draw.exponential(size=(n, d)),  # skewness 2, like pooled activations
}
DISTANCES: dict[str, Callable[[Rows, Rows, bool], Result]] = {
    "Fréchet": lambda outputs, reference, paired: frechet_distance(outputs, reference, paired=paired),
    "kernel": lambda outputs, reference, paired: kernel_distance(outputs, reference, paired=paired),
}


@dataclass
class CoverageTally:
    """Values and standard errors of one way to compute an interval."""

    values: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    def add(self, value: float, se: float) -> None:
        """Note one repetition."""
        self.values.append(value)
        self.errors.append(se)

    def text(self) -> str:
        """Return mean standard error over spread, and the share of intervals that hold the mean value."""
        values, errors = np.array(self.values), np.array(self.errors)
        spread = values.std(ddof=1)
        held = np.abs(values - values.mean()) <= NORMAL_QUANTILE * errors
        return f"{errors.mean() / spread:6.2f} {held.mean():7.1%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the repetitions")
    parser.add_argument("--part", choices=("coverage", "tests"), help="one of the two; both without it")
    parser.add_argument("--distance", choices=tuple(DISTANCES), help="one of the two; both without it")
    options = parser.parse_args()
    names = [options.distance] if options.distance else list(DISTANCES)
    if options.part != "tests":
        coverage(names, options.scale)
    if options.part != "coverage":
        rejections(names, options.scale)


def coverage(names: Sequence[str], scale: float) -> None:
    """Print a row per distance, law, D, N and s."""
    print(f"Coverage of 95 % intervals; x = s y + {NOISE} noise. SE/sd, then covered.\n")
    print(f"{'':34} {'sd':>9} {'paired':>14} {'before':>14} {'unpaired':>14}  runs  notes")
    for name, (law, draw), d, n in product(names, LAWS.items(), (16, 64, 256), REPEATS):
        if name == "Fréchet" and n <= d:
            print(f"{name:8} {law:9} D {d:3} N {n:4}: no interval, fewer images than features")
            continue
        for s in SHRINKS:
            runs = max(20, round(scale * REPEATS[n]))
            print(f"{name:8} {law:9} D {d:3} N {n:4} s {s:4} {_row(name, draw, d, n, s, runs)}", flush=True)


def _row(name: str, law: Draw, d: int, n: int, s: float, runs: int) -> str:
    distance, draw = DISTANCES[name], np.random.default_rng([d, n, round(100 * s)])
    others = law(draw, 3000, d)
    paired, before, unpaired = CoverageTally(), CoverageTally(), CoverageTally()
    notes: set[str] = set()
    for _ in range(runs):
        outputs, originals = _pair(law, draw, d, n, s)
        found, apart = distance(outputs, originals, True), distance(outputs, others, False)
        fixed = _fixed(name, outputs, originals)
        for column, value, se in (
            (paired, found.value, found.se),
            (before, fixed.value, float(fixed.influence.std(ddof=1)) / n**0.5),
            (unpaired, apart.value, apart.se),
        ):
            assert value is not None
            assert se is not None
            column.add(value, se)
        notes |= set(found.influence.notes if found.influence else ())
    sd = np.std(paired.values, ddof=1)
    return f"{sd:9.5f} {paired.text()} {before.text()} {unpaired.text()} {runs:5}  {', '.join(sorted(notes))}"


def _pair(law: Draw, draw: np.random.Generator, d: int, n: int, s: float) -> tuple[Rows, Rows]:
    originals = law(draw, n, d)
    return s * originals + NOISE * draw.normal(size=(n, d)), originals


@dataclass(frozen=True)
class Fixed:
    """A distance and its influence as interval ids `...-v1` had them: to the first order, originals fixed."""

    value: float
    influence: Rows


def _fixed(name: str, outputs: Rows, originals: Rows) -> Fixed:
    found = DISTANCES[name](outputs, originals, False)
    assert found.value is not None
    assert found.influence is not None
    if name == "kernel":
        return Fixed(found.value, found.influence.whole)
    influence = frechet_influence(outputs, Moments.of(outputs), Moments.of(originals))
    assert influence is not None
    return Fixed(found.value, influence)


@dataclass(frozen=True)
class Systems:
    """Two systems on the same images: how each makes its features from the originals."""

    words: str
    first: Callable[[Rows, np.random.Generator], Rows]
    second: Callable[[Rows, np.random.Generator], Rows]


def _shrunk(half: int, by: float) -> Callable[[Rows, np.random.Generator], Rows]:
    """Return a system that shrinks one half of the features and adds a little noise to all."""

    def make(originals: Rows, draw: np.random.Generator) -> Rows:
        scale = np.ones(originals.shape[1])
        scale[half::2] = by
        return originals * scale + 0.1 * draw.normal(size=originals.shape)

    return make


def _noisy(originals: Rows, draw: np.random.Generator) -> Rows:
    return 0.85 * originals + NOISE * draw.normal(size=originals.shape)


def _systems() -> Iterator[Systems]:
    yield Systems("equal: one law, other noise", _noisy, _noisy)
    for s in (0.3, 0.5, 0.7, 0.85, 0.95):
        yield Systems(f"equal: each shrinks another half to {s}", _shrunk(0, s), _shrunk(1, s))
    for gap in (0.002, 0.005, 0.01, 0.02, 0.04, 0.08):
        words = f"other halves, to 0.85 and {0.85 - gap:.3f}"
        yield Systems(words, _shrunk(0, 0.85), _shrunk(1, 0.85 - gap))


def rejections(names: Sequence[str], scale: float) -> None:
    """Print how often the paired test tells two systems apart at 5 %, now and before."""
    print("\nTwo systems on the same images, D 32: share of paired tests with p < 0.05.\n")
    for name, (law, draw), n in product(names, LAWS.items(), (256, 1000)):
        for systems in _systems():
            runs = max(20, round(scale * 2000 / (n / 256)))
            now, before = _rejected(name, draw, n, systems, runs)
            told = f"now {now:6.1%}  before {before:6.1%}  {runs} runs"
            print(f"{name:8} {law:9} N {n:4} {systems.words:38} {told}", flush=True)


def _rejected(name: str, law: Draw, n: int, systems: Systems, runs: int, d: int = 32) -> tuple[float, float]:
    distance, draw = DISTANCES[name], np.random.default_rng([n, d])
    now = before = 0
    for _ in range(runs):
        originals = law(draw, n, d)
        made = [system(originals, draw) for system in (systems.first, systems.second)]
        a, b = (distance(outputs, originals, True) for outputs in made)
        one, other = a.influence, b.influence
        assert one is not None
        assert other is not None
        within = one.halves, other.halves
        now += _tells_apart(z_of_influence(a.value or 0, b.value or 0, one.whole, other.whole, *within))
        old, older = (_fixed(name, outputs, originals) for outputs in made)
        before += _tells_apart(z_of_influence(old.value, older.value, old.influence, older.influence))
    return now / runs, before / runs


def _tells_apart(test: Difference | None) -> bool:
    return test is not None and test.p < 0.05


if __name__ == "__main__":
    main()
