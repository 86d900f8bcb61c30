"""What classifiers and pairs say, the contract of every metric, golden values, and the plan."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clouds import drawn, tables
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from palette_bench.core.errors import InputError, UsageError
from palette_bench.core.rng import normals
from palette_bench.scoring.evaluate import plan
from palette_bench.scoring.metrics import FEATURE_METRICS, METRICS
from palette_bench.scoring.metrics.classifier import (
    _expected_classes,
    accuracy,
    agreement,
    divergences,
    inception_score,
    inception_score_10,
    shuffled_splits,
    split_scores,
)
from palette_bench.scoring.metrics.cmmd import gaussian_mmd
from palette_bench.scoring.metrics.frechet import frechet
from palette_bench.scoring.metrics.infinity import frechet_infinity
from palette_bench.scoring.metrics.kid import kernel
from palette_bench.scoring.metrics.metric import FeatureTables, Metric, MetricOutcome
from palette_bench.scoring.metrics.perceptual import perceptual_distance, squared_distances

Features = NDArray[np.float32]
GOLDEN = Path(__file__).resolve().parents[1] / "golden"


# what a classifier says


def test_inception_score_of_sure_and_even_classes_is_their_number() -> None:
    logits = np.kron(np.eye(7), np.ones((3, 1))).astype(np.float32) * 1e4
    assert inception_score(FeatureTables(logits, logits)).value == pytest.approx(7.0, rel=1e-12)


def test_inception_score_of_equal_rows_is_one() -> None:
    logits = np.tile(drawn(1, 1, 9), (20, 1)).astype(np.float32)
    found = inception_score(FeatureTables(logits, logits))
    assert found.value == pytest.approx(1.0, abs=1e-12)
    assert found.columns["is_kl"] == pytest.approx(np.zeros(20), abs=1e-12)


def test_divergences_equal_the_double_loop() -> None:
    logits = drawn(2, 15, 6)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    mean = p.mean(axis=0)
    expected = [sum(p[i, k] * np.log(p[i, k] / mean[k]) for k in range(6)) for i in range(15)]
    assert divergences(logits.astype(np.float64)) == pytest.approx(expected, abs=1e-12)  # type: ignore[arg-type]


def test_accuracy_counts_first_classes_in_percent() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.2, 0.3, 0.5], [0.5, 0.3, 0.2]]))
    found = accuracy(
        FeatureTables(logits.astype(np.float32), logits.astype(np.float32), labels=np.array([0, 1, 0, 0]))
    )
    assert found.value == 75.0
    assert found.columns["top1"].tolist() == [1, 1, 0, 1]
    assert found.columns["p_label"] == pytest.approx([0.7, 0.6, 0.2, 0.5], abs=1e-6)
    assert found.interval is not None
    assert 0 < found.interval.low < 75 < found.interval.high < 100


def test_labels_outside_the_classes_are_refused() -> None:
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match=r"0\.\.3, the classifier's classes in 0\.\.2"):
        accuracy(FeatureTables(logits, logits, labels=np.array([0, 3])))


def test_accuracy_without_labels_is_refused() -> None:
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match="a label for every image"):
        accuracy(FeatureTables(logits, logits))


def test_agreement_compares_with_the_original() -> None:
    outputs = np.eye(4, dtype=np.float32)
    originals = outputs[[0, 1, 3, 2]]
    found = agreement(FeatureTables(outputs, originals))
    assert (found.value, found.columns["top1"].tolist()) == (50.0, [1, 1, 0, 0])
    assert agreement(FeatureTables(outputs, outputs)).value == 100.0


# perceptual distance


def test_perceptual_distance_is_the_mean_squared_length() -> None:
    outputs = np.array([[1, 2], [3, 4]], np.float32)
    originals = np.array([[1, 0], [0, 0]], np.float32)
    assert squared_distances(outputs, originals).tolist() == [4.0, 25.0]
    found = perceptual_distance(FeatureTables(outputs, originals))
    assert found.value == 14.5
    assert {name: column.tolist() for name, column in found.columns.items()} == {
        "perceptual_distance": [4.0, 25.0],
        "perceptual_distance_root": [2.0, 5.0],
    }
    assert perceptual_distance(FeatureTables(outputs, outputs)).value == 0.0


def test_perceptual_distance_equals_the_direct_sum() -> None:
    outputs, originals = drawn(1, 30, 9).astype(np.float32), drawn(2, 30, 9).astype(np.float32)
    expected = [
        sum((float(outputs[i, k]) - float(originals[i, k])) ** 2 for k in range(9)) for i in range(30)
    ]
    assert squared_distances(outputs, originals) == pytest.approx(expected, rel=1e-12)


def test_googlenets_columns_are_its_own() -> None:
    outputs, originals = drawn(1, 30, 9).astype(np.float32), drawn(2, 30, 9).astype(np.float32)
    found = FEATURE_METRICS["perceptual_distance_googlenet"].score(FeatureTables(outputs, originals))
    assert set(found.columns) == {"perceptual_distance_googlenet", "perceptual_distance_googlenet_root"}


def test_unpaired_features_are_refused() -> None:
    with pytest.raises(InputError, match="paired"):
        squared_distances(np.zeros((3, 2), np.float32), np.zeros((4, 2), np.float32))


# ten splits


def test_ten_splits_share_out_every_row_once() -> None:
    splits = shuffled_splits(105)
    assert sorted(np.concatenate(splits).tolist()) == list(range(105))
    assert {len(rows) for rows in splits} == {10, 11}
    assert splits[0].tolist() != sorted(splits[0].tolist())


def test_ten_splits_give_the_mean_of_their_scores() -> None:
    logits = drawn(4, 200, 6).astype(np.float32) * 3
    scores = [np.exp(divergences(logits[rows]).mean()) for rows in shuffled_splits(200)]
    found = inception_score_10(FeatureTables(logits, logits))
    assert split_scores(logits, shuffled_splits(200)).tolist() == scores
    assert found.value == pytest.approx(np.mean(scores), rel=1e-12)
    assert found.params == {"splits": 10, "seed": 2020, "sd": pytest.approx(np.std(scores))}
    one = inception_score(FeatureTables(logits, logits)).value
    assert one is not None
    assert found.value is not None
    assert found.value < one  # fewer images spread over fewer classes


def test_more_splits_than_images_are_refused_with_both_numbers() -> None:
    logits = np.zeros((9, 3), np.float32)
    with pytest.raises(UsageError, match="10 splits of 9 images"):
        inception_score_10(FeatureTables(logits, logits))


def test_a_split_with_too_few_classes_has_no_score() -> None:
    # 100 classes of 10: by chance a tenth holds 63 of them, a sorted tenth holds 10
    labels = np.repeat(np.arange(100), 10)
    logits = np.eye(100, dtype=np.float32)[labels]
    shuffled = FeatureTables(logits, logits, labels=labels)
    assert inception_score_10(shuffled).value is not None
    first = slice(0, 100)
    part = FeatureTables(logits[first], logits[first], labels=labels[first], classes=100)
    found = inception_score(part)
    assert (found.value, found.interval, found.notes) == (None, None, ("low-coverage",))
    ones = FeatureTables(logits[first], logits[first], labels=np.ones(100, np.int64), classes=100)
    assert inception_score_10(ones).notes == ("low-coverage",)
    assert (
        inception_score(FeatureTables(logits[first], logits[first])).value is not None
    )  # no labels, no guard
    assert (
        inception_score(FeatureTables(logits[first], logits[first], labels=labels[first])).value is not None
    )


def test_the_expected_number_of_classes_by_simulation() -> None:
    labels = np.repeat([0, 1, 2, 3], [1, 5, 10, 24])
    draw = np.random.default_rng(0)
    seen = [len(np.unique(draw.choice(labels, 6, replace=False))) for _ in range(20_000)]
    assert _expected_classes(labels, None, 6) == pytest.approx(np.mean(seen), abs=0.02)
    assert _expected_classes(labels, 4, 40) == pytest.approx(4.0)
    assert _expected_classes(labels, 100, 1) == pytest.approx(1.0)


# every row of the table


def scored(metric: Metric, n: int, d: int = 5, shift: float = 0.1) -> MetricOutcome:
    features = drawn(n, n, d)
    return metric.score(tables(features, features[::-1] + shift, labels=np.arange(n) % d))


@pytest.mark.parametrize("name", FEATURE_METRICS)
@pytest.mark.parametrize("n", [1, 2, 40])
def test_every_metric_is_json_at_any_size(name: str, n: int) -> None:
    if name.endswith("_10") and n < 10:
        pytest.skip("ten splits need ten images")
    found = scored(FEATURE_METRICS[name], n)
    json.dumps([found.value, found.params, list(found.notes)], allow_nan=False)
    assert found.value is not None or found.notes
    assert found.interval is not None or found.notes
    assert all(len(column) == n for column in found.columns.values())
    assert all(np.isfinite(column).all() for column in found.columns.values())


@pytest.mark.parametrize("name", FEATURE_METRICS)
def test_every_metric_has_an_interval_about_its_value(name: str) -> None:
    # enough images for each feature, and clouds so far apart that some outputs lie outside the reference
    found = scored(FEATURE_METRICS[name], 200, shift=1.0)
    assert found.interval is not None
    assert found.value is not None
    assert found.interval.low <= found.value <= found.interval.high
    assert found.interval.se > 0


@pytest.mark.parametrize("name", FEATURE_METRICS)
def test_every_metric_prefers_equal_features(name: str) -> None:
    draw = np.random.default_rng(5)
    originals = 10 * np.kron(np.eye(8), np.ones((30, 1)))
    originals += 0.01 * draw.normal(size=originals.shape)  # rows that are equal have balls of no size
    labels = originals.argmax(axis=1)
    noisy = 0.3 * originals + draw.normal(size=originals.shape) * 2
    metric = FEATURE_METRICS[name]
    best, worse = (metric.score(tables(x, originals, labels=labels)).value for x in (originals, noisy))
    assert best is not None
    assert worse is not None
    assert best < worse if metric.direction == "lower" else best > worse


@pytest.mark.parametrize("name", FEATURE_METRICS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_every_metric_refuses_what_is_not_finite(name: str, value: float) -> None:
    originals = drawn(1, 30, 5).astype(np.float32)
    outputs = originals.copy()
    outputs[29, 4] = value
    whole = tables(originals, originals, labels=np.zeros(30, np.int64))
    with pytest.raises(InputError, match="1 of 30 rows are not finite, first 29"):
        FEATURE_METRICS[name].score(
            FeatureTables(outputs, originals, whole.reference, np.zeros(30, np.int64), whole.classes)
        )


@pytest.mark.parametrize("name", FEATURE_METRICS)
@given(order=st.permutations(range(30)))
def test_arrival_order_changes_no_bit_of_any_metric(name: str, order: list[int]) -> None:
    features, originals = drawn(1, 30, 5).astype(np.float32), drawn(2, 30, 5).astype(np.float32)
    labels = np.arange(30) % 5
    arrived = {f"id{i:02}": (features[i], originals[i], labels[i]) for i in order}
    outputs, references, classes = zip(*(arrived[name] for name in sorted(arrived)), strict=True)
    metric = FEATURE_METRICS[name]
    found = metric.score(tables(np.stack(outputs), np.stack(references), labels=np.array(classes)))
    expected = metric.score(tables(features, originals, labels=labels))
    assert (found.value, found.interval) == (expected.value, expected.interval)


@pytest.mark.parametrize("name", METRICS)
def test_every_row_knows_its_own_name(name: str) -> None:
    row = METRICS[name]
    assert (row.id, bool(row.title)) == (name, True)
    assert (row.direction == "none") == name.startswith("colourfulness")


def test_the_two_names_of_one_arithmetic_share_it() -> None:
    for reserved, general, score in (
        ("fid", "frechet_distance", frechet),
        ("kid", "kernel_distance", kernel),
        ("fid", "fid_originals", frechet),
        ("kid", "kid_originals", kernel),
        ("fid_infinity", "frechet_infinity", frechet_infinity),
        ("fd_dinov2_infinity", "frechet_infinity", frechet_infinity),
        ("cmmd", "gaussian_distance", gaussian_mmd),
        ("cmmd", "cmmd_originals", gaussian_mmd),
        ("inception_score", "classifier_score", inception_score),
        ("inception_score_10", "classifier_score_10", inception_score_10),
    ):
        assert FEATURE_METRICS[reserved].score is FEATURE_METRICS[general].score is score


@pytest.mark.parametrize("name", FEATURE_METRICS)
def test_the_names_and_the_column_in_a_row_exist(name: str) -> None:
    row = FEATURE_METRICS[name]
    assert {row.general, row.originals} <= {"", *FEATURE_METRICS}
    assert row.test is None or row.column in scored(row, 40).columns


def test_only_distances_of_clouds_read_the_reference() -> None:
    referenced = {name for name, row in FEATURE_METRICS.items() if row.referenced}
    assert referenced == {
        *("fid", "fid_originals", "frechet_distance", "fd_dinov2", "fd_dinov2_originals"),
        *("fid_infinity", "fid_infinity_originals", "frechet_infinity"),
        *("fd_dinov2_infinity", "fd_dinov2_infinity_originals"),
        *("kid", "kid_originals", "kernel_distance", "cmmd", "cmmd_originals", "gaussian_distance"),
        *("precision", "recall", "density", "coverage"),
    }
    assert not any(row.paired and row.referenced for row in FEATURE_METRICS.values())


# golden values: a change needs a new forward revision (metrics, section 9)


def golden_tables(name: str) -> FeatureTables:
    """Return 256 outputs near 256 originals in 8 dimensions, from integers alone."""
    originals = normals("golden|originals", (256, 8)) / 4096
    outputs = originals * 0.9 + normals("golden|noise", (256, 8)) / 8192
    paired = name.endswith("_originals")
    return tables(outputs, originals, paired=paired, labels=np.asarray(originals.argmax(axis=1)))


@pytest.mark.parametrize("name", FEATURE_METRICS)
def test_golden_values(name: str) -> None:
    golden = json.loads((GOLDEN / "metrics.json").read_text())
    found = FEATURE_METRICS[name].score(golden_tables(name))
    assert found.value == pytest.approx(golden[name]["value"], rel=1e-9)
    expected = golden[name]["se"]  # null where a share is too near 1 for an interval
    assert found.se == (expected if expected is None else pytest.approx(expected, rel=1e-9))


# plan


def network(
    name: str, label_space: str | None = None, roles: tuple[str, ...] = ("features", "logits")
) -> Any:
    return SimpleNamespace(id=name, label_space=label_space, heads={role: role for role in roles})


WANTED = ("fid", "inception_score", "classification_accuracy", "perceptual_distance")


def planned(extractors: list[Any], labelled: bool, wanted: tuple[str, ...] = WANTED) -> list[tuple[str, str]]:
    return [(s.metric.id, s.extractor.id) for s in plan(wanted, extractors, labelled)]


def test_the_protocols_networks_give_the_papers_names() -> None:
    networks = [network("inception-v3-fid"), network("resnet50-v1", "imagenet-1k")]
    assert planned(networks, labelled=True) == [
        ("fid", "inception-v3-fid"),
        ("inception_score", "inception-v3-fid"),
        ("classification_accuracy", "resnet50-v1"),
        ("perceptual_distance", "inception-v3-fid"),
    ]
    assert planned(networks, labelled=False)[2] == ("classification_agreement", "resnet50-v1")


@pytest.mark.parametrize("wanted", [WANTED, ("frechet_distance", "classifier_score", *WANTED[2:])])
def test_no_other_network_may_say_fid(wanted: tuple[str, ...]) -> None:
    names = [name for name, _ in planned([network("timm:resnet50", "imagenet-1k")], True, wanted)]
    assert names == ["frechet_distance", "classifier_score", "classification_accuracy", "perceptual_distance"]


def test_labels_mean_nothing_to_a_network_with_other_classes() -> None:
    assert planned([network("smoke-random")], labelled=True)[2] == (
        "classification_agreement",
        "smoke-random",
    )


def test_a_network_without_the_head_is_passed_over_or_refused() -> None:
    blind = network("googlenet-v1", roles=("features",))
    both = planned([blind, network("smoke-random")], labelled=False)
    assert [name for _, name in both] == ["googlenet-v1", "smoke-random", "smoke-random", "googlenet-v1"]
    with pytest.raises(UsageError, match="inception_score needs a network that tells classes apart"):
        planned([blind], labelled=False)
