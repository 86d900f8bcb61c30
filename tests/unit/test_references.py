"""What FID compares with: statistics files, validation sets, the paper's original row."""

from __future__ import annotations

import io
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from PIL import Image as PillowImage

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import InputError, RecordError, SourceError, StorageError, UsageError
from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.core.processes import Interrupted
from palette_bench.core.types import SILENT
from palette_bench.scoring import references, validation_set
from palette_bench.scoring.card import judge, paper_row, tolerance
from palette_bench.scoring.evaluate import plan
from palette_bench.scoring.extraction import Extraction
from palette_bench.scoring.features import open_extractor
from palette_bench.scoring.features.cache import ArrayCache, cache_key
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.metrics.frechet import frechet_distance
from palette_bench.scoring.metrics.moments import Moments
from palette_bench.scoring.reference_resolver import ReferenceResolver
from palette_bench.scoring.references import ImageReference, ReferenceRequest, ValidationSet
from palette_bench.scoring.scorecard import Score
from palette_bench.scoring.statistics_files import read_statistics, write_statistics
from palette_bench.scoring.validation_set import compute
from palette_bench.tasks.preprocess import crop_area

D = 6
FEATURES = np.random.default_rng(1).normal(size=(40, D))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


# statistics files


def saved(path: Path, **arrays: object) -> Path:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue())
    return path


def test_what_is_exported_is_read_by_pytorch_fid_and_by_us(tmp_path: Path) -> None:
    fid_score = pytest.importorskip("pytorch_fid.fid_score", reason="pytorch-fid is an oracle only")
    moments, path = Moments.of(FEATURES), tmp_path / "s.npz"
    write_statistics(path, moments, "tf1", "f" * 64)
    mean, covariance = fid_score.compute_statistics_of_path(str(path), None, 1, D, "cpu")
    assert np.array_equal(mean, moments.mean)
    assert np.array_equal(covariance, moments.covariance)
    read = read_statistics(path, 40, D, "tf1")
    assert read.moments.equals(moments)
    with np.load(path, allow_pickle=False) as file:
        assert (int(file["n"]), str(file["mode"]), str(file["fingerprint"])) == (40, "tf1", "f" * 64)


def test_adms_extra_statistics_are_ignored_and_float32_means_widened(tmp_path: Path) -> None:
    moments = Moments.of(FEATURES)
    path = saved(
        tmp_path / "adm.npz",
        mu=moments.mean.astype(np.float32),
        sigma=moments.covariance,
        mu_s=np.zeros(3),
        sigma_s=np.array([{"an": "object"}]),
    )
    assert frechet_distance(read_statistics(path, 40, D, "tf1").moments, moments).value == pytest.approx(
        0, abs=1e-12
    )


GOOD = {"mu": np.zeros(D), "sigma": np.eye(D)}
SKEW = np.eye(D) + 1e-5 * np.triu(np.ones((D, D)), 1)
NEGATIVE = np.diag([1.0] * (D - 1) + [-1e-6])
SPOILT = np.eye(D)
SPOILT[2, 3] = np.nan


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"mu": np.zeros(D)}, "no sigma"),
        (GOOD | {"mu": np.zeros(D + 1)}, r"mu \(7,\)"),
        (GOOD | {"sigma": np.eye(D + 1)}, r"sigma \(7, 7\)"),
        (GOOD | {"mu": np.zeros(D, np.int64)}, r"mu \(6,\) int64"),
        (GOOD | {"mu": np.array([None] * D, object)}, r"mu \(6,\) object"),
        (GOOD | {"mu": np.full(D, np.inf)}, r"mean: 6 values are not finite, first at \(0,\)"),
        (GOOD | {"sigma": SPOILT}, r"covariance: 1 values are not finite, first at \(2, 3\)"),
        (GOOD | {"sigma": SKEW}, "not symmetric"),
        (GOOD | {"sigma": NEGATIVE}, "1 eigenvalues below zero, down to -1e-06, the largest 1"),
        (GOOD | {"sigma": -np.eye(D)}, "6 eigenvalues below zero"),
        (GOOD | {"n": np.array(41)}, "the file says n 41, the command says n 40"),
        (GOOD | {"mode": np.array("clean")}, "the file says mode clean, the command says mode tf1"),
        (GOOD | {"n": np.arange(9)}, r"n \(9,\)"),
    ],
    ids=[
        *("absent", "mean", "covariance", "integers", "objects", "infinite", "nan", "skew"),
        *("negative", "all negative", "other n", "other mode", "no number"),
    ],
)
def test_statistics_of_another_kind_are_refused_with_file_and_reason(
    arrays: dict[str, object], message: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(RecordError, match=message) as caught:
        read_statistics(path, 40, D, "tf1")
    assert (caught.value.problems[0].code, caught.value.problems[0].where) == ("PB412", "wrong.npz")


def test_a_covariance_of_more_dimensions_than_its_images_can_span_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "s.npz", **GOOD)
    assert read_statistics(path, D + 1, D, "tf1").moments.n == D + 1
    with pytest.raises(RecordError, match="a covariance of rank 6, which 6 images cannot have"):
        read_statistics(path, D, D, "tf1")


