"""LPIPS and DISTS as metrics of a scorecard: values, columns, weights, ranks, and where they are computed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from submissions import original, ready, submit

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import BenchSet
from palette_bench.benchset.sources import Request
from palette_bench.board.comparability import identity, ranked_keys
from palette_bench.board.compare import compare
from palette_bench.board.paired_tests import RULES, contender, evidence
from palette_bench.board.record import read_proven
from palette_bench.core.errors import InputError, UsageError, WeightsError
from palette_bench.core.intervals import mean_t
from palette_bench.core.journal import Shard
from palette_bench.core.types import Image
from palette_bench.scoring import pair_scores
from palette_bench.scoring.evaluate import select_metrics
from palette_bench.scoring.evaluator import Evaluator
from palette_bench.scoring.features import open_pair_distance
from palette_bench.scoring.features.extractor import as_images
from palette_bench.scoring.metrics import RANKING_METRICS
from palette_bench.scoring.metrics.paired import PAIRED_METRICS
from palette_bench.scoring.score import score
from palette_bench.scoring.scorecard import Scorecard, read_table
from palette_bench.scoring.shards import merge_shards, score_shard
from palette_bench.submission.restore import restore
from palette_bench.tasks.protocol import ProtocolSpec

RANDOM = {"lpips-alex": "random:0", "dists-vgg16": "random:0"}
BOTH = tuple(PAIRED_METRICS)


@pytest.fixture(autouse=True)
def _no_stored_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("PALETTE_BENCH_WEIGHTS", raising=False)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


def answered(method: str, benchset: Path, home: Path) -> Path:
    folder = home / f"{benchset.name}.{method}"
    restore(ready(method), BenchSet.open(benchset), folder)
    return folder


def scored(
    benchset: Path, home: Path, *metrics: str, method: str = "copy-input", **options: Any
) -> Scorecard:
    home.mkdir(exist_ok=True)
    submission = answered(method, benchset, home)
    chosen = {"extractors": ("smoke-random",), "weights": RANDOM, **options}
    return score(submission, benchset, home / f"{submission.name}.json", metrics=metrics, **chosen)


# the arithmetic


@pytest.mark.parametrize("name", PAIRED_METRICS)
def test_the_score_is_the_mean_with_a_t_interval_over_images(name: str) -> None:
    values = np.random.default_rng(1).gamma(2.0, 0.1, 40)
    row = PAIRED_METRICS[name]
    found, interval = row.score(values[:, None]), mean_t(values)
    assert interval is not None
    assert (found.value, found.interval) == (pytest.approx(values.mean()), interval)
    assert np.array_equal(found.columns[row.column], values)
    one = row.score(values[:1, None])
    assert (one.value, one.interval, one.notes) == (values[0], None, ("n<2",))
    for broken in (values, values[:0, None], np.repeat(values[:, None], 2, axis=1)):
        with pytest.raises(InputError, match=f"{name} needs"):
            row.score(broken)
    with pytest.raises(InputError, match="first in row 3"):
        row.score(np.where(np.arange(40) == 3, np.nan, values)[:, None])


# scorecards


def test_a_card_holds_what_the_networks_say_of_each_pair(smoke_sets: Path, tmp_path: Path) -> None:
    benchset = smoke_sets / "jpeg.qf5"
    card = scored(benchset, tmp_path, *BOTH)
    assert tuple(card.scores) == BOTH
    target = BenchSet.open(benchset)
    table = read_table(card, tmp_path / "jpeg.qf5.copy-input.json")
    for name, row in PAIRED_METRICS.items():
        distance = open_pair_distance(row.distance, RANDOM)
        expected = [
            float(distance(as_images([target.condition(i)]), as_images([target.reference(i)]))[0])
            for i in sorted(target.ids)[:3]
        ]
        found = card.scores[name]
        assert table[row.column].to_numpy()[:3] == pytest.approx(expected, rel=1e-9)
        assert found.value == pytest.approx(table[row.column].mean())
        assert (found.interval, found.extractor, found.n) == ("mean-t-v1", row.distance, 12)
        assert "random-weights" in found.notes
        assert card.fingerprints.extractors[row.distance] == distance.fingerprint
        assert card.fingerprints.references[name] == found.reference


def test_only_scored_pixels_count_and_originals_are_at_0(smoke_sets: Path, tmp_path: Path) -> None:
    benchset = smoke_sets / "inpainting.center128"

    def framed(target: BenchSet, image_id: str) -> Image:
        """The original, with another frame, which is pasted over."""
        image = target.reference(image_id).copy()
        image[:8] ^= 255
        return image

    for name, draw in (("a", original), ("b", framed)):
        submission = submit(benchset, tmp_path / name, draw=draw)
        card = score(submission, benchset, tmp_path / f"{name}.json", metrics=["lpips"], weights=RANDOM)
        assert card.scores["lpips"].value == 0.0


def test_they_are_computed_if_named_or_ranked_and_not_otherwise(
    smoke_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = BenchSet.open(smoke_sets / "jpeg.qf5")
    chosen = select_metrics(target, ["smoke-random"], ["dists", "psnr"])
    assert (chosen.distances, chosen.features) == ((PAIRED_METRICS["dists"],), ())
    everything = select_metrics(target, ["smoke-random"])
    assert everything.distances == ()
    monkeypatch.setattr(ProtocolSpec, "ranked_metrics", lambda *_: ("lpips", "perceptual_distance"))
    ranked = select_metrics(target, ["smoke-random"])
    assert ranked.distances == (PAIRED_METRICS["lpips"],)
    assert "lpips" not in ranked.features
    card = scored(target.folder, tmp_path, weights={})
    assert (card.scores["lpips"].value, card.scores["lpips"].notes) == (None, ("no-weights",))
    assert card.scores["perceptual_distance"].value is not None
    assert "lpips-alex" not in card.fingerprints.extractors


def test_a_named_distance_without_weights_names_every_file(smoke_sets: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="PB705") as caught:
        scored(smoke_sets / "jpeg.qf5", tmp_path, *BOTH, weights={})
    for name in ("lpips-alex", "lpips-alex-heads", "dists-vgg16"):
        assert f"{name} not found" in str(caught.value)
    with pytest.raises(UsageError, match="did you mean lpips"):
        scored(smoke_sets / "jpeg.qf5", tmp_path / "b", "lpip")


# boards


def test_boards_rank_by_them(smoke_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ProtocolSpec, "ranked_metrics", lambda *_: ("lpips", "perceptual_distance"))
    benchset = smoke_sets / "jpeg.qf5"
    cards = [scored(benchset, tmp_path, method=method) for method in ("copy-input", "original")]
    paths = [tmp_path / f"jpeg.qf5.{method}.json" for method in ("copy-input", "original")]
    for card, path in zip(cards, paths, strict=True):
        assert ranked_keys(card) == ("lpips", "perceptual_distance")
        assert {("PB603", "extractor of LPIPS"), ("PB604", "reference of LPIPS")} <= identity(card).keys()
        table = evidence(read_table(card, path))
        found = contender(card, "lpips", table, tuple(table.index))
        assert np.array_equal(found.column, table["lpips"])  # type: ignore[union-attr]
    pair = compare(*(read_proven(path) for path in paths))
    (lpips,) = [m for m in pair.metrics if m.metric == "lpips"]
    assert lpips.differs
    assert lpips.delta == pytest.approx(cards[0].scores["lpips"].value)
    assert RANKING_METRICS.keys() >= RULES.keys() >= PAIRED_METRICS.keys()


# other ways to compute them


def test_shards_write_the_card_of_one_process(
    mini_jpeg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request("folder:few", mini_jpeg / "reference", limit=20)  # a whole micro-batch and a short one
    (made,) = generate("palette-mini", "inpainting/center32", tmp_path / "set", request=request)
    submission = submit(made.folder, tmp_path / "sub")
    options: dict[str, Any] = {"metrics": ["lpips"], "weights": RANDOM}
    whole = score(submission, made.folder, tmp_path / "whole" / "card.json", **options)
    arguments = (submission, made.folder, tmp_path / "card.json")
    assert score_shard(*arguments, Shard(1, 2), **options) is None
    with pytest.raises(InputError, match="PB605"):
        score_shard(*arguments, Shard(0, 2), **{**options, "metrics": ["psnr"]})
    card = score_shard(*arguments, Shard(0, 2), **options)
    assert card is not None
    assert card.scores == whole.scores
    assert card.per_image.sha256 == whole.per_image.sha256
    monkeypatch.setattr(pair_scores, "distances", None)  # all distances are there
    assert merge_shards(*arguments, **options).scores == whole.scores


def test_the_evaluator_gives_the_numbers_of_score(smoke_sets: Path, tmp_path: Path) -> None:
    benchset = smoke_sets / "jpeg.qf10"
    card = scored(benchset, tmp_path, "lpips", "perceptual_distance")
    target = BenchSet.open(benchset)
    halves = [
        Evaluator(target, tuple(card.scores), weights=RANDOM, extractors=["smoke-random"]) for _ in range(2)
    ]
    for half, ids in zip(halves, (target.ids[::2], target.ids[1::2]), strict=True):
        half.update(np.stack([target.condition(i) for i in ids]), ids)
    halves[0].merge(halves[1])
    assert halves[0].compute() == card.scores


@pytest.mark.parametrize("name", ["lpips", pytest.param("dists", marks=pytest.mark.long)])
def test_weaker_jpeg_loss_is_nearer_to_the_originals(name: str, smoke_sets: Path, tmp_path: Path) -> None:
    cards = [scored(smoke_sets / f"jpeg.qf{quality}", tmp_path, name) for quality in (5, 10, 20)]
    values = [card.scores[name].value or 0.0 for card in cards]
    assert all(worse > better > 0 for worse, better in pairwise(values)), values
