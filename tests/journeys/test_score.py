"""`score` from outputs to card: anchors, refusals, known pixels, and the feature cache."""

from __future__ import annotations

import gzip
import json
import logging
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from common import RunCli
from PIL import Image as PillowImage
from submissions import ready

from palette_bench import score
from palette_bench.benchset import manifest
from palette_bench.benchset.manifest import BenchSet, ContestantSet
from palette_bench.board.comparability import unfit
from palette_bench.board.report_content import provenance
from palette_bench.core import png
from palette_bench.core.errors import (
    BenchSetError,
    RecordError,
    StorageError,
    SubmissionError,
    UsageError,
    WeightsError,
)
from palette_bench.core.fingerprint import table_digest
from palette_bench.core.processes import Interrupted
from palette_bench.scoring import extraction
from palette_bench.scoring import score as run
from palette_bench.scoring.features.weights import pinned
from palette_bench.scoring.scorecard import Scorecard, read_scorecard, read_table, table_path
from palette_bench.submission import files
from palette_bench.submission.restore import restore

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
        restore(ready(method), ContestantSet.open(smoke_sets / name), folder)
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
    perfect = {"frechet_distance": 0.0, "kernel_distance": 0.0, "perceptual_distance": 0.0}
    assert values(best) | perfect | {"classification_agreement": 100.0} == values(best)
    assert best.scores["ssim"].value == pytest.approx(1.0)
    kernel = best.scores["kernel_distance"]
    assert (kernel.low, kernel.high, kernel.interval) == (0.0, 0.0, "paired-ustat-v1")
    for metric in (
        "frechet_distance",
        "kernel_distance",
        "perceptual_distance",
        "classification_agreement",
        "psnr",
    ):
        one, other = best.scores[metric], floor.scores[metric]
        assert one.value is not None
        assert other.value is not None
        assert one.value < other.value if one.direction == "lower" else one.value > other.value
    assert best.fingerprints.references == floor.fingerprints.references
    assert best.fingerprints.extractors == floor.fingerprints.extractors


@pytest.mark.long
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


