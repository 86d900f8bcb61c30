"""`check`: what passes, what is found, and that nothing of a stranger's is trusted."""

from __future__ import annotations

import io
import json
import os
import shutil
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from common import RunCli
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PillowImage
from submissions import copied, original, plausible, submit, write_card, zipped

from palette_bench.benchset.manifest import BenchSet, export_public
from palette_bench.core.errors import BenchSetError, SubmissionError
from palette_bench.core.fingerprint import lines_digest, pixel_digest
from palette_bench.core.png import MAX_BYTES, PngError, encode
from palette_bench.core.types import Image
from palette_bench.submission.archive import SPARE_ENTRIES
from palette_bench.submission.card import CARD
from palette_bench.submission.check import CheckReport, check, read_output
from palette_bench.submission.files import open_submission

N = 12  # images of a smoke set
SIDE = 256


@pytest.fixture(scope="module")
def benchset(smoke_sets: Path) -> Path:
    return smoke_sets / "jpeg.qf5"


def found(report: CheckReport) -> list[tuple[str, str, int]]:
    return [(p.code, p.severity, p.count) for p in report.problems]


def codes(report: CheckReport) -> list[str]:
    return [p.code for p in report.problems]


def edit(folder: Path, old: str, new: str) -> None:
    card = folder / "submission.toml"
    assert old in card.read_text()
    card.write_text(card.read_text().replace(old, new))


# ---- what passes


def test_a_fair_submission_passes_on_every_set_without_a_word(smoke_sets: Path, tmp_path: Path) -> None:
    folders = sorted(smoke_sets.iterdir())
    assert len(folders) == 15
    for folder in folders:
        report = check(submit(folder, tmp_path / folder.name), folder)
        assert report.problems == ()
        assert report.ok
        assert len(report.checked) == 8


def test_the_pixels_and_the_outputs_digest_are_those_of_the_files(sound: Path, benchset: Path) -> None:
    report = check(sound, benchset)
    for image_id, digest in report.pixels.items():
        with PillowImage.open(sound / "outputs" / f"{image_id}.png") as image:
            assert digest == pixel_digest(np.asarray(image))
    assert sorted(report.pixels) == BenchSet.open(benchset).ids
    assert report.outputs == lines_digest(f"{i} {d}" for i, d in sorted(report.pixels.items()))


def test_a_zip_and_its_folder_are_one_submission(sound: Path, benchset: Path, tmp_path: Path) -> None:
    report = check(zipped(sound, tmp_path / "sub.zip"), benchset)
    assert report == check(sound, benchset)
    assert report.problems == ()


