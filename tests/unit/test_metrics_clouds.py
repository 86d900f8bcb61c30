"""CMMD and the limit of a Fréchet distance: closed forms, direct sums, refusals; and their reserved names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clouds import drawn, tables
from hypothesis import given, settings
from hypothesis import strategies as st

from palette_bench.core.errors import InputError
from palette_bench.scoring.evaluate import MetricInputs, close, needed_extractors, plan, wanted_metrics
from palette_bench.scoring.metrics import RESERVED_FORM, mmd
from palette_bench.scoring.metrics.cmmd import gaussian_distance, self_mean
from palette_bench.scoring.metrics.frechet import frechet_distance
from palette_bench.scoring.metrics.infinity import frechet_infinity, intercept_weights, keyed_order
from palette_bench.scoring.metrics.metric import FeatureTables, ReferenceSet
from palette_bench.scoring.metrics.moments import Moments


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


# CMMD


def test_cmmd_equals_the_double_loop() -> None:
    one, two = unit(drawn(1, 12, 4)), unit(drawn(2, 15, 4))

    def k(x: Any, y: Any) -> float:
        return float(np.exp(-((x - y) ** 2).sum() / 200))

    means = [np.mean([k(x, y) for x in a for y in b]) for a, b in ((one, one), (two, two), (one, two))]
    expected = 1000 * (means[0] + means[1] - 2 * means[2])
    assert gaussian_distance(one, two).value == pytest.approx(expected, rel=1e-9)
    assert gaussian_distance(5 * one, 7 * two).value == pytest.approx(expected, rel=1e-9)
    assert gaussian_distance(one, two, reference_mean=self_mean(two)).value == pytest.approx(expected)


def test_cmmd_of_two_points_is_known() -> None:
    # all x at e1, all y at e2, |x - y|^2 = 2
    one, two = np.tile([[1.0, 0.0]], (5, 1)), np.tile([[0.0, 1.0]], (5, 1))
    expected = 1000 * (2 - 2 * np.exp(-2 / 200))
    for paired in (False, True):
        assert gaussian_distance(one, two, paired).value == pytest.approx(expected, rel=1e-12)


def test_paired_and_unpaired_cmmd_are_one_value_and_equal_clouds_are_exactly_zero() -> None:
    one, two = drawn(1, 40, 6), drawn(2, 40, 6)
    assert gaussian_distance(one, two, True).value == pytest.approx(gaussian_distance(one, two).value)
    assert gaussian_distance(one, one, True).value == 0.0
    assert gaussian_distance(one, one).value == pytest.approx(0.0, abs=1e-10)


@pytest.mark.parametrize("paired", [True, False])
def test_the_influence_of_cmmd_is_its_jackknife_to_the_first_order(paired: bool) -> None:
    n = 80
    one, two = drawn(1, n, 6), drawn(2, n, 6) + 0.5
    found = gaussian_distance(one, two, paired)
    assert found.influence is not None
    without = np.array(
        [
            gaussian_distance(np.delete(one, i, 0), np.delete(two, i, 0) if paired else two, paired).value
            for i in range(n)
        ]
    )
    jackknife = (n - 1) * (without.mean() - without)
    whole = found.influence.whole - found.influence.whole.mean()
    assert whole * n / (n - 1) == pytest.approx(jackknife, abs=0.03 * jackknife.std())


@pytest.mark.parametrize("block", [2, 10, 64])
def test_blocks_change_cmmd_by_rounding_alone(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = drawn(1, 53, 6), drawn(2, 53, 6)
    expected = [gaussian_distance(one, two, paired).value for paired in (True, False)]
    monkeypatch.setattr(mmd, "BLOCK", block)
    assert [gaussian_distance(one, two, paired).value for paired in (True, False)] == pytest.approx(expected)


@given(order=st.permutations(range(25)))
@settings(deadline=None, derandomize=True, max_examples=20)
def test_the_order_of_rows_changes_cmmd_by_rounding_alone(order: list[int]) -> None:
    one, two = drawn(1, 25, 4), drawn(2, 25, 4)
    expected = gaussian_distance(one, two).value
    assert gaussian_distance(one[order], two).value == pytest.approx(expected, rel=1e-9)


def test_cmmd_of_one_image_and_rows_of_zeros() -> None:
    assert gaussian_distance(np.ones((1, 3)), np.ones((4, 3))).notes == ("n<2",)
    assert gaussian_distance(np.zeros((4, 3)), np.ones((4, 3))).value == pytest.approx(
        1000 * (2 - 2 * np.exp(-1 / 200))
    )
    with pytest.raises(InputError, match="features must be"):
        gaussian_distance(np.ones((4, 3)), np.ones((4, 2)))


# the limit of a Fréchet distance


def test_the_intercept_is_that_of_a_least_squares_line() -> None:
    sizes, values = np.array([900.0, 450.0, 300.0]), np.array([2.0, 2.5, 2.7])
    expected = np.polynomial.Polynomial.fit(1 / sizes, values, 1)(0.0)
    assert intercept_weights(sizes) @ values == pytest.approx(expected)


def test_the_shuffle_is_a_permutation_of_the_number_of_images_alone() -> None:
    assert sorted(keyed_order(501).tolist()) == list(range(501))
    assert keyed_order(501).tolist() == keyed_order(501).tolist() != list(range(501))


@pytest.mark.parametrize("paired", [True, False])
def test_the_limit_is_nearer_the_truth_than_the_distance_of_n_images(paired: bool) -> None:
    """Gaussians of known moments: the distance lies far above the truth, the limit within its interval."""
    draw, d, n = np.random.default_rng(3), 8, 400
    population = Moments(10**9, np.zeros(d), 0.81 * np.eye(d))
    reference = draw.normal(size=(n, d))
    base = reference if paired else draw.normal(size=(n, d))
    outputs = 0.8 * base + np.sqrt(0.17) * draw.normal(size=(n, d))
    known = Moments(10**9, np.zeros(d), np.eye(d)) if paired else Moments.of(reference)
    truth = frechet_distance(population, known).value
    found = frechet_infinity(
        FeatureTables(outputs, reference, ReferenceSet.of("r", reference, paired=paired))
    )
    finite = frechet_distance(outputs, reference).value
    assert found.value is not None
    assert found.interval is not None
    assert truth is not None
    assert finite is not None
    assert found.interval.low < truth < found.interval.high
    assert abs(found.value - truth) < 0.5 * (finite - truth)


def test_moving_all_outputs_moves_the_limit_by_the_squared_length() -> None:
    cloud = drawn(1, 600, 4)
    for shift in (0.5, 3.0):
        found = frechet_infinity(tables(cloud + shift, cloud, paired=True))
        assert found.value == pytest.approx(4 * shift**2, rel=1e-5)
    assert frechet_infinity(tables(cloud, cloud, paired=True)).value == 0.0


def test_the_limit_has_no_interval_with_few_images_per_feature() -> None:
    cloud = drawn(1, 60, 16)
    assert frechet_infinity(tables(cloud + 1, cloud)).notes == ("few-images-per-feature",)
    assert frechet_infinity(tables(cloud[:5], cloud[:5])).notes == ("too-few-images",)


# reserved names


def network(name: str, roles: tuple[str, ...] = ("features", "logits")) -> Any:
    return SimpleNamespace(
        id=name, label_space=None, heads={role: role for role in roles}, notes=(), fingerprint=name
    )


INCEPTION, LITE = network("inception-v3-fid"), network("efficientnet-lite0")
DINOV2, CLIP = network("dinov2-vitl14", ("features",)), network("clip-vitl14-336", ("features",))
NEW = ("fid", "fd_dinov2", "fid_infinity", "fd_dinov2_infinity", "cmmd", "precision")


def planned(networks: list[Any], wanted: tuple[str, ...] = NEW) -> list[tuple[str, str]]:
    return [(step.metric.id, step.extractor.id) for step in plan(wanted, networks, False)]


def test_each_reserved_name_holds_on_its_own_network() -> None:
    assert planned([INCEPTION, DINOV2, CLIP]) == [
        ("fid", "inception-v3-fid"),
        ("fd_dinov2", "dinov2-vitl14"),
        ("fid_infinity", "inception-v3-fid"),
        ("fd_dinov2_infinity", "dinov2-vitl14"),
        ("cmmd", "clip-vitl14-336"),
        ("precision", "inception-v3-fid"),
    ]


def test_without_their_networks_two_names_are_one_general_metric() -> None:
    names = ["frechet_distance", "frechet_infinity", "gaussian_distance", "precision"]
    assert planned([LITE]) == [(name, "efficientnet-lite0") for name in names]


def test_named_metrics_bring_their_network_and_no_other() -> None:
    available = ("inception-v3-fid", "resnet50-v1")
    assert needed_extractors(("fd_dinov2", "cmmd"), available) == ("dinov2-vitl14", "clip-vitl14-336")
    assert needed_extractors(("fid", "cmmd"), available) == ("inception-v3-fid", "clip-vitl14-336")


def test_a_network_alone_does_not_bring_its_metrics() -> None:
    protocol = SimpleNamespace(
        shown=(), ranked_metrics=lambda source, task: ("fid",), has_validation_set=lambda source: True
    )
    public, manifest = SimpleNamespace(task="jpeg"), SimpleNamespace(source="own")
    target: Any = SimpleNamespace(manifest=manifest, public=public, protocol=protocol)
    assert wanted_metrics(target, ["dinov2-vitl14", "clip-vitl14-336"]) == ("fid",)


def test_general_and_originals_forms_lead_to_the_first_reserved_name() -> None:
    assert RESERVED_FORM["frechet_distance"] == "fid"
    assert RESERVED_FORM["frechet_infinity"] == "fid_infinity"
    assert RESERVED_FORM["fd_dinov2_originals"] == "fd_dinov2"


def test_against_own_originals_no_distance_has_its_bare_name() -> None:
    one, two = drawn(1, 60, 3).astype(np.float32), drawn(2, 60, 3).astype(np.float32)
    networks = [INCEPTION, DINOV2, CLIP]
    own = SimpleNamespace(
        id="originals",
        notes=(),
        reference=lambda *_: ReferenceSet.of("originals", two, paired=True),
        fingerprint=lambda extractor: "f" * 64,
    )
    inputs = MetricInputs(
        60,
        {e.id: {"features": one} for e in networks},
        {e.id: {"features": two} for e in networks},
        {e.id: "k" for e in networks},  # type: ignore[misc]
        own,  # type: ignore[arg-type]
        None,
    )
    found = close(plan(NEW, networks, False), inputs)
    assert list(found) == [*(f"{name}_originals" for name in NEW[:-1]), "precision"]
    assert found["fd_dinov2_originals"].outcome.columns.keys() >= {"fd_dinov2_influence"}
    assert found["cmmd_originals"].score.params["original"] == 0.0
    assert "original" not in found["precision"].score.params