def test_a_network_of_ones_own_serves_every_head_and_may_rank(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "own.pth"
    torch.save(timm.create_model("resnet18", pretrained=False).state_dict(), weights)
    submission, target = answer("copy-input", "jpeg.qf5"), smoke_sets / "jpeg.qf5"
    name = "timm:resnet18"
    card = score(submission, target, tmp_path / "card.json", extractors=[name], weights={name: str(weights)})
    assert card.watermarks == ("rank-deficient",)
    assert "unpinned-weights" in card.scores["perceptual_distance"].notes
    assert unfit(card, "perceptual_distance") == []
    of_network = {metric for metric, found in card.scores.items() if found.extractor == name}
    assert {"frechet_distance", "classifier_score", "classification_agreement"} < of_network


@pytest.mark.long
def test_a_card_says_whose_network_it_is_and_its_licence(mini_sets: Path, tmp_path: Path) -> None:
    restore(ready("original"), ContestantSet.open(mini_sets / "jpeg.qf5"), tmp_path / "sub")
    card = score(tmp_path / "sub", mini_sets / "jpeg.qf5", tmp_path / "card.json")
    assert set(card.fingerprints.extractors) == {"efficientnet-lite0"}
    (words,) = (card.networks or {}).values()
    assert "Apache-2.0" in words
    assert "ported to PyTorch by ML Illustrated" in words
    assert "weights efficientnet-lite0" in provenance(card)


def test_the_per_image_table_holds_what_the_scores_are_means_of(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "card.json"
    card = score(answer("copy-input", "inpainting.center128"), smoke_sets / "inpainting.center128", out)
    table = read_table(card, out)
    assert list(table.columns) == [
        *("image_id", "label", "pixels", "is_kl", "top1", "perceptual_distance", "perceptual_distance_root"),
        *("kid_influence", "kid_influence_halves", "psnr", "ssim", "known_region_error", "colour_shift"),
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
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    submission = answer("copy-input", "jpeg.qf5")
    outputs = sorted((submission / "outputs").iterdir())
    outputs[0].unlink()
    outputs[1].write_bytes(outputs[1].read_bytes()[:-20])
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


@pytest.mark.parametrize("task", ["jpeg.qf5", "inpainting.freeform-20-30", "colorization"])
def test_any_number_of_workers_writes_the_same_scores_and_table(
    smoke_sets: Path,
    answer: Callable[[str, str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
) -> None:
    monkeypatch.setattr("palette_bench.submission.check._FOR_PROCESSES", 1)
    submission = answer("copy-input", task)
    found = []
    for workers in (1, 2):
        out = tmp_path / f"{workers}.json"
        card = score(submission, smoke_sets / task, out, metrics=["psnr", "ssim"], workers=workers)
        table = (tmp_path / f"{workers}.images.csv.gz").read_bytes()
        found.append((card.scores, card.problems, card.fingerprints, table))
    assert found[0] == found[1]


@pytest.mark.trust("people: networks first")
def test_networks_are_opened_before_the_long_check(
    smoke_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SubmissionCheck", None)
    with pytest.raises(WeightsError, match=r"absent\.npz"):
        score(
            tmp_path / "sub", smoke_sets / "jpeg.qf5", tmp_path / "c.json",
            extractors=["timm:resnet18"], weights={"timm:resnet18": str(tmp_path / "absent.npz")},
        )  # fmt: skip


@pytest.mark.trust("people: what it can")
def test_a_network_without_classes_serves_what_it_can_and_the_card_says_what_is_missing(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "timm:convnextv2_atto.fcmae"
    card = score(
        answer("copy-input", "jpeg.qf5"), smoke_sets / "jpeg.qf5", tmp_path / "c.json",
        extractors=[name, "googlenet-v1", "timm:resnet18"][:1], weights={name: "random:1"},
    )  # fmt: skip
    assert {"frechet_distance", "kernel_distance", "perceptual_distance", "psnr"} <= card.scores.keys()
    missing = {p.where: p.found for p in card.problems if p.code == "PB207"}
    assert missing == {"classifier_score": name, "classification_agreement": name}
    assert "left out" not in caplog.text


@pytest.mark.trust("people: what it can")
def test_a_network_that_no_metric_reads_is_said_and_costs_nothing(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card = score(
        answer("copy-input", "jpeg.qf5"), smoke_sets / "jpeg.qf5", tmp_path / "c.json",
        extractors=["smoke-random", "timm:resnet18"], weights={"timm:resnet18": "random:1"},
        metrics=["kid", "psnr"],
    )  # fmt: skip
    assert list(card.scores) == ["kernel_distance", "psnr"]
    assert "no metric uses timm:resnet18: ignored" in caplog.text
    assert list(card.fingerprints.extractors) == ["smoke-random"]


@pytest.mark.long
@pytest.mark.trust("people: what it can")
def test_metrics_are_chosen_by_name_and_pixels_need_no_network(
    run_cli: RunCli, smoke_sets: Path, answer: Callable[[str, str], Path]
) -> None:
    words = ("score", answer("copy-input", "jpeg.qf5"), "--set", smoke_sets / "jpeg.qf5", "-o", "c.json")
    done = run_cli(*words, "--metrics", "psnr,ssim", TORCH_HOME="/nowhere")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stderr.splitlines()[:2]] == ["psnr", "ssim"]
    wrong = run_cli(*words, "--metrics", "fdi,hole_psnr,psnr")
    assert wrong.returncode == 2
    assert "unknown metric 'fdi': did you mean fid" in wrong.stderr


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


def test_a_stop_signal_ends_the_run_after_the_current_image_without_a_card(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    seen: list[str] = []

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
        def advance(count: int) -> None:
            seen.append(label)
            if label == "checking":
                signal.raise_signal(signal.SIGTERM)

        yield advance

    submission = answer("copy-input", "jpeg.qf5")
    with pytest.raises(Interrupted) as caught:
        score(submission, smoke_sets / "jpeg.qf5", tmp_path / "card.json", progress=progress)
    assert caught.value.exit_code == 143
    assert seen.count("checking") == 1
    assert not list(tmp_path.glob("card*"))


def test_options_that_do_nothing_are_refused(smoke_sets: Path, tmp_path: Path) -> None:
    anything = (tmp_path, smoke_sets / "jpeg.qf5")
    with pytest.raises(UsageError, match="but the extractors are smoke-random"):
        score(*anything, tmp_path / "c.json", weights={"resnet50-v1": "random:0"})
    with pytest.raises(UsageError, match="is a folder"):
        score(*anything, tmp_path)
    with pytest.raises(UsageError, match="did you mean smoke-random"):
        score(*anything, tmp_path / "c.json", extractors=["smoke-rand"])


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
    monkeypatch.setattr(extraction, "extract", None)
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


# references, statistics, partial submissions, several samples


def test_exported_statistics_come_back_as_a_reference_that_never_ranks(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    target, exported = smoke_sets / "jpeg.qf5", tmp_path / "originals.npz"
    score(answer("original", "jpeg.qf5"), target, tmp_path / "a.json", export_statistics=exported)
    floor = answer("copy-input", "jpeg.qf5")
    own = score(floor, target, tmp_path / "b.json").scores["frechet_distance"]
    options = {"reference": str(exported), "mode": "tf1", "n": 12}
    card = score(floor, target, tmp_path / "c.json", **options)  # type: ignore[arg-type]
    imported = card.scores["frechet_distance"]
    assert imported.value == pytest.approx(own.value, rel=1e-9)
    assert imported.params["reference"].startswith("imported:")
    assert imported.params["reference_n"] == 12
    assert imported.reference != own.reference
    assert "imported-reference" in card.watermarks
    kernel = card.scores["kernel_distance"]
    assert (kernel.value, "needs-features" in kernel.notes) == (None, True)
    with pytest.raises(RecordError, match="PB412"):
        score(floor, target, tmp_path / "d.json", **options, extractors=["timm:resnet18"],  # type: ignore[arg-type]
              weights={"timm:resnet18": "random:1"})  # fmt: skip
    assert not (tmp_path / "d.json").exists()


def test_a_validation_set_is_the_reference_that_was_asked_for(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    target, submission = smoke_sets / "inpainting.center128", answer("original", "inpainting.center128")
    options = {"reference": "val-full@crop-area-v1", "reference_images": target / "reference"}
    card = score(submission, target, tmp_path / "a.json", **options)  # type: ignore[arg-type]
    distance = card.scores["frechet_distance"]
    # the same twelve images: the distance is 0, the identity another name for the same pixels
    assert (distance.value, distance.params["reference"]) == (0.0, "val-full@crop-area-v1")
    assert distance.params["original"] == 0.0
    own = score(submission, target, tmp_path / "b.json", reference="originals").scores["frechet_distance"]
    assert own.reference == distance.reference
    assert own.params["reference"] == "originals"


@pytest.mark.long
def test_fid_on_a_matched_crop_stands_beside_it_where_it_is_remembered(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    target, submission = smoke_sets / "inpainting.center128", answer("copy-input", "inpainting.center128")
    fid = {"extractors": ["inception-v3-fid"], "weights": {"inception-v3-fid": "random:3"}}
    images = tmp_path / "val"
    images.mkdir()
    for path in sorted((target / "reference").iterdir())[:3]:
        shutil.copy(path, images)
    matched = {"reference": "val-full@crop256-v1", "reference_images": images}
    first = score(submission, target, tmp_path / "a.json", **matched, **fid)  # type: ignore[arg-type]
    assert "fid_matched" not in first.scores
    card = score(submission, target, tmp_path / "b.json", **fid)  # type: ignore[arg-type]
    assert "fid" not in card.scores  # that name is for a validation set
    assert card.scores["fid_originals"].params["reference"] == "originals"
    both = card.scores["fid_matched"]
    assert (both.value, both.reference) == (first.scores["fid"].value, first.scores["fid"].reference)
    assert both.params["reference"] == "val-full@crop256-v1"


@pytest.mark.long
def test_two_folders_of_one_name_never_share_a_remembered_reference(
    tmp_path: Path, answer: Callable[[str, str], Path], run_cli: Callable[..., object]
) -> None:
    """Sets of folder A and folder B are both called folder:mine; B must not be scored against A's images."""
    draw = np.random.default_rng(8)
    for name, level in (("A", 60), ("B", 200)):
        (tmp_path / name).mkdir()
        for at in range(4):
            noise = draw.integers(0, 50, (70, 70, 3), dtype=np.uint8)
            PillowImage.fromarray(noise + np.uint8(level)).save(tmp_path / name / f"p{at}.png")
        made = run_cli(
            *("generate", "palette-mini", "jpeg/qf5", "--source", "folder:mine"),
            *("--images", tmp_path / name, "-o", tmp_path / f"set-{name}"),
        )
        assert made.returncode == 0, made.stderr  # type: ignore[attr-defined]
        restore(ready("copy-input"), ContestantSet.open(tmp_path / f"set-{name}"), tmp_path / f"sub-{name}")
    score_b = ("score", "sub-B", "--set", "set-B", "--extractor", "smoke-random", "-o", "b.json")
    score_a = ("score", "sub-A", "--set", "set-A", "--extractor", "smoke-random", "-o", "a.json")
    asked = ("--reference", "val-full@crop-area-v1")
    assert run_cli(*score_a, *asked, "--reference-images", "A").returncode == 0  # type: ignore[attr-defined]
    refused = run_cli(*score_b, *asked)
    assert refused.returncode == 2  # type: ignore[attr-defined]
    assert "name its images once with --reference-images DIR" in refused.stderr  # type: ignore[attr-defined]
    assert run_cli(*score_b, *asked, "--reference-images", "B").returncode == 0  # type: ignore[attr-defined]
    assert run_cli(*score_a, *asked).returncode == 0  # type: ignore[attr-defined]
    cards = [read_scorecard(tmp_path / name) for name in ("a.json", "b.json")]
    prints = {card.fingerprints.references["frechet_distance"] for card in cards}
    assert len(prints) == 2


def test_a_partial_submission_is_scored_only_when_asked_and_says_so(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    submission, target = answer("copy-input", "jpeg.qf5"), smoke_sets / "jpeg.qf5"
    lost, renamed, *_ = sorted((submission / "outputs").iterdir())
    lost.unlink()
    renamed.rename(renamed.with_name("stranger.png"))
    with pytest.raises(SubmissionError, match="PB201"):
        score(submission, target, tmp_path / "card.json")
    card = score(submission, target, tmp_path / "card.json", partial=True)
    assert (card.n_scored, card.n_expected) == (10, 12)
    assert all("partial" in s.notes and s.n == 10 for s in card.scores.values())
    assert "partial" in card.watermarks
    assert {p.code: p.severity for p in card.problems}.items() >= {
        ("PB205", "warning"), ("PB201", "warning"), ("PB202", "warning")
    }  # fmt: skip
    assert len(read_table(card, tmp_path / "card.json")) == 10
    sorted((submission / "outputs").iterdir())[0].write_bytes(b"no image")
    with pytest.raises(SubmissionError, match="PB301"):  # a damaged file is no missing one
        score(submission, target, tmp_path / "d.json", partial=True)


def test_previews_are_watermarked_and_do_not_claim_equal_bits(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    card = score(
        answer("copy-input", "jpeg.qf5"), smoke_sets / "jpeg.qf5", tmp_path / "c.json", precision="bf16"
    )
    assert "preview" in card.watermarks
    assert (card.environment["dtype"], card.environment["level"]) == ("bfloat16", "L2")


def test_several_samples_are_told_apart(
    smoke_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("PALETTE_BENCH_WEIGHTS", raising=False)
    target, submission = BenchSet.open(smoke_sets / "jpeg.qf5"), tmp_path / "sub"
    restore(ready("copy-input"), target, submission)
    declared = submission / "submission.toml"
    declared.write_text(declared.read_text().replace("samples_per_image = 1", "samples_per_image = 3"))
    for sample, other in ((1, "jpeg.qf10"), (2, "jpeg.qf10")):
        shutil.copytree(smoke_sets / other / "input", submission / "samples" / str(sample))
    card = score(submission, target.folder, tmp_path / "a.json")
    likeness = card.scores["diversity_ms_ssim"]
    assert likeness.value is not None
    assert 0.5 < likeness.value < 1
    assert (likeness.params, likeness.n) == ({"samples": 3, "pairs": "first"}, 12)
    assert card.scores["diversity_lpips"].notes == ("no-weights",)
    drawn = score(submission, target.folder, tmp_path / "b.json", weights={"lpips-alex": "random:1"})
    lpips = drawn.scores["diversity_lpips"]
    assert lpips.value is not None
    assert lpips.value > 0  # samples 1 and 2 differ, samples 2 and 3 do not
    assert "random-weights" in lpips.notes


@pytest.mark.long
def test_calibration_and_explanation_are_printed(
    mini_sets: Path, tmp_path: Path, run_cli: Callable[..., object]
) -> None:
    restore(ready("copy-input"), ContestantSet.open(mini_sets / "jpeg.qf5"), tmp_path / "sub")
    arguments = ("sub", "--set", mini_sets / "jpeg.qf5", "--extractor", "smoke-random", "-o", "card.json")
    done = run_cli("score", *arguments, "--calibrate", "--explain", 3)
    assert done.returncode == 0, done.stderr  # type: ignore[attr-defined]
    text = done.stderr  # type: ignore[attr-defined]
    assert "reference    originals, 256 images" in text
    assert "the paper has no original row for jpeg on photos-64" in text
    card = read_scorecard(tmp_path / "card.json")
    table = read_table(card, tmp_path / "card.json")
    strongest = table.loc[table["fid_influence"].abs().nlargest(3).index, "image_id"]
    places = [text.index(f"  {name} ") for name in strongest]
    assert places == sorted(places)
    assert card.scores["frechet_distance"].interval == "paired-influence-v1"


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--reference", "x.npz"), 2, "give both --mode MODE and --n N"),
        (("--reference", "val-full@crop-area-v1"), 2, "--reference-images DIR"),
        (("--reference", "x.npz", "--mode", "tf1", "--n", "9"), 5, "PB801"),
        (("--weights", "smoke-random"), 2, "is not ID=PATH"),
    ],
)
def test_references_that_cannot_be_had_are_refused(
    options: tuple[str, ...],
    code: int,
    message: str,
    smoke_sets: Path,
    answer: Callable[[str, str], Path],
    tmp_path: Path,
    run_cli: Callable[..., object],
) -> None:
    submission = answer("copy-input", "jpeg.qf5")
    done = run_cli("score", submission, "--set", smoke_sets / "jpeg.qf5", "-o", "card.json", *options)
    assert done.returncode == code, done.stderr  # type: ignore[attr-defined]
    assert message in done.stderr  # type: ignore[attr-defined]
    assert not (tmp_path / "card.json").exists()


def test_a_card_that_cannot_be_written_is_said_before_networks_run(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    monkeypatch.setattr(extraction, "extract", None)
    submission = answer("copy-input", "jpeg.qf5")
    with pytest.raises(StorageError, match="PB802"):
        score(submission, smoke_sets / "jpeg.qf5", tmp_path / "taken" / "card.json")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_an_absent_gpu_ends_with_exit_4(
    smoke_sets: Path, answer: Callable[[str, str], Path], run_cli: Callable[..., object]
) -> None:
    submission = answer("copy-input", "jpeg.qf5")
    done = run_cli("score", submission, "--set", smoke_sets / "jpeg.qf5", "-o", "c.json", "--device", "cuda")
    assert done.returncode == 4  # type: ignore[attr-defined]
    assert "PB707" in done.stderr  # type: ignore[attr-defined]


def test_mixed_up_ids_are_scored_with_a_warning_that_names_the_pairs(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path
) -> None:
    submission = answer("copy-input", "jpeg.qf20")
    first, second = (submission / "outputs" / f"{name}.png" for name in ("astronaut", "retina"))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    card = score(submission, smoke_sets / "jpeg.qf20", tmp_path / "card.json")
    (found,) = (p for p in card.problems if p.code == "PB325")
    assert (found.severity, "astronaut shows retina" in found.found) == ("warning", True)


def test_each_image_is_read_twice_at_most(
    smoke_sets: Path, answer: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: Counter[str] = Counter()
    real = png.read_regular

    def counted(path: Path, limit: int = png.MAX_BYTES) -> bytes:
        counts["/".join(path.parts[-2:])] += path.suffix == ".png"
        return real(path, limit)

    submission = answer("copy-input", "inpainting.center128")
    monkeypatch.setattr(files, "read_regular", counted)
    monkeypatch.setattr(manifest, "read_regular", counted)
    score(submission, smoke_sets / "inpainting.center128", tmp_path / "card.json")
    assert max(counts.values()) == 2
    assert len([name for name, count in counts.items() if count]) == 4 * 12


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
        "kernel_distance": "smoke-random",
        **dict.fromkeys(("psnr", "ssim", "colour_shift")),
    }
    assert set(card.fingerprints.extractors) == {"smoke-random", "timm:resnet18"}
    prints = card.fingerprints.references
    assert prints["frechet_distance"] == prints["perceptual_distance"] != prints["classification_agreement"]
    json.loads((tmp_path / "card.json").read_text(), parse_constant=pytest.fail)


def test_weights_verb_lists_and_refuses(run_cli: Callable[..., object], tmp_path: Path) -> None:
    empty = {"TORCH_HOME": str(tmp_path / "none"), "PALETTE_BENCH_WEIGHTS": str(tmp_path / "none")}
    listed = run_cli("weights", "list", **empty)
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(pinned())  # type: ignore[attr-defined]
    verified = run_cli("weights", "verify", "resnet50-v1", **empty)
    assert verified.returncode == 4  # type: ignore[attr-defined]
    assert "resnet50-v1 not found" in verified.stderr  # type: ignore[attr-defined]
    unknown = run_cli("weights", "fetch", "resnet", **empty)
    assert unknown.returncode == 2  # type: ignore[attr-defined]