def test_worker_processes_find_what_threads_find(
    sub: Path, benchset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palette_bench.submission.check._FOR_PROCESSES", 1)
    files = sorted((sub / "outputs").iterdir())
    files[0].write_bytes(b"no image")
    files[1].write_bytes(files[1].read_bytes()[:-20])
    files[2].write_bytes(files[3].read_bytes())
    for submission in (sub, zipped(sub, tmp_path / "sub.zip")):
        threads, processes = (check(submission, benchset, workers=n) for n in (1, 2))
        assert threads.to_json() == processes.to_json()
        assert {"PB301", "PB305", "PB323"} <= set(codes(threads))


def test_a_damaged_set_is_said_by_worker_processes_too(
    sub: Path, benchset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palette_bench.submission.check._FOR_PROCESSES", 1)
    damaged = tmp_path / "set"
    shutil.copytree(benchset, damaged)
    victim = sorted((damaged / "input").iterdir())[0]
    victim.write_bytes(b"no image")
    with pytest.raises(BenchSetError, match=f"PB301(.|\n)*{victim.name}"):
        check(sub, damaged, workers=2)


@pytest.mark.trust("people: public part")
def test_a_contestant_checks_against_the_public_part_and_finds_the_same(
    sub: Path, benchset: Path, tmp_path: Path
) -> None:
    export_public(benchset, tmp_path / "public")
    whole, public = check(sub, benchset), check(sub, tmp_path / "public")
    assert (public.problems, public.pixels, public.card) == ((), whole.pixels, whole.card)
    assert set(whole.checked) - set(public.checked) == {"no output looks copied, mixed up or lossy"}
    assert not public.whole
    first, second = sorted((sub / "outputs").iterdir())[:2]
    first.write_bytes(second.read_bytes())
    second.unlink()
    assert found(check(sub, tmp_path / "public")) == found(check(sub, benchset))


@pytest.mark.trust("people: no card")
@pytest.mark.parametrize("place", ["", "outputs/", "results/png/"])
def test_a_folder_of_images_without_a_card_is_told_the_command_that_writes_one(
    place: str, sub: Path, benchset: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(sub / "outputs", folder / place)
    (said,) = [p for p in check(folder, benchset).problems if p.code == "PB101"]
    where = (folder / place).as_posix()
    assert said.found == f"{len(BenchSet.open(benchset).ids)} images in {where}"
    assert f"restore adapter:folder --set {benchset} --import {where} -o SUB --name NAME" in said.fix
    assert f"evaluate {where} --set {benchset} -o OUT --name NAME" in said.fix


@pytest.mark.trust("people: placeholders")
def test_a_card_that_nobody_completed_is_warned_of(sub: Path, benchset: Path) -> None:
    card = (sub / CARD).read_text().replace('license = "CC0-1.0"', 'license = "unknown"')
    (sub / CARD).write_text(card.replace('authors = ["A. Nobody"]', 'authors = ["unknown"]'))
    (said,) = check(sub, benchset).problems
    assert (said.code, said.severity) == ("PB413", "warning")
    assert said.found == "authors, license"
    assert found(check(sub, benchset, strict=True)) == [("PB413", "error", 1)]


@pytest.mark.trust("archives: wrapping folder")
@pytest.mark.parametrize("zip_it", [True, False])
@pytest.mark.parametrize("inner", ["sub", "a/b c/sub"])
def test_one_folder_around_a_submission_is_looked_through_and_said(
    zip_it: bool, inner: str, sub: Path, benchset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outer = tmp_path / "outer"
    shutil.copytree(sub, outer / inner)
    (outer / ".DS_Store").write_bytes(b"x")
    given = zipped(outer, tmp_path / "outer.zip") if zip_it else outer
    with caplog.at_level("INFO"):
        assert check(given, benchset) == check(sub, benchset)
    assert f"the submission lies in {inner}/ of {given.name}" in caplog.text


@pytest.mark.trust("archives: Finder")
def test_a_zip_with_the_twins_that_macos_adds_is_the_submission(
    sub: Path, benchset: Path, tmp_path: Path
) -> None:
    for path in [p for p in sub.rglob("*") if p.is_file()]:
        twin = sub / "__MACOSX" / path.relative_to(sub).parent / f"._{path.name}"
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.write_bytes(bytes(4096))  # compresses by more than any image may
    for number in range(70):  # more than the cap spares
        (sub / "__MACOSX" / f"._{number}").write_bytes(b"x")
    (sub / "outputs" / ".DS_Store").write_bytes(bytes(6148))
    assert check(zipped(sub, tmp_path / "sub.zip"), benchset).problems == ()


@pytest.mark.trust("archives: digest")
def test_the_digest_that_generate_prints_names_the_set(sub: Path, benchset: Path) -> None:
    digest = BenchSet.open(benchset).manifest.set_fingerprint
    card = (sub / CARD).read_text()
    (sub / CARD).write_text(card.replace(digest, digest[:12]))
    assert check(sub, benchset).problems == ()
    (sub / CARD).write_text(card.replace(digest, "0" * 12))
    assert found(check(sub, benchset)) == [("PB602", "error", 1)]
    (sub / CARD).write_text(card.replace(digest, digest[:11]))
    assert found(check(sub, benchset)) == [("PB403", "error", 1)]


@pytest.mark.trust("archives: marks")
@pytest.mark.parametrize("mark", ["utf-8-sig", "utf-16"])
def test_a_card_with_a_byte_order_mark_is_read(mark: str, sub: Path, benchset: Path) -> None:
    (sub / CARD).write_bytes((sub / CARD).read_text().encode(mark))
    assert check(sub, benchset).problems == ()


@pytest.mark.trust("images: names")
def test_a_name_that_is_no_utf8_is_told_in_every_form(
    sub: Path, benchset: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    Path(os.fsdecode(os.fsencode(sub / "outputs") + b"/\xff\xfe.png")).write_bytes(b"x")
    done = run_cli("check", sub, "--set", benchset, "--html", "found.html", "--json")
    assert done.returncode == 3, done.stderr
    assert json.loads(done.stdout)["counts"]["error"] == 1
    assert r"\udcff\udcfe.png" in (tmp_path / "found.html").read_text()


def test_the_compression_of_the_files_is_no_part_of_their_identity(sub: Path, benchset: Path) -> None:
    before = check(sub, benchset)
    for path in (sub / "outputs").iterdir():
        with PillowImage.open(path) as image:
            image.save(path, optimize=True)
    assert check(sub, benchset) == before


def test_further_samples_are_read_from_numbered_folders(benchset: Path, tmp_path: Path) -> None:
    folder = submit(benchset, tmp_path / "sub", samples=3)
    assert check(folder, benchset).problems == ()
    assert check(zipped(folder, tmp_path / "sub.zip"), benchset).problems == ()


def test_our_bookkeeping_and_known_litter_are_passed_over(sub: Path, benchset: Path, tmp_path: Path) -> None:
    (sub / "__MACOSX" / "outputs").mkdir(parents=True)
    names = [".pb-lock", ".pb-lock.0-of-2", "journal.0-of-1.jsonl", ".DS_Store", "outputs/Thumbs.db"]
    for name in [*names, "desktop.ini", "__MACOSX/outputs/._coffee.png"]:
        (sub / name).write_bytes(b"x")
    assert check(sub, benchset).problems == ()
    assert check(zipped(sub, tmp_path / "sub.zip"), benchset).problems == ()


def test_bookkeeping_belongs_at_the_top_only(sub: Path, benchset: Path) -> None:
    (sub / "outputs" / "journal.0-of-1.jsonl").write_bytes(b"")
    assert found(check(sub, benchset)) == [("PB106", "error", 1)]


def test_nothing_is_written(sub: Path, benchset: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in [sub, *sub.rglob("*"), benchset, *benchset.rglob("*")]}
    check(sub, benchset)
    assert before == {p: p.stat().st_mtime_ns for p in [sub, *sub.rglob("*"), benchset, *benchset.rglob("*")]}


def test_the_json_form_is_plain_and_complete(sub: Path, benchset: Path) -> None:
    (sub / "outputs" / "coffee.png").unlink()
    value = check(sub, benchset).to_json()
    assert value["verdict"] == "refused"
    assert value["counts"] == {"error": 1, "warning": 0, "info": 0}
    assert value["n_good"] == N - 1
    assert value["problems"][0]["code"] == "PB201"
    assert tuple(value["problems"][0]["ids"]) == ("coffee",)
    json.dumps(value, allow_nan=False)


def test_progress_is_told_of_every_image(sound: Path, benchset: Path) -> None:
    told: list[Any] = []

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Callable[[int], Any]]:
        told.append((label, total))
        yield told.append

    check(sound, benchset, progress=progress)
    assert told == [("checking", N), *[1] * N]


# ---- the card


def test_without_a_card_the_images_are_still_checked(sub: Path, benchset: Path) -> None:
    (sub / "submission.toml").unlink()
    (sub / "outputs" / "coffee.png").write_bytes(b"GIF89a")
    report = check(sub, benchset)
    assert codes(report) == ["PB101", "PB301"]
    assert report.card is None
    assert "the outputs answer this set" not in report.checked


def test_a_card_one_folder_too_deep_is_pointed_at(sub: Path, benchset: Path) -> None:
    (sub.parent / "notes.txt").touch()
    report = check(sub.parent, benchset)
    card = next(p for p in report.problems if p.code == "PB101")
    assert card.found == "one at sub/submission.toml"
    assert "zip that folder's content" in card.fix


@pytest.mark.parametrize(
    ("old", "new", "code", "where"),
    [
        ("[method]", "[method", "PB401", "submission.toml"),
        ('license = "CC0-1.0"', 'licence = "CC0-1.0"', "PB402", "submission.toml: method.licence"),
        ('version = "1"', "version = 1", "PB403", "submission.toml: method.version"),
        ('name = "A', 'name = "\\u202eA', "PB403", "submission.toml: method.name"),
        ("test-method", "Test Method", "PB404", "submission.toml: method.slug"),
        ("submission/1.0", "submission/9.0", "PB411", "submission.toml: schema"),
        (
            "samples_per_image = 1",
            "samples_per_image = 0",
            "PB403",
            "submission.toml: target.samples_per_image",
        ),
        ('"no"', '"perhaps"', "PB403", "submission.toml: training.saw_test_images"),
    ],
)
def test_a_card_is_refused_by_code_and_key(
    sub: Path, benchset: Path, old: str, new: str, code: str, where: str
) -> None:
    edit(sub, old, new)
    report = check(sub, benchset)
    assert (code, where) in [(p.code, p.where) for p in report.problems]
    assert {p.code for p in report.problems} <= {code, "PB403"}
    assert all(p.fix for p in report.problems)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"x = 1\n" * 20_000, b"a = " + b"[" * 50_000])
def test_a_card_of_any_bytes_is_refused(sub: Path, benchset: Path, content: bytes) -> None:
    (sub / "submission.toml").write_bytes(content)
    assert set(codes(check(sub, benchset))) <= {"PB307", "PB401", "PB411"}
    assert not check(sub, benchset).ok


@pytest.mark.parametrize(
    ("old", "new", "code", "key"),
    [
        ('protocol = "smoke"', 'protocol = "palette-2022"', "PB601", "protocol"),
        ('source = "smoke-photos"', 'source = "imagenet-ctest10k"', "PB602", "source"),
        ('task = "jpeg"', 'task = "colorization"', "PB602", "task"),
        ('variant = "qf5"', 'variant = "qf10"', "PB602", "variant"),
        ('variant = "qf5"', "", "PB602", "variant"),
    ],
)
def test_a_card_for_another_set_is_refused(
    sub: Path, benchset: Path, old: str, new: str, code: str, key: str
) -> None:
    edit(sub, old, new)
    report = check(sub, benchset)
    assert [(p.code, p.where) for p in report.problems] == [(code, f"submission.toml: target.{key}")]


def test_a_card_with_another_set_fingerprint_is_refused(sub: Path, benchset: Path) -> None:
    right = BenchSet.open(benchset).manifest.set_fingerprint
    edit(sub, right, "0" * 64)
    (problem,) = check(sub, benchset).problems
    assert (problem.code, problem.expected, problem.found) == ("PB602", right, "0" * 64)


def test_no_variant_means_the_default_one(smoke_sets: Path, tmp_path: Path) -> None:
    folder = submit(smoke_sets / "colorization", tmp_path / "sub")
    edit(folder, 'variant = "default"\n', "")
    assert check(folder, smoke_sets / "colorization").problems == ()


def test_training_on_test_images_is_a_warning(sub: Path, benchset: Path) -> None:
    edit(sub, '"no"', '"yes"')
    assert found(check(sub, benchset)) == [("PB410", "warning", 1)]
    assert found(check(sub, benchset, strict=True)) == [("PB410", "error", 1)]
    assert check(sub, benchset).ok
    assert not check(sub, benchset, strict=True).ok
    assert "the test images were not used in training" not in check(sub, benchset).checked


# ---- names


def test_missing_images_are_counted_and_named(sub: Path, benchset: Path) -> None:
    for name in ("coffee", "rocket"):
        (sub / "outputs" / f"{name}.png").unlink()
    (problem,) = check(sub, benchset).problems
    assert (problem.code, problem.count, problem.ids) == ("PB201", 2, ("coffee", "rocket"))
    assert problem.where == "outputs/coffee.png, outputs/rocket.png"
    assert (problem.expected, problem.found) == ("12 images", "10")


def test_a_submission_of_the_card_alone_misses_everything(benchset: Path, tmp_path: Path) -> None:
    write_card(BenchSet.open(benchset), tmp_path)
    assert found(check(tmp_path, benchset)) == [("PB201", "error", N)]


def test_the_first_twenty_of_many_are_shown_and_all_are_counted(sub: Path, benchset: Path) -> None:
    for i in range(25):
        (sub / "outputs" / f"more{i:02}.png").write_bytes(b"")
    report = check(sub, benchset)
    (problem,) = report.problems
    assert (problem.code, problem.count) == ("PB202", 25)
    assert problem.where.endswith("outputs/more19.png, ...")
    assert str(problem).count("more") == 20
    (shown,) = report.to_json()["problems"]
    assert (shown["count"], len(shown["ids"])) == (25, 20)


def test_names_that_differ_in_case_are_twins(sub: Path, benchset: Path) -> None:
    shutil.copy(sub / "outputs" / "coffee.png", sub / "outputs" / "COFFEE.png")
    report = check(sub, benchset)
    assert codes(report) == ["PB202", "PB203"]
    assert report.problems[1].where == "outputs/COFFEE.png, outputs/coffee.png"


def test_names_that_differ_in_unicode_form_are_twins(sub: Path, benchset: Path) -> None:
    for name in ("caf\u00e9.png", "cafe\u0301.png"):
        (sub / "outputs" / name).write_bytes(b"")
    assert found(check(sub, benchset)) == [("PB203", "error", 2), ("PB204", "error", 2)]


@pytest.mark.parametrize("name", ["coffee.PNG", "coffee.Png", "coffee.jpg", "coffee.webp"])
def test_a_wrong_suffix_is_refused_once(sub: Path, benchset: Path, name: str) -> None:
    (sub / "outputs" / "coffee.png").rename(sub / "outputs" / name)
    (problem,) = check(sub, benchset).problems
    assert (problem.code, problem.where) == ("PB204", f"outputs/{name}")


@pytest.mark.parametrize(
    "stem", ["a b", "a.b", "", "x" * 65, "caf\u00e9", "a\n", "\x1b[31mred", "..", "-ok;rm"]
)
def test_an_id_of_other_characters_is_malformed(sub: Path, benchset: Path, stem: str) -> None:
    (sub / "outputs" / f"{stem}.png").write_bytes(b"")
    report = check(sub, benchset)
    assert found(report) == [("PB204", "error", 1)]
    assert "\x1b" not in str(report.problems[0])
    assert len(str(report.problems[0]).splitlines()) == 5


def test_a_name_that_is_no_text_is_malformed(sub: Path, benchset: Path) -> None:
    os.rename(os.fsencode(sub / "outputs" / "coffee.png"), os.fsencode(sub / "outputs") + b"/\xff.png")
    report = check(sub, benchset)
    assert codes(report) == ["PB201", "PB204"]
    assert r"\udcff" in str(report.problems[1])
    json.dumps(report.to_json()).encode("ascii")


@pytest.mark.parametrize(
    "name",
    [
        "readme.txt",
        "outputs/notes.txt",
        "coffee.png",
        "outputs/more/coffee.png",
        "Outputs/coffee.png",
        ".git/x",
    ]
    + [f"samples/{k}/coffee.png" for k in ("0", "01", "-1", "1", "a", "99999")]
    + ["samples/coffee.png"],
)
def test_other_files_are_unexpected(sub: Path, benchset: Path, name: str) -> None:
    (sub / name).parent.mkdir(parents=True, exist_ok=True)
    (sub / name).write_bytes(b"")
    (problem,) = check(sub, benchset).problems
    assert (problem.code, problem.where) == ("PB106", name)


def test_promised_samples_must_all_be_there(sub: Path, benchset: Path) -> None:
    edit(sub, "samples_per_image = 1", "samples_per_image = 3")
    shutil.copytree(sub / "outputs", sub / "samples" / "1")
    (sub / "samples" / "1" / "coffee.png").unlink()
    report = check(sub, benchset)
    assert found(report) == [("PB206", "error", 1), ("PB206", "error", N)]
    assert report.problems[0].where == "samples/1/coffee.png"


# ---- images


def saved(image: Image, mode: str, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    PillowImage.fromarray(image).convert(mode).save(file, kind, **options)
    return file.getvalue()


def test_each_fault_is_one_problem_with_all_its_files(sub: Path, benchset: Path) -> None:
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    outputs = sub / "outputs"
    for name in ("coffee", "chelsea"):
        (outputs / f"{name}.png").write_bytes(encode(np.zeros((512, 512, 3), np.uint8)))
    (outputs / "rocket.png").write_bytes(encode(np.zeros((64, 64, 3), np.uint8)))
    (outputs / "retina.png").write_bytes(saved(image, "RGB", "JPEG"))
    (outputs / "hubble.png").write_bytes(saved(image, "RGBA"))
    (outputs / "astronaut.png").write_bytes(encode(image)[:-20])
    report = check(sub, benchset)
    assert [(p.code, p.where, p.found) for p in report.problems] == [
        ("PB301", "outputs/retina.png", r"b'\xff\xd8\xff\xe0\x00\x10JF'"),
        ("PB302", "outputs/chelsea.png, outputs/coffee.png", "512 x 512"),
        ("PB302", "outputs/rocket.png", "64 x 64"),
        ("PB303", "outputs/hubble.png", "8-bit RGB with alpha"),
        ("PB305", "outputs/astronaut.png", "end of file"),
    ]
    assert all(p.fix for p in report.problems)
    assert len(report.pixels) == N - 6


def test_a_file_of_more_than_a_megabyte_is_refused_unread(sub: Path, benchset: Path) -> None:
    with (sub / "outputs" / "coffee.png").open("r+b") as file:
        file.truncate(MAX_BYTES + 1)
    assert found(check(sub, benchset)) == [("PB307", "error", 1)]


def test_a_file_that_goes_away_while_we_read_is_missing(sub: Path, benchset: Path) -> None:
    @contextmanager
    def removing(label: str, total: int) -> Iterator[Callable[[int], Any]]:
        (sub / "outputs" / "coffee.png").unlink()
        yield lambda count: None

    assert found(check(sub, benchset, progress=removing)) == [("PB201", "error", 1)]


def test_a_damaged_further_sample_is_an_error_too(benchset: Path, tmp_path: Path) -> None:
    folder = submit(benchset, tmp_path / "sub", samples=2)
    (folder / "samples" / "1" / "coffee.png").write_bytes(b"")
    (problem,) = check(folder, benchset).problems
    assert (problem.code, problem.where, problem.ids) == ("PB301", "samples/1/coffee.png", ("coffee",))


def test_metadata_is_noticed_and_changes_nothing(sub: Path, benchset: Path) -> None:
    before = check(sub, benchset).outputs
    path = sub / "outputs" / "coffee.png"
    with PillowImage.open(path) as image:
        image.save(path, dpi=(72, 72))
    report = check(sub, benchset, strict=True)
    assert found(report) == [("PB320", "info", 1)]
    assert report.ok
    assert report.outputs == before


def test_links_and_pipes_are_refused_unread(sub: Path, benchset: Path, tmp_path: Path) -> None:
    outputs = sub / "outputs"
    (outputs / "coffee.png").rename(tmp_path / "coffee.png")
    (outputs / "coffee.png").symlink_to(tmp_path / "coffee.png")
    (outputs / "rocket.png").unlink()
    os.mkfifo(outputs / "rocket.png")
    (sub / "notes").symlink_to("/etc")
    report = check(sub, benchset)
    assert [(p.code, p.where) for p in report.problems] == [
        ("PB105", "notes, outputs/coffee.png"),
        ("PB105", "outputs/rocket.png"),
    ]


def test_a_linked_card_is_refused(sub: Path, benchset: Path) -> None:
    (sub / "submission.toml").rename(sub.parent / "card.toml")
    (sub / "submission.toml").symlink_to(sub.parent / "card.toml")
    assert found(check(sub, benchset)) == [("PB105", "error", 1)]


def test_a_linked_folder_of_outputs_is_refused(sub: Path, benchset: Path) -> None:
    (sub / "outputs").rename(sub.parent / "elsewhere")
    (sub / "outputs").symlink_to(sub.parent / "elsewhere")
    assert codes(check(sub, benchset)) == ["PB105", "PB201"]


@given(st.integers(0, 10**6), st.binary(max_size=12))
@settings(max_examples=30)
def test_any_damage_to_an_image_is_found_or_harmless(
    sound: Path, benchset: Path, tmp_path_factory: pytest.TempPathFactory, at: int, patch: bytes
) -> None:
    target = BenchSet.open(benchset)
    data = bytearray((sound / "outputs" / "coffee.png").read_bytes())
    at %= len(data)
    data[at : at + len(patch)] = patch
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "outputs").mkdir()
    (folder / "outputs" / "coffee.png").write_bytes(data)
    with open_submission(folder, N) as files:
        try:
            output = read_output(files, "coffee", SIDE)
        except PngError:
            return
    assert np.array_equal(output, plausible(target, "coffee"))


# ---- reading again, for scoring


def test_outputs_are_read_by_id_and_sample(benchset: Path, tmp_path: Path) -> None:
    target = BenchSet.open(benchset)
    folder = submit(benchset, tmp_path / "sub", samples=3)
    second = np.full((SIDE, SIDE, 3), 7, np.uint8)
    (folder / "samples" / "1" / "coffee.png").write_bytes(encode(second))
    for path in (folder, zipped(folder, tmp_path / "sub.zip")):
        with open_submission(path, N) as files:
            assert np.array_equal(read_output(files, "coffee", SIDE), plausible(target, "coffee"))
            assert np.array_equal(read_output(files, "coffee", SIDE, sample=2), second)
            assert np.array_equal(read_output(files, "coffee", SIDE, sample=3), plausible(target, "coffee"))
            with pytest.raises(PngError) as caught:
                read_output(files, "coffee", SIDE, sample=4)
            assert caught.value.code == "PB201"


def test_a_refused_file_raises_its_reason(sub: Path) -> None:
    (sub / "outputs" / "coffee.png").unlink()
    (sub / "outputs" / "coffee.png").symlink_to("chelsea.png")
    with open_submission(sub, N) as files, pytest.raises(PngError) as caught:
        read_output(files, "coffee", SIDE)
    assert caught.value.code == "PB105"


# ---- suspicion


def redraw(folder: Path, target: BenchSet, draw: Callable[[Image, str], Image]) -> None:
    for image_id in target.ids:
        path = folder / "outputs" / f"{image_id}.png"
        path.write_bytes(encode(draw(plausible(target, image_id), image_id)))


@pytest.mark.parametrize(
    "name", ["colorization", "inpainting.freeform-20-30", "jpeg.qf20", "uncropping.right"]
)
def test_copies_of_target_and_input_are_told(smoke_sets: Path, tmp_path: Path, name: str) -> None:
    folder = smoke_sets / name
    assert found(check(submit(folder, tmp_path / "a", original), folder)) == [("PB321", "warning", N)]
    assert found(check(submit(folder, tmp_path / "b", copied), folder)) == [("PB322", "warning", N)]


def test_an_anchor_is_not_blamed_for_what_it_is(smoke_sets: Path, tmp_path: Path) -> None:
    folder = smoke_sets / "uncropping.left"
    ceiling = check(submit(folder, tmp_path / "a", original, slug="original"), folder, strict=True)
    floor = check(submit(folder, tmp_path / "b", copied, slug="copy-input"), folder, strict=True)
    assert found(ceiling) == [("PB321", "info", N)]
    assert found(floor) == [("PB322", "info", N)]
    assert ceiling.ok
    assert floor.ok
    assert len(ceiling.checked) == len(floor.checked) == 8


def test_an_anchor_is_blamed_for_what_the_other_one_is(smoke_sets: Path, tmp_path: Path) -> None:
    folder = smoke_sets / "uncropping.left"
    report = check(submit(folder, tmp_path / "a", original, slug="copy-input"), folder)
    assert found(report) == [("PB321", "warning", N)]


def test_one_image_under_two_ids_is_told(sub: Path, benchset: Path) -> None:
    shutil.copy(sub / "outputs" / "coffee.png", sub / "outputs" / "retina.png")
    report = check(sub, benchset)
    assert [(p.code, p.ids) for p in report.problems] == [("PB323", ("coffee", "retina"))]


def test_images_of_one_colour_are_told(sub: Path, benchset: Path) -> None:
    for value, name in ((0, "coffee"), (127, "retina")):
        (sub / "outputs" / f"{name}.png").write_bytes(encode(np.full((SIDE, SIDE, 3), value, np.uint8)))
    report = check(sub, benchset)
    assert [(p.code, p.ids) for p in report.problems] == [("PB326", ("coffee", "retina"))]


@pytest.mark.parametrize("quality", [90, 95, 98])
@pytest.mark.parametrize(
    "name", ["inpainting.center128", "inpainting.freeform-30-40", "uncropping.four-sides"]
)
def test_a_jpeg_step_shows_in_the_known_pixels(
    smoke_sets: Path, tmp_path: Path, name: str, quality: int
) -> None:
    folder = submit(smoke_sets / name, tmp_path / "sub")

    def through_jpeg(image: Image, image_id: str) -> Image:
        data = saved(image, "RGB", "JPEG", quality=quality)
        with PillowImage.open(io.BytesIO(data)) as opened:
            return np.asarray(opened)

    redraw(folder, BenchSet.open(smoke_sets / name), through_jpeg)
    report = check(folder, smoke_sets / name)
    assert codes(report) == ["PB324"]
    assert report.problems[0].count > N // 2


@pytest.mark.parametrize("kernel", [PillowImage.Resampling.BICUBIC, PillowImage.Resampling.LANCZOS])
def test_a_resize_shows_in_the_known_pixels(
    smoke_sets: Path, tmp_path: Path, kernel: PillowImage.Resampling
) -> None:
    benchset = smoke_sets / "inpainting.center128"
    folder = submit(benchset, tmp_path / "sub")

    def to_and_fro(image: Image, image_id: str) -> Image:
        resized = PillowImage.fromarray(image).resize((300, 300), kernel)
        return np.asarray(resized.resize((SIDE, SIDE), kernel))

    redraw(folder, BenchSet.open(benchset), to_and_fro)
    assert codes(check(folder, benchset)) == ["PB324"]


def test_known_pixels_repainted_or_blended_at_the_edge_are_no_lossy_step(
    smoke_sets: Path, tmp_path: Path
) -> None:
    benchset = smoke_sets / "inpainting.center128"
    target = BenchSet.open(benchset)
    folder = submit(benchset, tmp_path / "sub")

    def blended(image: Image, image_id: str) -> Image:
        edge = np.array(image)
        edge[60:196, 60:196] ^= 2  # 4 pixels around the hole
        return edge

    redraw(folder, target, blended)
    assert check(folder, benchset).problems == ()
    redraw(folder, target, lambda image, image_id: image // 2 + 60)  # a contrast of its own
    assert [p.code for p in check(folder, benchset).problems] == ["PB327"]


@pytest.mark.parametrize(
    "name", ["colorization", "inpainting.freeform-30-40", "jpeg.qf5", "uncropping.right"]
)
def test_swapped_ids_are_told_with_the_right_pairs(smoke_sets: Path, tmp_path: Path, name: str) -> None:
    outputs = submit(smoke_sets / name, tmp_path / "sub") / "outputs"
    (outputs / "coffee.png").rename(outputs / "kept")
    (outputs / "retina.png").rename(outputs / "coffee.png")
    (outputs / "kept").rename(outputs / "retina.png")
    (problem,) = check(tmp_path / "sub", smoke_sets / name).problems
    assert (problem.code, problem.severity, problem.ids) == ("PB325", "warning", ("coffee", "retina"))
    assert problem.found == "coffee shows retina, retina shows coffee"


def test_a_whole_list_shifted_by_one_is_told_for_every_id(sub: Path, benchset: Path) -> None:
    ids = BenchSet.open(benchset).ids
    data = [(sub / "outputs" / f"{i}.png").read_bytes() for i in ids]
    for image_id, other in zip(ids, data[1:] + data[:1], strict=True):
        (sub / "outputs" / f"{image_id}.png").write_bytes(other)
    (problem,) = check(sub, benchset).problems
    assert (problem.code, problem.count) == ("PB325", N)
    assert "astronaut shows astronaut-face" in problem.found
    assert problem.found.endswith(", and 7 more")


def test_one_output_that_shows_another_input_is_not_yet_a_mix_up(sub: Path, benchset: Path) -> None:
    changed = plausible(BenchSet.open(benchset), "retina") ^ 2
    (sub / "outputs" / "coffee.png").write_bytes(encode(changed))
    assert check(sub, benchset).problems == ()


def test_bad_outputs_are_not_taken_for_mixed_up_ones(sub: Path, benchset: Path) -> None:
    generator = np.random.default_rng(5)
    redraw(sub, BenchSet.open(benchset), lambda p, i: generator.integers(0, 256, p.shape, np.uint8))
    assert check(sub, benchset).problems == ()


# ---- what cannot be opened


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("sub.tar", b"x" * 1024, "PB104"),
        ("sub.tar.gz", b"\x1f\x8b", "PB104"),
        ("sub.7z", b"7z\xbc\xaf\x27\x1c", "PB104"),
        ("sub.zip", b"", "PB104"),
        ("sub.zip", b"hello", "PB104"),
        ("sub.zip", b"PK\x03\x04", "PB104"),
        ("sub.zip", b"PK\x05\x06", "PB104"),
        ("sub.zip", b"PK\x05\x06" + bytes(18), "PB101"),
        ("sub.exe", b"PK\x05\x06" + bytes(18), "PB104"),
    ],
)
def test_other_archives_are_refused(
    tmp_path: Path, benchset: Path, name: str, content: bytes, code: str
) -> None:
    (tmp_path / name).write_bytes(content)
    report = check(tmp_path / name, benchset)
    assert codes(report)[0] == code
    assert report.problems[0].fix


def test_a_submission_that_is_not_there_is_refused(tmp_path: Path, benchset: Path) -> None:
    assert found(check(tmp_path / "absent", benchset)) == [("PB801", "error", 1)]


def test_a_damaged_set_is_not_the_submitters_fault(smoke_copy: Callable[[str], Path], sub: Path) -> None:
    benchset = smoke_copy("jpeg.qf5")
    (benchset / "input" / "coffee.png").write_bytes(b"")
    with pytest.raises(BenchSetError, match=r"PB301"):
        check(sub, benchset)


# ---- hostile archives


class Member:
    """One member of a crafted archive; what it says of itself can be a lie."""

    def __init__(self, name: str | bytes, data: bytes = b"x", **lies: Any) -> None:
        self.name = name.encode() if isinstance(name, str) else name
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = deflate.compress(data) + deflate.flush()
        self.data = lies.pop("body", packed) + lies.pop("more", b"")
        self.said = {
            "flags": 0,
            "method": 8,
            "crc": zlib.crc32(data),
            "packed": len(self.data),
            "size": len(data),
            "mode": 0,
            "local_name": self.name,
            "offset": None,
            "comment": b"",
        } | lies

    def local(self) -> bytes:
        s = self.said
        fields = (
            20,
            s["flags"],
            s["method"],
            0,
            0,
            s["crc"],
            s["packed"],
            s["size"],
            len(s["local_name"]),
            0,
        )
        return struct.pack("<4s5H3L2H", b"PK\x03\x04", *fields) + s["local_name"] + self.data

    def central(self, offset: int) -> bytes:
        s = self.said
        where = offset if s["offset"] is None else s["offset"]
        lengths = (len(self.name), 0, len(s["comment"]))
        sizes = (s["crc"], s["packed"], s["size"], *lengths, 0, 0, s["mode"] << 16, where)
        return (
            struct.pack("<4s6H3L5H2L", b"PK\x01\x02", 20, 20, s["flags"], s["method"], 0, 0, *sizes)
            + self.name
            + s["comment"]
        )


def craft(members: list[Member], gap: bytes = b"", claimed: int | None = None) -> bytes:
    body, directory = b"", b""
    for member in members:
        directory += member.central(len(body))
        body += member.local()
    count = len(members) if claimed is None else claimed
    return (
        body
        + directory
        + gap
        + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), 0)
    )


