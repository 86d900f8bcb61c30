"""CMMD, precision, recall, density, coverage and FID-infinity against published programs, same features."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from palette_bench.scoring.metrics import FEATURE_METRICS
from palette_bench.scoring.metrics.cmmd import gaussian_distance
from palette_bench.scoring.metrics.infinity import PARTS, frechet_infinity, keyed_order
from palette_bench.scoring.metrics.metric import FeatureTables, ReferenceSet

Rows = NDArray[np.float32]


def clouds(n: int, m: int, d: int, shift: float) -> tuple[Rows, Rows]:
    draw = np.random.default_rng([n, m, d])
    mixing = draw.normal(size=(d, d)) / np.sqrt(d)
    outputs = draw.normal(size=(n, d)) @ mixing + shift
    return np.maximum(outputs, 0).astype(np.float32), np.maximum(draw.normal(size=(m, d)) @ mixing, 0).astype(
        np.float32
    )


def value(name: str, outputs: Rows, reference: Rows) -> float:
    found = (
        FEATURE_METRICS[name]
        .score(FeatureTables(outputs, outputs, ReferenceSet.of("other", reference)))
        .value
    )
    assert found is not None
    return found


CASES = [(300, 200, 8, 0.3), (1000, 1200, 64, 0.2), (900, 900, 300, 0.1)]


@pytest.mark.parametrize(("n", "m", "d", "shift"), CASES)
def test_precision_and_recall_equal_torch_fidelitys(n: int, m: int, d: int, shift: float) -> None:
    outputs, reference = clouds(n, m, d, shift)
    one, two = (torch.from_numpy(rows).double() for rows in (outputs, reference))
    options = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "save_cpu_ram": False, "verbose": False}
    expected = prc_features_to_metric(one, two, **options)
    for name in ("precision", "recall"):
        # a share of n points; torch's distances through products may move a pair on the edge
        assert value(name, outputs, reference) == pytest.approx(expected[name], abs=1e-6)


@pytest.mark.parametrize(("n", "m", "d", "shift"), CASES)
def test_density_and_coverage_equal_prdcs(n: int, m: int, d: int, shift: float) -> None:
    prdc = pytest.importorskip("prdc")
    outputs, reference = clouds(n, m, d, shift)
    expected = prdc.compute_prdc(reference.astype(np.float64), outputs.astype(np.float64), nearest_k=5)
    for name in ("density", "coverage"):
        assert value(name, outputs, reference) == pytest.approx(expected[name], abs=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(50, 60, 8), (700, 900, 64)])
def test_cmmd_equals_the_published_formula(n: int, m: int, d: int) -> None:
    """The program of the paper divides nothing by a length: CLIP's embeddings already have length 1."""
    rows = [part + 0.1 for part in clouds(n, m, d, 0.4)]  # none is all zeros
    rows = [part / np.linalg.norm(part, axis=1, keepdims=True) for part in rows]
    x, y = (torch.from_numpy(part).double() for part in rows)

    def mean(one: torch.Tensor, two: torch.Tensor) -> float:
        return float(torch.exp(-torch.cdist(one, two).square() / (2 * 10**2)).mean())

    expected = 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    assert gaussian_distance(rows[0], rows[1]).value == pytest.approx(expected, abs=1e-6)


def test_the_limit_is_the_line_through_torch_fidelitys_distances() -> None:
    outputs, reference = clouds(900, 700, 12, 0.3)
    tables = FeatureTables(outputs, outputs, ReferenceSet.of("other", reference))
    order, two = keyed_order(900), fid_features_to_statistics(torch.from_numpy(reference).double())
    means = []
    for parts in PARTS:
        found = [
            fid_statistics_to_metric(
                fid_features_to_statistics(torch.from_numpy(outputs[rows]).double()), two, verbose=False
            )["frechet_inception_distance"]
            for rows in np.array_split(order, parts)
        ]
        means.append(float(np.mean(found)))
    expected = np.polynomial.Polynomial.fit(np.array(PARTS) / 900, means, 1)(0.0)
    assert frechet_infinity(tables).value == pytest.approx(expected, rel=1e-5)
