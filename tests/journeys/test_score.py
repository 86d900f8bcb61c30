"""`score` from outputs to card: anchors, refusals, known pixels, and the feature cache."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from palette_bench import score
from palette_bench.benchset.manifest import BenchSet, ContestantSet
from palette_bench.core import png
from palette_bench.core.errors import BenchSetError, SubmissionError, UsageError, WeightsError
from palette_bench.core.fingerprint import table_digest
from palette_bench.core.interrupt import Interrupted
from palette_bench.scoring import run as scoring_run
from palette_bench.scoring.scorecard import Scorecard, read_scorecard, read_table, table_path
from palette_bench.submission.restore import load_baseline, restore

LOG = "palette_bench.scoring.features.cache"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "cache"
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(folder))
    monkeypatch.setattr(sys, "argv", ["palette-bench", "score"])
    yield folder
    if folder.is_dir():
        folder.chmod(0o755)


@pytest.fixture
def answer(smoke_sets: Path, tmp_path: Path) -> Callable[[str, str], Path]:
    """Return a function that restores a smoke set by an anchor."""

    def make(method: str, name: str) -> Path:
        folder = tmp_path / "submissions" / method / name
        restore(load_baseline(method), ContestantSet.open(smoke_sets / name), folder)
        return folder

    return make


def values(card: Scorecard) -> dict[str, float | None]:
    return {name: s.value for name, s in card.scores.items()}


@pytest.mark.parametrize("name", ["colorization", "inpainting.freeform-10-20", "jpeg.qf5"])
def test_originals_score_perfectly_and_inputs_do_not(
    name: str, smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    best, floor = (
        score(answer(method, name), smoke_sets / name, tmp_path / f"{method}.json")
        for method in ("original", "copy-input")
    )
    assert values(best) | {"psnr": 0, "classifier_score": 0} == values(best) | {
        "frechet_distance": 0.0,
        "perceptual_distance": 0.0,
        "classification_agreement": 100.0,
        "psnr": 0,
        "classifier_score": 0,
    }
    for metric in ("frechet_distance", "perceptual_distance", "classification_agreement", "psnr"):
        one, other = best.scores[metric], floor.scores[metric]
        assert one.value is not None
        assert other.value is not None
        assert one.value < other.value if one.direction == "lower" else one.value > other.value
    assert best.fingerprints.references == floor.fingerprints.references
    assert best.fingerprints.extractors == floor.fingerprints.extractors


def test_the_command_line_writes_a_card_that_reads_back(
    smoke_sets: Path,
    answer: Callable[[str, str], Path],
    tmp_path: Path,
    run_cli: Callable[..., object],
) -> None:
    submission, out = answer("copy-input", "jpeg.qf5"), tmp_path / "cards" / "one.json"
    done = run_cli("score", submission, "--set", smoke_sets / "jpeg.qf5", "-o", out)
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    assert done.stdout.strip() == str(out)  # type: ignore[attr-defined]
    assert "frechet_distance" in done.stderr  # type: ignore[attr-defined]
    assert f"palette-bench report {out}" in done.stderr  # type: ignore[attr-defined]
    card = read_scorecard(out)
    assert (card.protocol, card.task, card.variant, card.n_scored) == ("smoke", "jpeg", "qf5", 12)
    assert card.environment["level"] == "L0"
    assert str(tmp_path) not in out.read_text()
    assert card.watermarks == ("random-weights", "rank-deficient")


def test_the_per_image_table_holds_what_the_scores_are_means_of(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "card.json"
    card = score(answer("copy-input", "inpainting.center128"), smoke_sets / "inpainting.center128", out)
    table = read_table(card, out)
    assert list(table.columns) == [
        *("image_id", "label", "pixels", "is_kl", "top1", "perceptual_distance", "psnr"),
        "known_region_error",
    ]
    means = {name: table[name].mean() for name in ("perceptual_distance", "psnr", "known_region_error")}
    for name, mean in means.items():
        assert card.scores[name].value == pytest.approx(mean, rel=1e-12)
    assert card.scores["classification_agreement"].value == pytest.approx(100 * table["top1"].mean())
    assert card.scores["classifier_score"].value == pytest.approx(np.exp(table["is_kl"].mean()))
    assert (
        table_digest(dict(zip(table["image_id"], table["pixels"], strict=True))) == card.fingerprints.outputs
    )


def test_known_pixels_are_re_imposed_and_their_error_is_reported(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    name = "inpainting.center128"
    submission = answer("original", name)
    target = BenchSet.open(smoke_sets / name)
    for image_id in target.ids:
        mask = target.mask(image_id)
        assert mask is not None
        spoilt = np.where(mask[:, :, None], target.reference(image_id), 255 - target.reference(image_id))
        (submission / "outputs" / f"{image_id}.png").write_bytes(png.encode(spoilt))
    card = score(submission, smoke_sets / name, tmp_path / "card.json")
    assert card.scores["frechet_distance"].value == 0.0
    assert card.scores["perceptual_distance"].value == 0.0
    error = card.scores["known_region_error"]
    assert error.value is not None
    assert error.value > 50
    assert error.params["max"] == 255


# refusals: nothing is left behind


def test_a_broken_submission_is_refused_with_every_problem_and_nothing_is_written(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = answer("copy-input", "jpeg.qf5")
    outputs = sorted((submission / "outputs").iterdir())
    outputs[0].unlink()
    outputs[1].write_bytes(outputs[1].read_bytes()[:-20])
    monkeypatch.setattr(scoring_run, "open_extractor", None)  # no network is even opened
    with pytest.raises(SubmissionError) as caught:
        score(submission, smoke_sets / "jpeg.qf5", tmp_path / "cards" / "card.json")
    assert {p.code for p in caught.value.problems} >= {"PB201", "PB305"}
    assert not (tmp_path / "cards").exists()


def test_absent_weights_of_all_networks_are_named_before_anything_runs(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("PALETTE_BENCH_WEIGHTS", raising=False)
    names = ("inception-v3-fid", "resnet50-v1", "smoke-random")
    with pytest.raises(WeightsError) as caught:
        score(
            answer("copy-input", "jpeg.qf5"), smoke_sets / "jpeg.qf5", tmp_path / "c.json", extractors=names
        )
    assert "weights fetch inception-v3-fid" in str(caught.value)
    assert "weights fetch resnet50-v1" in str(caught.value)
    assert not (tmp_path / "c.json").exists()


def test_a_damaged_set_is_not_scored(
    smoke_copy: Callable[[str], Path], answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    folder = smoke_copy("inpainting.center128")
    target = BenchSet.open(folder)
    first, second = target.ids[:2]
    reference = target.reference(first).copy()
    reference[0, 0, 0] ^= 1
    target.path("reference", first).write_bytes(png.encode(reference))
    shutil.copy(target.path("input", first), target.path("input", second))
    with pytest.raises(BenchSetError, match="PB602") as caught:
        score(answer("original", "inpainting.center128"), folder, tmp_path / "card.json")
    assert caught.value.problems[0].ids == (first, second)
    assert not (tmp_path / "card.json").exists()


def test_a_stop_signal_ends_the_run_after_the_current_picture_without_a_card(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    seen: list[str] = []

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
        def advance(count: int) -> None:
            seen.append(label)
            if label == "reading":
                signal.raise_signal(signal.SIGTERM)

        yield advance

    submission = answer("copy-input", "jpeg.qf5")
    with pytest.raises(Interrupted) as caught:
        score(submission, smoke_sets / "jpeg.qf5", tmp_path / "card.json", progress=progress)
    assert caught.value.exit_code == 143
    assert seen.count("reading") == 1
    assert not list(tmp_path.glob("card*"))


def test_options_that_do_nothing_are_refused(smoke_sets: Path, tmp_path: Path) -> None:
    anything = (tmp_path, smoke_sets / "jpeg.qf5")
    with pytest.raises(UsageError, match="but the extractors are smoke-random"):
        score(*anything, tmp_path / "c.json", weights={"resnet50-v1": "random:0"})
    with pytest.raises(UsageError, match="is a folder"):
        score(*anything, tmp_path)
    with pytest.raises(UsageError, match="did you mean smoke-random"):
        score(*anything, tmp_path / "c.json", extractors=["smoke"])


# the cache


def test_cached_features_give_an_equal_card_without_running_the_network(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission, target, out = (
        answer("copy-input", "jpeg.qf10"),
        smoke_sets / "jpeg.qf10",
        tmp_path / "card.json",
    )
    score(submission, target, out)
    first = out.read_bytes(), gzip.decompress(table_path(out).read_bytes())
    score(submission, target, out, fresh=True)
    assert (out.read_bytes(), gzip.decompress(table_path(out).read_bytes())) == first
    monkeypatch.setattr(scoring_run, "extract", None)
    score(submission, target, out)
    assert (out.read_bytes(), gzip.decompress(table_path(out).read_bytes())) == first


def test_references_are_shared_by_all_sets_that_hold_them(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path, cache: Path
) -> None:
    score(answer("original", "jpeg.qf5"), smoke_sets / "jpeg.qf5", tmp_path / "a.json")
    score(answer("original", "colorization"), smoke_sets / "colorization", tmp_path / "b.json")
    assert len(list((cache / "features").iterdir())) == 1  # originals as outputs, as references, of both sets


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_entry_is_recomputed_and_said(
    damage: str,
    smoke_sets: Path,
    answer: Callable[[str, str], Path],
    tmp_path: Path,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    submission, target, out = answer("original", "jpeg.qf5"), smoke_sets / "jpeg.qf5", tmp_path / "card.json"
    score(submission, target, out)
    first = out.read_bytes()
    (entry,) = (cache / "features").iterdir()
    intact = entry.read_bytes()
    flipped = intact[:-5] + bytes([intact[-5] ^ 1]) + intact[-4:]
    entry.write_bytes({"cut": intact[:-9], "flipped": flipped, "emptied": b""}[damage])
    with caplog.at_level(logging.WARNING, LOG):
        score(submission, target, out)
    assert "PB808 info" in caplog.text
    assert out.read_bytes() == first
    caplog.clear()
    score(submission, target, out)  # the entry is whole again
    assert (caplog.text, out.read_bytes()) == ("", first)


def test_a_cache_that_cannot_be_written_costs_a_warning_only(
    smoke_sets: Path,
    answer: Callable[[str, str], Path],
    tmp_path: Path,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache.write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, LOG):
        card = score(answer("original", "jpeg.qf5"), smoke_sets / "jpeg.qf5", tmp_path / "card.json")
    assert "scored without a cache" in caplog.text
    assert card.scores["perceptual_distance"].value == 0.0


# other networks and the help


def test_two_networks_share_one_pass_and_each_metric_takes_the_first_that_fits(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    card = score(
        answer("copy-input", "jpeg.qf20"),
        smoke_sets / "jpeg.qf20",
        tmp_path / "card.json",
        extractors=["smoke-random", "timm:resnet18"],
        weights={"timm:resnet18": "random:1"},
    )
    used = {name: s.extractor for name, s in card.scores.items()}
    assert used == {
        "frechet_distance": "smoke-random",
        "classifier_score": "smoke-random",
        "classification_agreement": "timm:resnet18",
        "perceptual_distance": "smoke-random",
        "psnr": None,
    }
    assert set(card.fingerprints.extractors) == {"smoke-random", "timm:resnet18"}
    prints = card.fingerprints.references
    assert prints["frechet_distance"] == prints["perceptual_distance"] != prints["classification_agreement"]
    json.loads((tmp_path / "card.json").read_text(), parse_constant=pytest.fail)


def test_weights_verb_lists_and_refuses(run_cli: Callable[..., object], tmp_path: Path) -> None:
    empty = {"TORCH_HOME": str(tmp_path / "none"), "PALETTE_BENCH_WEIGHTS": str(tmp_path / "none")}
    listed = run_cli("weights", "list", **empty)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["inception-v3-fid", "resnet50-v1"]  # type: ignore[attr-defined]
    verified = run_cli("weights", "verify", "resnet50-v1", **empty)
    assert verified.returncode == 4  # type: ignore[attr-defined]
    assert "resnet50-v1 not found" in verified.stderr  # type: ignore[attr-defined]
    unknown = run_cli("weights", "fetch", "resnet", **empty)
    assert unknown.returncode == 2  # type: ignore[attr-defined]