@pytest.fixture
def members(sound: Path) -> list[Member]:
    """Return the members of a sound archive."""
    files = sorted(p for p in sound.rglob("*") if p.is_file())
    return [Member(p.relative_to(sound).as_posix(), p.read_bytes()) for p in files]


@pytest.fixture
def check_members(benchset: Path, tmp_path: Path) -> Callable[[list[Member]], CheckReport]:
    def run(members: list[Member]) -> CheckReport:
        (tmp_path / "sub.zip").write_bytes(craft(members))
        return check(tmp_path / "sub.zip", benchset)

    return run


def test_a_crafted_archive_that_tells_no_lie_passes(
    members: list[Member], check_members: Callable[[list[Member]], CheckReport]
) -> None:
    assert check_members(members).problems == ()


LINK, FIFO = 0o120777, 0o010644
MEGABYTE = bytes(MAX_BYTES + 1)
HOSTILE = {
    "absolute": (Member("/etc/passwd"), "PB102", "an absolute path"),
    "parent": (Member("../x"), "PB102", "a step to another folder"),
    "inner parent": (Member("outputs/../../x"), "PB102", "a step to another folder"),
    "parent in litter": (Member("__MACOSX/../x"), "PB102", "a step to another folder"),
    "parent folder": (Member("../", b""), "PB102", "a step to another folder"),
    "drive": (Member("C:x.png"), "PB102", "a drive letter"),
    "backslash": (Member("outputs\\x.png"), "PB102", "a backslash"),
    "NUL": (Member("outputs/x.png\0.txt"), "PB102", "a NUL"),
    "empty name": (Member(""), "PB102", "an empty step"),
    "double slash": (Member("outputs//x.png"), "PB102", "an empty step"),
    "dot": (Member("./x.png"), "PB102", "an empty step"),
    "link": (Member("notes", b"/etc/passwd", mode=LINK), "PB105", "a link or special file"),
    "pipe": (Member("notes", mode=FIFO), "PB105", "a link or special file"),
    "encrypted": (Member("notes", flags=1), "PB103", "an encrypted one"),
    "strongly encrypted": (Member("notes", flags=0x41), "PB103", "an encrypted one"),
    "other compression": (Member("notes", method=12), "PB103", "compression method 12"),
    "large": (Member("notes", np.random.default_rng(0).bytes(MAX_BYTES + 1)), "PB103", "1,048,577 bytes"),
    "large when packed": (Member("notes", body=MEGABYTE), "PB103", "1 bytes"),
    "bomb": (Member("notes", bytes(MAX_BYTES)), "PB103", "a higher one"),
    "zip inside": (Member("more.zip"), "PB103", "one"),
    "tar inside": (Member("outputs/more.tar.gz"), "PB103", "one"),
    "other local name": (Member("notes", local_name=b"other"), "PB103", "another local header"),
    "data of its neighbour": (Member("notes", packed=3_000), "PB103", "members that overlap"),
    "offset beyond the end": (Member("notes", offset=2**31), "PB103", "another local header"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_member_is_refused_and_named(
    members: list[Member], check_members: Callable[[list[Member]], CheckReport], kind: str
) -> None:
    member, code, reason = HOSTILE[kind]
    report = check_members([member, *members])
    assert (code, reason) in [(p.code, p.found) for p in report.problems]
    named = [p for p in report.problems if (p.code, p.found) == (code, reason)]
    assert named[0].ids == (member.name.decode(),)
    assert named[0].fix
    assert len(report.pixels) >= N - 1  # the rest is still checked


def test_a_name_given_twice_is_refused(
    members: list[Member], check_members: Callable[[list[Member]], CheckReport]
) -> None:
    report = check_members([*members, Member("outputs/coffee.png", b"other")])
    assert [(p.code, p.found, p.ids) for p in report.problems] == [("PB102", "2 members", ("coffee",))]


def test_members_that_share_their_data_are_refused(
    members: list[Member], check_members: Callable[[list[Member]], CheckReport]
) -> None:
    quoted = Member(members[0].name, offset=0)
    quoted.said |= {key: members[0].said[key] for key in ("crc", "packed", "size")}
    quoted.name = b"outputs/coffeX.png"
    report = check_members([*members, quoted])
    assert {("PB103", "members that overlap"), ("PB103", "another local header")} <= {
        (p.code, p.found) for p in report.problems
    }


@pytest.mark.parametrize(
    "lie",
    [
        {"crc": 0},
        {"size": 5},
        {"size": 500},
        {"body": b"\xff" * 40},
        {"body": b""},
        {"method": 0},
        {"more": b"x"},
    ],
    ids=["checksum", "smaller", "larger", "not deflated", "nothing", "called stored", "more behind"],
)
def test_a_member_that_holds_something_else_than_it_says_is_refused(
    sound: Path,
    members: list[Member],
    check_members: Callable[[list[Member]], CheckReport],
    lie: dict[str, Any],
) -> None:
    data = (sound / "outputs" / "coffee.png").read_bytes()
    others = [m for m in members if m.name != b"outputs/coffee.png"]
    report = check_members([Member("outputs/coffee.png", data, **lie), *others])
    assert [(p.code, p.ids) for p in report.problems] in ([("PB305", ("coffee",))], [("PB103", ("coffee",))])


def test_a_stored_member_longer_than_it_says_is_refused(
    sound: Path, members: list[Member], check_members: Callable[[list[Member]], CheckReport]
) -> None:
    data = (sound / "outputs" / "coffee.png").read_bytes()
    others = [m for m in members if m.name != b"outputs/coffee.png"]
    assert check_members([Member("outputs/coffee.png", data, body=data, method=0), *others]).problems == ()
    liar = Member("outputs/coffee.png", data, body=data, method=0, size=len(data) - 1)
    assert codes(check_members([liar, *others])) == ["PB305"]


def test_what_inflates_beyond_its_declared_size_is_stopped_there(
    members: list[Member], check_members: Callable[[list[Member]], CheckReport]
) -> None:
    others = [m for m in members if m.name != b"outputs/coffee.png"]
    bomb = Member("outputs/coffee.png", bytes(10**8), size=9_000)  # 97 kB packed: a ratio of 0.1 is claimed
    tracemalloc.start()
    report = check_members([bomb, *others])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30_000_000
    assert [(p.code, p.ids) for p in report.problems] == [("PB305", ("coffee",))]


def test_more_entries_than_ids_and_some_are_refused_at_once(
    members: list[Member], check_members: Callable[[list[Member]], CheckReport]
) -> None:
    many = [*members, *(Member(f"x{i}") for i in range(N + SPARE_ENTRIES + 1 - len(members)))]
    assert [(p.code, p.expected, p.found) for p in check_members(many).problems] == [
        ("PB103", "at most 76 entries", "77 entries")
    ]
    assert codes(check_members(many[:-1])) == ["PB106"]
    assert codes(check_members([Member(f"y{i}") for i in range(10 * N + SPARE_ENTRIES + 1)])) == ["PB103"]


def test_a_directory_is_not_read_if_it_claims_too_much(
    members: list[Member],
    check_members: Callable[[list[Member]], CheckReport],
    benchset: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "many.zip").write_bytes(craft(members, claimed=60_000))
    (problem,) = check(tmp_path / "many.zip", benchset).problems
    assert (problem.code, problem.found) == ("PB103", "60,000 entries")
    bloated = [Member("notes", comment=bytes(60_000)), *members]
    (problem,) = check_members(bloated).problems
    length = 60_000 + sum(46 + len(m.name) for m in bloated)
    assert (problem.code, problem.found) == ("PB103", f"a directory of {length:,} bytes")


def test_a_directory_that_hides_a_member_or_floats_is_refused(
    members: list[Member], benchset: Path, tmp_path: Path
) -> None:
    for name, data in (
        ("hidden.zip", craft(members, claimed=len(members) - 1)),
        ("short.zip", craft(members, claimed=len(members) + 1)),
        ("gap.zip", craft(members, gap=b"x")),
    ):
        (tmp_path / name).write_bytes(data)
        assert found(check(tmp_path / name, benchset)) == [("PB104", "error", 1)]


def test_more_bytes_than_a_megabyte_per_id_are_refused_at_once(
    members: list[Member], check_members: Callable[[list[Member]], CheckReport]
) -> None:
    noise = np.random.default_rng(0).bytes(MAX_BYTES)
    heavy = [Member(f"outputs/{i}.png", noise, body=noise, method=0) for i in range(N + 1)]
    assert [(p.code, p.expected) for p in check_members(heavy).problems] == [
        ("PB103", "at most 12,582,912 bytes unpacked")
    ]


def test_an_archive_with_64_bit_records_is_read(
    sound: Path, benchset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)
    path = zipped(sound, tmp_path / "sub.zip")
    data = path.read_bytes()
    assert b"PK\x06\x06" in data
    assert b"PK\x06\x07" in data
    assert check(path, benchset) == check(sound, benchset)


@pytest.mark.parametrize(
    "change", [lambda d: b"MZ" + d, lambda d: d + b"\0", lambda d: d[:-1], lambda d: d[: len(d) // 2]]
)
def test_bytes_around_an_archive_or_missing_from_it_are_refused(
    sound: Path, benchset: Path, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    path = zipped(sound, tmp_path / "sub.zip")
    path.write_bytes(change(path.read_bytes()))
    assert found(check(path, benchset)) == [("PB104", "error", 1)]


@given(st.data())
@settings(max_examples=150)
def test_any_damage_to_an_archive_is_refused_or_changes_no_pixel(
    sound: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    names = ["submission.toml", "outputs/coffee.png"]
    intact = {name: (sound / name).read_bytes()[:2_000] for name in names}
    archive = bytearray(craft([Member(name, body) for name, body in intact.items()]))
    tail = data.draw(st.booleans())  # the directory is short: aim at it half of the time
    at = data.draw(
        st.integers(len(archive) - 180, len(archive) - 1) if tail else st.integers(0, len(archive) - 1)
    )
    archive[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.mktemp("zip") / "sub.zip"
    path.write_bytes(archive)
    try:
        with open_submission(path, N) as files:
            read = {name: files.read(name) for name in files.names}
    except (SubmissionError, PngError):
        return
    assert set(read.values()) <= set(intact.values())
