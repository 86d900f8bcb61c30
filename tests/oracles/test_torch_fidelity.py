"""Our arithmetic against torch-fidelity's on equal features; its network is in test_features.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric

from palette_bench.scoring.metrics.classifier import inception_score, inception_score_10
from palette_bench.scoring.metrics.frechet import frechet_distance
from palette_bench.scoring.metrics.kid import kernel_distance, kid_subsets
from palette_bench.scoring.metrics.metric import FeatureTables


def drawn(seed: int, n: int, d: int) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.normal(size=(n, d)) @ draw.normal(size=(d, d)) + draw.normal(size=d))


@pytest.mark.parametrize(
    ("n", "d"), [(8, 2), (64, 2), (40, 16), (200, 16), (1000, 64), (300, 256), (4096, 256)]
)
def test_frechet_equals_torch_fidelity_above_the_dimension(n: int, d: int) -> None:
    one, two = drawn(1, n, d), drawn(2, n, d)
    expected = fid_statistics_to_metric(
        fid_features_to_statistics(one), fid_features_to_statistics(two), verbose=False
    )["frechet_inception_distance"]
    assert frechet_distance(one.numpy(), two.numpy()).value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "k"), [(30, 5), (500, 100)])
def test_inception_score_equals_torch_fidelity_with_one_split(n: int, k: int) -> None:
    logits = drawn(3, n, k).float()
    expected = isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    found = inception_score(FeatureTables(logits.numpy(), logits.numpy()))
    assert found.value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("n", "k"), [(57, 5), (500, 100)])
def test_ten_shuffled_splits_equal_torch_fidelitys(n: int, k: int) -> None:
    logits = drawn(3, n, k).float()
    expected = isc_features_to_metric(logits)
    found = inception_score_10(FeatureTables(logits.numpy(), logits.numpy()))
    assert found.value == pytest.approx(expected["inception_score_mean"], rel=1e-10)
    assert found.params["sd"] == pytest.approx(expected["inception_score_std"], rel=1e-9)


@pytest.mark.parametrize(("subsets", "size"), [(1, 300), (20, 100)])
def test_kernel_distance_of_subsets_equals_torch_fidelity(subsets: int, size: int) -> None:
    one, two = drawn(1, 300, 32), drawn(2, 400, 32)
    expected = kid_features_to_metric(one, two, kid_subsets=subsets, kid_subset_size=size, verbose=False)
    mean, sd = kid_subsets(one.numpy(), two.numpy(), subsets=subsets, size=size)
    assert mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-10)
    assert sd == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-9, abs=1e-12)


def test_kernel_distance_over_all_pairs_is_torch_fidelitys_one_subset_of_everything() -> None:
    one, two = (drawn(seed, 250, 32).float() for seed in (1, 2))
    expected = kid_features_to_metric(
        one.double(), two.double(), kid_subsets=1, kid_subset_size=250, verbose=False
    )
    found = kernel_distance(one.numpy(), two.numpy())
    assert found.value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-10)
