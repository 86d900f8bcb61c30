"""Standard errors against simulation: an output beside its own original is one draw with it.

Features are x = s y + 0.3 noise of the original's features y. The rule before took y as fixed, which makes
the standard error several times too small where s is small and too large where it is near 1. The full tables
are printed by benchmarks/interval_coverage.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from palette_bench import frechet_distance, kernel_distance
from palette_bench.core.significance import z_of_influence
from palette_bench.scoring.metrics.cmmd import gaussian_distance

D, N, RUNS = 16, 256, 400
Rows = NDArray[np.float64]


def outputs_of(originals: Rows, s: float, draw: np.random.Generator) -> Rows:
    return s * originals + 0.3 * draw.normal(size=originals.shape)


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance])
@pytest.mark.parametrize(("s", "before"), [(0.2, 0.5), (0.5, None), (0.85, 1.9), (0.95, 2.5)])
def test_the_standard_error_is_the_spread_of_the_value(
    distance: Callable[..., Any], s: float, before: float | None
) -> None:
    draw, values, errors, fixed = np.random.default_rng(7), [], [], []
    for _ in range(RUNS):
        originals = draw.normal(size=(N, D))
        outputs = outputs_of(originals, s, draw)
        found = distance(outputs, originals, paired=True)
        values.append(found.value)
        errors.append(found.se)
        fixed.append(distance(outputs, originals).influence.whole.std(ddof=1) / N**0.5)
    spread = np.std(values, ddof=1)
    held = np.abs(np.array(values) - np.mean(values)) <= 1.96 * np.array(errors)
    assert np.mean(errors) / spread == pytest.approx(1.0, abs=0.13)
    assert 0.92 <= held.mean() <= 0.98
    if before is not None:
        wrong = np.mean(fixed) / spread
        assert wrong < before if before < 1 else wrong > before


@pytest.mark.parametrize("distance", [frechet_distance, kernel_distance, gaussian_distance])
def test_two_systems_of_equal_distance_are_told_apart_in_a_twentieth(distance: Callable[..., Any]) -> None:
    """Each shrinks another half of the features: equal by symmetry, of another law."""
    draw, rejected, runs = np.random.default_rng(11), 0, 800
    for _ in range(runs):
        originals = draw.normal(size=(N, D))
        made = []
        for half in (0, 1):
            scale = np.ones(D)
            scale[half::2] = 0.85
            outputs = originals * scale + 0.1 * draw.normal(size=(N, D))
            made.append(distance(outputs, originals, paired=True))
        a, b = made
        test = z_of_influence(
            a.value, b.value, a.influence.whole, b.influence.whole, a.influence.halves, b.influence.halves
        )
        assert test is not None
        rejected += test.p < 0.05
    assert 0.03 <= rejected / runs <= 0.07
