"""Feature clouds for tests of arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.scoring.metrics.metric import FeatureTables, ReferenceSet


def drawn(seed: int, n: int, d: int) -> NDArray[np.float64]:
    """Return (n, d) correlated Gaussian features."""
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, d)) @ draw.normal(size=(d, d)) / np.sqrt(d)


def tables(
    outputs: NDArray[Any], originals: NDArray[Any], *, paired: bool = False, **rest: Any
) -> FeatureTables:
    """Return tables whose reference are the originals, pairs of the outputs only if `paired`."""
    outputs, originals = outputs.astype(np.float32), originals.astype(np.float32)
    return FeatureTables(outputs, originals, ReferenceSet.of("originals", originals, paired=paired), **rest)
