"""Distance of each output to its own original in feature space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import InputError
from palette_bench.core.intervals import mean_t
from palette_bench.core.types import Features
from palette_bench.scoring.metrics.metric import FeatureTables, MetricOutcome, require_finite


def squared_distances(outputs: Features, originals: Features) -> NDArray[np.float64]:
    """Return the squared L2 distance of each output to its original.

    The mean of the distances is `perceptual_distance`; single values feed its interval and the list of worst
    images.

    Args:
        outputs: (N, D) float32 features; row i belongs to ids[i].
        originals: (N, D) float32 features of the originals, same order.

    Returns:
        (N,) float64, squared feature units; 0 for equal rows, lower is better.

    Raises:
        InputError: shapes differ, or a value is not finite.

    Source: Palette, section 4 and Appendix C.5; the squaring is inferred, and the scorecard records it as
    `power`.
    """
    if outputs.shape != originals.shape:
        raise InputError(f"features must be paired: outputs {outputs.shape}, originals {originals.shape}")
    gap = require_finite(outputs, "outputs") - require_finite(originals, "originals")
    return np.asarray(np.einsum("nd,nd->n", gap, gap))


def perceptual_distance(tables: FeatureTables, name: str = "perceptual_distance") -> MetricOutcome:
    """Return the mean squared distance, with a t interval over the images; `name` names the columns."""
    values = squared_distances(tables.outputs, tables.originals)
    interval = mean_t(values)
    return MetricOutcome(
        float(values.mean()),
        interval,
        params={"power": 2},
        notes=() if interval else ("n<2",),
        columns={name: values, f"{name}_root": np.sqrt(values)},
    )
