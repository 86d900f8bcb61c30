"""`Evaluator`: any order, any batch, merged in any way, the same scores as `score`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from submissions import ready

from palette_bench import Evaluator, restore, score
from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import BenchSet
from palette_bench.benchset.sources import Request
from palette_bench.core.errors import IncomparableError, InputError, UsageError, WeightsError
from palette_bench.scoring import evaluator
from palette_bench.scoring.scorecard import Score

METRICS = ("fid", "kid", "inception_score", "classification_accuracy", "perceptual_distance")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def target(smoke_sets: Path) -> BenchSet:
    return BenchSet.open(smoke_sets / "inpainting.center128")


@pytest.fixture
def outputs(target: BenchSet) -> dict[str, np.ndarray]:
    return {i: target.condition(i) for i in target.ids}


def filled(target: BenchSet, outputs: dict[str, np.ndarray], ids: list[str], batch: int = 16) -> Evaluator:
    filling = Evaluator(target, METRICS)
    for start in range(0, len(ids), batch):
        part = ids[start : start + batch]
        filling.update(np.stack([outputs[i] for i in part]), part)
    return filling


def values(scores: dict[str, Score]) -> dict[str, float | None]:
    return {name: score.value for name, score in scores.items()}


def test_a_full_batch_in_order_gives_the_scores_of_the_command(
    target: BenchSet, outputs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    restore(ready("copy-input"), target, tmp_path / "sub")
    card = score(tmp_path / "sub", target.folder, tmp_path / "card.json")
    found = filled(target, outputs, target.ids).compute()
    assert list(found) == [
        *("frechet_distance", "kernel_distance", "classifier_score"),
        *("classification_agreement", "perceptual_distance"),
    ]
    assert {name: card.scores[name] for name in found} == found


def test_order_and_batches_move_scores_by_rounding_only(
    target: BenchSet, outputs: dict[str, np.ndarray]
) -> None:
    expected = values(filled(target, outputs, target.ids).compute())
    found = values(filled(target, outputs, target.ids[::-1], batch=5).compute())
    assert found == pytest.approx(expected, rel=1e-4)


def test_merging_is_associative_bit_for_bit(target: BenchSet, outputs: dict[str, np.ndarray]) -> None:
    parts = [target.ids[:5], target.ids[5:7], target.ids[7:]]
    left = [filled(target, outputs, part) for part in parts]
    left[0].merge(left[1])
    left[0].merge(left[2])
    right = [filled(target, outputs, part) for part in parts]
    right[1].merge(right[2])
    right[1].merge(right[0])
    assert left[0].compute() == right[1].compute()


def test_known_pixels_are_re_imposed(target: BenchSet) -> None:
    spoilt = {}
    for image_id in target.ids:
        mask, reference = target.mask(image_id), target.reference(image_id)
        assert mask is not None
        spoilt[image_id] = np.where(mask[:, :, None], reference, 255 - reference)
    assert values(filled(target, spoilt, target.ids).compute())["perceptual_distance"] == 0


def test_missing_images_are_named_and_a_partial_score_says_so(
    target: BenchSet, outputs: dict[str, np.ndarray]
) -> None:
    some = filled(target, outputs, target.ids[:7])
    with pytest.raises(InputError, match="PB201") as caught:
        some.compute()
    assert caught.value.problems[0].ids == tuple(target.ids[7:])  # type: ignore[union-attr]
    for found in some.compute(partial=True).values():
        assert found.n == 7
        assert "partial" in found.notes
    with pytest.raises(InputError, match="PB201"):
        Evaluator(target).compute(partial=True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x, i: (x.astype(np.float32) / 255, i), "uint8"),
        (lambda x, i: (x[:, ::2, ::2], i), r"\(2, 256, 256, 3\) uint8"),
        (lambda x, i: (x[..., :1], i), r"\(2, 256, 256, 3\) uint8"),
        (lambda x, i: (x.transpose(0, 3, 1, 2), i), r"\(2, 256, 256, 3\) uint8"),
        (lambda x, i: (x[:1], i), "2 ids need"),
        (lambda x, i: (x.tolist(), i), "not list"),
        (lambda x, i: (x, [i[0], i[0]]), "PB203"),
        (lambda x, i: (x, [i[0], "stranger"]), "PB202"),
    ],
    ids=["float", "size", "gray", "channels first", "count", "list", "twice", "unknown"],
)
def test_what_is_not_a_batch_of_outputs_is_refused_and_nothing_is_kept(
    spoil: Callable[..., tuple[np.ndarray, list[str]]],
    message: str,
    target: BenchSet,
    outputs: dict[str, np.ndarray],
) -> None:
    fed, ids = Evaluator(target), target.ids[:2]
    with pytest.raises(InputError, match=message):
        fed.update(*spoil(np.stack([outputs[i] for i in ids]), ids))
    fed.update(np.stack([outputs[i] for i in ids]), ids)  # the same ids are still free
    with pytest.raises(InputError, match="PB203"):
        fed.update(np.stack([outputs[i] for i in ids]), ids)


def test_evaluators_of_other_sets_or_with_shared_ids_do_not_merge(
    target: BenchSet, outputs: dict[str, np.ndarray], smoke_sets: Path
) -> None:
    one = filled(target, outputs, target.ids[:2])
    with pytest.raises(IncomparableError, match="different set"):
        one.merge(Evaluator(smoke_sets / "jpeg.qf5"))
    with pytest.raises(InputError, match="PB203"):
        one.merge(filled(target, outputs, target.ids[1:3]))


def test_only_the_networks_that_metrics_need_are_opened(smoke_sets: Path, tmp_path: Path) -> None:
    request = Request("folder:mine", smoke_sets / "jpeg.qf5" / "reference")
    (made,) = generate("palette-2022", "jpeg/qf5", tmp_path / "set", request=request)
    with pytest.raises(WeightsError) as caught:
        Evaluator(made.folder, ("fid",), weights={"inception-v3-fid": str(tmp_path / "none.pth")})
    assert "resnet50" not in str(caught.value)


def test_unknown_names_are_refused_before_a_network_is_opened(
    target: BenchSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluator, "open_extractor", None)
    with pytest.raises(UsageError, match="did you mean"):
        Evaluator(target, ("fdi",))
    with pytest.raises(UsageError, match="unknown reference"):
        Evaluator(target, reference="validation")


def test_one_image_has_no_distance_and_no_interval(tmp_path: Path, smoke_sets: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    reference = next((smoke_sets / "jpeg.qf5" / "reference").iterdir())
    (source / "only.png").write_bytes(reference.read_bytes())
    request = Request("folder:one", source)
    (made,) = generate("smoke", "jpeg/qf5", tmp_path / "set", request=request)
    alone = Evaluator(made.folder, METRICS)
    target = BenchSet.open(made.folder)
    alone.update(target.condition("only")[None], ["only"])
    scores = alone.compute()
    for name in ("frechet_distance", "kernel_distance"):
        assert scores[name].value is None
        assert "n<2" in scores[name].notes
    assert scores["perceptual_distance"].low is None
    assert "n<2" in scores["perceptual_distance"].notes