def test_the_one_pass_formula_in_float32_is_refused_where_it_is_no_covariance(tmp_path: Path) -> None:
    features = (np.random.default_rng(3).normal(size=(500, D)) * 0.001 + 50).astype(np.float32)
    features[:, 5] = features[:, 4]
    mean = features.mean(axis=0)
    sigma = (features.T @ features) / np.float32(500) - np.outer(mean, mean)
    path = saved(tmp_path / "onepass.npz", mu=mean, sigma=(sigma + sigma.T) / 2)
    with pytest.raises(RecordError, match=r"PB412(.|\n)*compute it in float64 of centred features"):
        read_statistics(path, 500, D, "tf1")


def test_a_covariance_stored_in_float32_is_taken(tmp_path: Path) -> None:
    features = np.random.default_rng(3).normal(size=(500, D))
    features[:, 5] = features[:, 4]  # singular, and rounding may leave it below zero
    moments = Moments.of(features)
    path = saved(tmp_path / "s.npz", mu=moments.mean, sigma=moments.covariance.astype(np.float32))
    assert read_statistics(path, 500, D, "tf1").moments.n == 500


def test_files_that_are_no_archives_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "cut.npz", **GOOD)
    path.write_bytes(path.read_bytes()[:-50])
    for data in (b"", b"not a zip", path.read_bytes()):
        path.write_bytes(data)
        with pytest.raises(RecordError, match="PB412"):
            read_statistics(path, 40, D, "tf1")
    with pytest.raises(StorageError, match="PB801"):
        read_statistics(tmp_path / "absent.npz", 40, D, "tf1")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ReferenceRequest("a.npz", n=3), "give both --mode MODE and --n N"),
        (ReferenceRequest("a.npz", mode="tf1"), "give both --mode MODE and --n N"),
        (ReferenceRequest("a.npz", mode="tf1", n=1), "at least 2, not 1"),
        (ReferenceRequest("originals", n=3), "--n belongs to --reference FILE.npz"),
        (ReferenceRequest("val-full@bicubic"), "unknown reference"),
        (ReferenceRequest("original"), "unknown reference"),
        (ReferenceRequest(images=Path()), "goes with --reference val-full@crop-area-v1"),
    ],
)
def test_requests_that_cannot_be_meant_are_refused(request_: ReferenceRequest, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        request_.require_sense()


# validation sets


@pytest.fixture(scope="module")
def network() -> FeatureExtractor:
    return open_extractor("smoke-random", None, "center224", "cpu")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten images in two class folders, larger than the protocol's side and not square."""
    folder, draw = tmp_path / "val", np.random.default_rng(5)
    for at in range(10):
        place = folder / f"n0{at % 2}" / f"val_{at:02d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        PillowImage.fromarray(draw.integers(0, 256, (90, 70 + at, 3), dtype=np.uint8)).save(place)
    return folder


@pytest.fixture
def build(network: FeatureExtractor, monkeypatch: pytest.MonkeyPatch) -> Callable[..., ImageReference]:
    monkeypatch.setattr(validation_set, "PART", 4)

    def run(
        folder: Path,
        progress: object = SILENT,
        name: str = "folder:x",
        sources: Mapping[str, str] = MappingProxyType({}),
    ) -> ImageReference:
        extraction = Extraction([network], ArrayCache("features"), "cpu", progress=progress)  # type: ignore[arg-type]
        wanted = ValidationSet(name, "crop-area-v1", 64, sources)
        return compute(wanted, folder, extraction, ArrayCache("statistics"))

    return run


def test_a_validation_set_is_every_image_preprocessed_in_sorted_order(
    build: Callable[..., ImageReference], images: Path, network: FeatureExtractor
) -> None:
    found = build(images)
    cropped = {
        path.stem: crop_area(np.asarray(PillowImage.open(path)), 64) for path in sorted(images.rglob("*.png"))
    }
    digests = {name: pixel_digest(image) for name, image in cropped.items()}
    assert (found.id, found.n) == ("val-full@crop-area-v1", 10)
    assert found.fingerprint(network) == cache_key(digests, network.fingerprint)
    rows = found.load("smoke-random")["pool"]
    assert rows.shape == (10, 64)
    assert len(np.unique(rows, axis=0)) == 10


def test_flat_and_class_folders_are_one_set(
    build: Callable[..., ImageReference], images: Path, network: FeatureExtractor, tmp_path: Path
) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in images.rglob("*.png"):
        shutil.copy(path, flat)
    assert build(flat).fingerprint(network) == build(images).fingerprint(network)


def test_a_killed_computation_takes_up_at_the_part_it_had_reached(
    build: Callable[..., ImageReference], images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from contextlib import contextmanager

    from palette_bench.scoring import extraction

    @contextmanager
    def killed(label: str, total: int) -> object:  # type: ignore[misc]
        done = []

        def advance(count: int) -> None:
            done.append(count)
            if sum(done) == 8:
                raise Interrupted(15)

        yield advance

    with pytest.raises(Interrupted):
        build(images, killed)
    seen, real = [], extraction.extract

    def counted(networks: object, batch: object, count: int, *rest: object, **more: object) -> object:
        seen.append(count)
        return real(networks, batch, count, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(extraction, "extract", counted)
    assert build(images).n == 10
    assert seen == [2]  # parts of 4 and 4 were kept


def test_it_is_remembered_without_images_and_lost_parts_are_named(
    build: Callable[..., ImageReference], images: Path, network: FeatureExtractor, cache: Path
) -> None:
    made = build(images)
    shutil.rmtree(images)
    wanted = ValidationSet("folder:x", "crop-area-v1", 64)
    found = wanted.remembered([network], ArrayCache("features"), ArrayCache("statistics"))
    assert found is not None
    assert found.keys == made.keys
    assert np.array_equal(found.load("smoke-random")["pool"], made.load("smoke-random")["pool"])
    for other in (ValidationSet("folder:y", "crop-area-v1", 64), ValidationSet("folder:x", "crop256-v1", 64)):
        assert other.remembered([network], ArrayCache("features"), ArrayCache("statistics")) is None
    next(iter((cache / "features").iterdir())).unlink()
    with pytest.raises(InputError, match="1 of 3 cached parts"):
        found.load("smoke-random")


def test_two_folders_of_one_name_never_share_a_validation_set(
    build: Callable[..., ImageReference], images: Path, network: FeatureExtractor
) -> None:
    made = {"a": sha256(b"one"), "b": sha256(b"two")}
    build(images, sources=made)
    kept = (network,), ArrayCache("features"), ArrayCache("statistics")
    assert ValidationSet("folder:x", "crop-area-v1", 64, dict(reversed(made.items()))).remembered(*kept)
    for other in ({"a": sha256(b"one")}, {"a": sha256(b"one"), "b": sha256(b"three")}):
        assert ValidationSet("folder:x", "crop-area-v1", 64, other).remembered(*kept) is None


@pytest.mark.parametrize(
    ("sources", "found"),
    [
        ({"elsewhere": sha256(b"")}, "a folder without them"),
        ({"val_03": sha256(b"")}, "another file of this name"),
    ],
)
def test_a_published_validation_set_must_hold_the_source_files_of_the_set(
    build: Callable[..., ImageReference], images: Path, sources: dict[str, str], found: str
) -> None:
    with pytest.raises(SourceError, match=rf"PB607(.|\n)*{found}"):
        build(images, name="imagenet", sources=sources)
    assert build(images, sources=sources).n == 10  # a folder may be compared with any images


def test_a_part_of_a_published_validation_set_bars_from_ranks(
    build: Callable[..., ImageReference], images: Path
) -> None:
    assert build(images, name="imagenet").notes == ("partial-reference",)
    assert build(images).notes == ()


def test_a_damaged_index_counts_as_none(
    build: Callable[..., ImageReference],
    images: Path,
    network: FeatureExtractor,
    cache: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    build(images)
    (entry,) = (cache / "references").iterdir()
    entry.write_text(json.dumps({"n": 10}))
    with caplog.at_level(logging.WARNING):
        assert ValidationSet("folder:x", "crop-area-v1", 64).entry(network) is None
    assert "PB808" in caplog.text


def test_an_undecodable_image_stops_everything_and_a_short_set_is_said(
    build: Callable[..., ImageReference], images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        build(images, name="imagenet")
    assert "10 images, not the 50000 of the whole" in caplog.text
    (images / "n00" / "val_02.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    with pytest.raises(SourceError, match=r"PB309(.|\n)*val_02\.png"):
        build(images)


def test_the_default_is_the_whole_validation_set_once_it_is_remembered(
    build: Callable[..., ImageReference],
    images: Path,
    network: FeatureExtractor,
    mini_jpeg: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = BenchSet.open(mini_jpeg)
    steps = plan(("frechet_distance",), [network], labelled=False)
    extraction = Extraction([network], ArrayCache("features"), "cpu")
    chooser = ReferenceResolver(target, extraction, ArrayCache("statistics"), steps)
    assert chooser.choose(ReferenceRequest()) is None
    with pytest.raises(UsageError, match="name its images once with --reference-images DIR"):
        chooser.choose(ReferenceRequest("val-full@crop-area-v1"))
    build(images, name="photos-64", sources=ValidationSet.of(target, "crop-area-v1").sources)
    asked = chooser.choose(ReferenceRequest("val-full@crop-area-v1"))
    assert asked is not None
    assert asked.id == "val-full@crop-area-v1"
    assert chooser.choose(ReferenceRequest()) is None  # nobody says that ten images are the whole
    monkeypatch.setitem(references._WHOLE, "photos-64", 10)
    found = chooser.choose(ReferenceRequest())
    assert found is not None
    assert found.id == asked.id
    assert chooser.choose(ReferenceRequest("originals")) is None


# the paper's original row


def test_the_papers_original_rows_are_those_of_the_protocol() -> None:
    elsewhere = {
        "fid": 2.7,
        "inception_score": 250.1,
        "classification_accuracy": 76.0,
        "perceptual_distance": 0,
    }
    for task in ("colorization", "uncropping", "jpeg"):
        assert paper_row("palette-2022", task, "imagenet-ctest10k") == elsewhere
    found = paper_row("palette-2022", "inpainting", "imagenet-ctest10k")
    assert (found["fid"], found["inception_score"], found["classification_accuracy"]) == (5.1, 231.6, 74.6)
    assert paper_row("palette-2022", "uncropping", "places10k-r1")["fid"] == 2.1
    assert paper_row("palette-2022", "inpainting", "places10k-r1")["fid"] == 11.4
    assert paper_row("palette-2022", "inpainting", "folder:mine") == {}
    assert paper_row("smoke", "inpainting", "smoke-photos") == {}


@pytest.mark.parametrize(
    ("metric", "paper", "allowed"),
    [
        ("fid", 2.7, 0.3),
        ("fid", 11.4, 1.14),
        ("inception_score", 250.1, 5),
        ("classification_accuracy", 76, 1),
    ],
)
def test_the_tolerances_are_those_of_the_protocol(metric: str, paper: float, allowed: float) -> None:
    assert tolerance(metric, paper) == pytest.approx(allowed)


def original(value: float, reference: str = "val-full@crop-area-v1", notes: tuple[str, ...] = ()) -> Score:
    params = {"original": value, "reference": reference}
    return Score(value=9.0, n=10_000, direction="lower", unit="", params=params, notes=notes)


def test_a_verdict_needs_the_papers_reference_and_real_weights() -> None:
    paper = {"fid": 2.7}
    assert judge("fid", original(2.95), paper).verdict == "on"
    assert judge("fid", original(3.05), paper).verdict == "off"
    assert "full validation set" in judge("fid", original(2.7, "originals"), paper).reason
    assert "random-weights" in judge("fid", original(2.7, notes=("random-weights",)), paper).reason
    assert "no such number" in judge("frechet_distance", original(2.7), paper).reason
