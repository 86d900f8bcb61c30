"""Metric arithmetic: closed forms, high precision, invariances, and every edge of small or odd input."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import mpmath
import numpy as np
import pytest
from numpy.typing import NDArray

from palette_bench import frechet_distance
from palette_bench.core.errors import InputError, UsageError
from palette_bench.scoring.metrics import FEATURE_METRICS, METRICS
from palette_bench.scoring.metrics.classifier import accuracy, agreement, divergences, inception_score
from palette_bench.scoring.metrics.diagnostics import DIAGNOSTICS, Picture, Reading, summarise
from palette_bench.scoring.metrics.frechet import frechet
from palette_bench.scoring.metrics.outcome import Tables
from palette_bench.scoring.metrics.perceptual import perceptual_distance, squared_distances
from palette_bench.scoring.plan import diagnostics, plan

Features = NDArray[np.float32]


def drawn(seed: int, n: int, d: int) -> NDArray[np.float64]:
    draw = np.random.default_rng(seed)
    return draw.normal(size=(n, d)) @ draw.normal(size=(d, d)) / np.sqrt(d)


# Fréchet distance


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_moving_all_features_moves_the_distance_by_the_squared_length(shift: float) -> None:
    features = drawn(7, 512, 16)
    expected = 16 * shift**2  # equal covariances: only the means differ, in 16 dimensions
    assert frechet_distance(features + shift, features).value == pytest.approx(expected, abs=1e-9)


def test_diagonal_covariances_have_a_closed_form() -> None:
    # columns are +-1 patterns, orthogonal and centred, so that covariances are exactly diagonal
    signs = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], float)
    one, two = signs * [1.0, 2.0, 3.0], signs * [2.0, 2.0, 1.0] + [0.0, 1.0, 0.0]
    variances = 4 / 3  # of a +-1 column, divisor N - 1
    expected = 1.0 + variances * ((1 - 2) ** 2 + 0 + (3 - 1) ** 2)
    assert frechet_distance(one, two).value == pytest.approx(expected, abs=1e-12)


def test_one_dimension_is_the_textbook_formula() -> None:
    one, two = drawn(1, 50, 1), 3 * drawn(2, 70, 1) + 1
    expected = (one.mean() - two.mean()) ** 2 + (one.std(ddof=1) - two.std(ddof=1)) ** 2
    assert frechet_distance(one, two).value == pytest.approx(expected, abs=1e-12)


def _exact(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    """Return the distance with 40 digits; tr (S1 S2)^1/2 from the smaller Gram form."""
    with mpmath.workdps(40):
        sides = []
        for features in (one, two):
            rows = mpmath.matrix(features.tolist())
            mean = [mpmath.fsum(rows[:, j]) / rows.rows for j in range(rows.cols)]
            scale = mpmath.sqrt(rows.rows - 1)
            centred = mpmath.matrix(rows.rows, rows.cols)
            for i in range(rows.rows):
                for j in range(rows.cols):
                    centred[i, j] = (rows[i, j] - mean[j]) / scale
            sides.append((mean, centred))
        (mean_1, f_1), (mean_2, f_2) = sides
        gap = mpmath.fsum((a - b) ** 2 for a, b in zip(mean_1, mean_2, strict=True))
        traces = mpmath.fsum(x * x for f in (f_1, f_2) for x in f)
        if len(one) <= one.shape[1]:
            cross = f_1 * f_2.T
        else:
            cross = mpmath.cholesky(f_1.T * f_1).T * mpmath.cholesky(f_2.T * f_2)
        roots = mpmath.eigsy(cross * cross.T, eigvals_only=True)
        return float(gap + traces - 2 * mpmath.fsum(mpmath.sqrt(max(w, 0)) for w in roots))


@pytest.mark.parametrize(
    ("d", "n", "tolerance"), [(48, 16, 1e-12), (64, 12, 1e-12), (24, 120, 1e-12), (256, 16, 1e-10)]
)
def test_distance_equals_40_digits(d: int, n: int, tolerance: float) -> None:
    one, two = drawn(d, n, d), drawn(d + 1, n, d) + 0.1
    found = frechet_distance(one, two)
    assert found.value == pytest.approx(_exact(one, two), rel=tolerance)
    assert found.method == (("rows",) * 2 if n <= d else ("qr",) * 2)
    assert found.rank == ((n - 1,) * 2 if n <= d else (d,) * 2)


@pytest.mark.parametrize("n", [2, 10, 100])
def test_equal_clouds_are_at_distance_zero(n: int) -> None:
    features = drawn(3, n, 12).astype(np.float32)
    assert frechet_distance(features, features).value == 0.0
    turned = frechet_distance(features, features[::-1]).value
    assert turned == pytest.approx(0.0, abs=1e-9 * float(features.var(axis=0).sum()))


def test_the_order_of_rows_does_not_matter_and_sides_may_swap() -> None:
    one, two = drawn(4, 90, 20), drawn(5, 60, 20)
    value = frechet_distance(one, two).value
    shuffled = one[np.random.default_rng(0).permutation(90)]
    assert frechet_distance(shuffled, two).value == pytest.approx(value, rel=1e-12)
    assert frechet_distance(two, one).value == pytest.approx(value, rel=1e-12)


def test_constant_features_on_one_side_leave_the_other_trace() -> None:
    flat, features = np.ones((40, 8)), drawn(6, 40, 8)
    found = frechet_distance(flat, features)
    gap = np.ones(8) - features.mean(axis=0)
    assert found.value == pytest.approx(gap @ gap + features.var(axis=0, ddof=1).sum(), rel=1e-12)
    assert found.rank == (0, 8)
    assert frechet_distance(flat, flat).value == 0.0


def test_a_dead_channel_is_no_obstacle() -> None:
    features = drawn(8, 100, 6)
    features[:, 2] = 0.0
    assert frechet_distance(features + 1.0, features).value == pytest.approx(6.0, abs=1e-9)


@pytest.mark.parametrize(
    ("n", "notes"),
    [
        (1, ("n<2", "rank-deficient", "small-n")),
        (2, ("rank-deficient", "small-n")),
        (4, ("rank-deficient", "small-n")),
        (5, ("small-n",)),
        (2048, ()),
    ],
)
def test_the_size_of_the_smaller_side_is_noted(n: int, notes: tuple[str, ...]) -> None:
    found = frechet_distance(drawn(9, n, 4), drawn(10, 3000, 4))
    assert found.notes == notes
    assert (found.value is None) == (n == 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_refused_with_their_row(value: float) -> None:
    features = drawn(11, 10, 4)
    features[9, 3] = value
    with pytest.raises(InputError, match="references: 1 of 10 rows are not finite, first 9"):
        frechet_distance(drawn(11, 10, 4), features)


def test_features_of_other_widths_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(4, 3\) and \(4, 5\)"):
        frechet_distance(np.zeros((4, 3)), np.zeros((4, 5)))


# what a classifier says


def test_inception_score_of_sure_and_even_classes_is_their_number() -> None:
    logits = np.kron(np.eye(7), np.ones((3, 1))).astype(np.float32) * 1e4
    assert inception_score(Tables(logits, logits)).value == pytest.approx(7.0, rel=1e-12)


def test_inception_score_of_equal_rows_is_one() -> None:
    logits = np.tile(drawn(1, 1, 9), (20, 1)).astype(np.float32)
    found = inception_score(Tables(logits, logits))
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
    found = accuracy(Tables(logits.astype(np.float32), logits.astype(np.float32), np.array([0, 1, 0, 0])))
    assert found.value == 75.0
    assert found.columns["top1"].tolist() == [1, 1, 0, 1]
    assert found.columns["p_label"] == pytest.approx([0.7, 0.6, 0.2, 0.5], abs=1e-6)
    assert found.interval is not None
    assert 0 < found.interval.low < 75 < found.interval.high < 100


def test_labels_outside_the_classes_are_refused() -> None:
    logits = np.zeros((2, 3), np.float32)
    with pytest.raises(InputError, match=r"0\.\.3, the classifier's classes in 0\.\.2"):
        accuracy(Tables(logits, logits, np.array([0, 3])))


def test_agreement_compares_with_the_original() -> None:
    outputs = np.eye(4, dtype=np.float32)
    references = outputs[[0, 1, 3, 2]]
    assert agreement(Tables(outputs, references)).value == 50.0
    assert agreement(Tables(outputs, outputs)).value == 100.0


# perceptual distance


def test_perceptual_distance_is_the_mean_squared_length() -> None:
    outputs = np.array([[1, 2], [3, 4]], np.float32)
    references = np.array([[1, 0], [0, 0]], np.float32)
    assert squared_distances(outputs, references).tolist() == [4.0, 25.0]
    assert perceptual_distance(Tables(outputs, references)).value == 14.5
    assert perceptual_distance(Tables(outputs, outputs)).value == 0.0


def test_unpaired_features_are_refused() -> None:
    with pytest.raises(InputError, match="paired"):
        squared_distances(np.zeros((3, 2), np.float32), np.zeros((4, 2), np.float32))


# every row of the table


@pytest.mark.parametrize("name", FEATURE_METRICS)
@pytest.mark.parametrize("n", [1, 2, 40])
def test_every_metric_is_json_at_any_size(name: str, n: int) -> None:
    features = drawn(n, n, 5).astype(np.float32)
    found = FEATURE_METRICS[name].score(Tables(features, features[::-1].copy(), np.zeros(n, np.int64)))
    json.dumps([found.value, found.params, list(found.notes)], allow_nan=False)
    assert found.value is not None or found.notes
    assert found.interval is not None or found.notes
    assert all(len(column) == n for column in found.columns.values())


@pytest.mark.parametrize("name", FEATURE_METRICS)
def test_every_metric_prefers_equal_features(name: str) -> None:
    draw = np.random.default_rng(5)
    references = (10 * np.kron(np.eye(8), np.ones((6, 1)))).astype(np.float32)
    labels = references.argmax(axis=1)
    noisy = (0.3 * references + draw.normal(size=references.shape) * 2).astype(np.float32)
    metric = FEATURE_METRICS[name]
    best, worse = (metric.score(Tables(x, references, labels)).value for x in (references, noisy))
    assert best is not None
    assert worse is not None
    assert best < worse if metric.direction == "lower" else best > worse


@pytest.mark.parametrize("name", METRICS)
def test_every_row_knows_its_own_name(name: str) -> None:
    row = METRICS[name]
    assert (row.id, bool(row.title), row.direction in ("lower", "higher")) == (name, True, True)


def test_the_two_names_of_one_arithmetic_share_it() -> None:
    assert FEATURE_METRICS["fid"].score is FEATURE_METRICS["frechet_distance"].score is frechet


# diagnostics


def picture(scored: Any = 100, reference: Any = 100, condition: Any = 100, raw: Any = None) -> Picture:
    side = 8
    images = [np.full((side, side, 3), v, np.uint8) for v in (scored, reference, condition)]
    mask = np.zeros((side, side), bool)
    mask[:4] = True
    return Picture(images[0] if raw is None else np.full((side, side, 3), raw, np.uint8), *images, mask)


def test_psnr_by_hand() -> None:
    # every sample 10 levels off: 10 log10(65025 / 100)
    assert DIAGNOSTICS["psnr"].read(picture(110)) == Reading(pytest.approx(28.130803608679106), 10)


def test_psnr_of_equal_pictures_is_that_of_one_level_in_one_sample_and_noted() -> None:
    near = picture()
    near.scored[0, 0, 0] += 1
    equal = DIAGNOSTICS["psnr"].read(picture())
    assert equal.value == DIAGNOSTICS["psnr"].read(near).value == pytest.approx(10 * np.log10(255**2 * 192))
    found = summarise(DIAGNOSTICS["psnr"], [equal, equal])
    assert "capped" in found.notes
    assert found.params["equal"] == 2


def test_known_region_error_looks_at_the_raw_output_outside_the_hole_only() -> None:
    inside = picture(raw=100)
    inside.raw[:4] = 255
    assert DIAGNOSTICS["known_region_error"].read(inside) == Reading(0.0, 0)
    outside = picture(raw=100)
    outside.raw[7, 7, 1] = 90  # one of 4 * 8 * 3 known samples
    assert DIAGNOSTICS["known_region_error"].read(outside) == Reading(pytest.approx(10 / 96), 10)


def test_known_region_error_of_a_full_hole_is_zero() -> None:
    full = picture(raw=0)
    assert full.mask is not None
    full.mask[:] = True
    assert DIAGNOSTICS["known_region_error"].read(full) == Reading(0.0, 0)


def test_gray_consistency_compares_lumas() -> None:
    assert DIAGNOSTICS["gray_consistency"].read(picture(103, condition=100)) == Reading(3.0, 3)


def test_diagnostics_follow_the_task() -> None:
    ids = {name: [d.id for d in diagnostics(name)] for name in ("jpeg-v1", "hole-v1", "gray-v1")}
    assert ids == {
        "jpeg-v1": ["psnr"],
        "hole-v1": ["psnr", "known_region_error"],
        "gray-v1": ["psnr", "gray_consistency"],
    }


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
    with pytest.raises(UsageError, match="inception_score needs an extractor with a logits head"):
        planned([blind], labelled=False)
