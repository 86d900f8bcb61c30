"""Broken submissions through the real command line: the exact file, the code, what to do next."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage
from submissions import zipped

from palette_bench.core.png import encode

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]
Break = Callable[[Path], Path | None]  # spoils a submission folder; returns another path to check

IDS = 12


@pytest.fixture(scope="module")
def benchset(smoke_sets: Path) -> Path:
    return smoke_sets / "jpeg.qf20"


def coffee(folder: Path) -> Path:
    return folder / "outputs" / "coffee.png"


def saved_as(mode: str, kind: str = "PNG") -> Break:
    def spoil(folder: Path) -> None:
        with PillowImage.open(coffee(folder)) as image:
            changed = image.convert(mode)
        changed.save(coffee(folder), kind)

    return spoil


def resized(folder: Path) -> None:
    for name in ("coffee", "chelsea"):
        (folder / "outputs" / f"{name}.png").write_bytes(encode(np.zeros((512, 512, 3), np.uint8)))


def renamed(name: str) -> Break:
    def spoil(folder: Path) -> None:
        coffee(folder).rename(coffee(folder).with_name(name))

    return spoil


def edited(old: str, new: str) -> Break:
    def spoil(folder: Path) -> None:
        card = folder / "submission.toml"
        card.write_text(card.read_text().replace(old, new))

    return spoil


def linked(folder: Path) -> None:
    coffee(folder).unlink()
    coffee(folder).symlink_to("/etc/hostname")


def piped(folder: Path) -> None:
    coffee(folder).unlink()
    os.mkfifo(coffee(folder))


def piped_as_a_whole(folder: Path) -> Path:
    os.mkfifo(folder.with_name("pipe.zip"))
    return folder.with_name("pipe.zip")


def in_a_tar(folder: Path) -> Path:
    path = folder.with_name("sub.tar")
    with tarfile.open(path, "w") as archive:
        archive.add(folder, ".")
    return path


def in_a_zip_with(name: str) -> Break:
    def spoil(folder: Path) -> Path:
        path = zipped(folder, folder.with_name("sub.zip"))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(name, b"x")
        return path

    return spoil


def in_a_zip_of_the_folder(folder: Path) -> Path:
    (folder.parent / "notes.txt").touch()  # alone in its zip, the folder would be looked through
    return zipped(folder.parent, folder.parent.parent / f"{folder.parent.name}.zip")


BROKEN: dict[str, tuple[Break, str, str, str]] = {
    "no card": (
        lambda f: (f / "submission.toml").unlink(),
        "PB101",
        "submission.toml",
        "palette-bench restore adapter:folder",
    ),
    "no TOML": (edited("[target]", "[target"), "PB401", "submission.toml", "correct the syntax"),
    "misspelt key": (
        edited("license", "licence"),
        "PB402",
        "submission.toml: method.licence",
        "did you mean license",
    ),
    "text for a number": (
        edited("samples_per_image = 1", 'samples_per_image = "1"'),
        "PB403",
        "submission.toml: target.samples_per_image",
        "write such a value",
    ),
    "slug": (edited("test-method", "Test!"), "PB404", "submission.toml: method.slug", "lower-case letters"),
    "newer card": (edited("/1.0", "/2.0"), "PB411", "submission.toml: schema", "update palette-bench"),
    "other protocol": (
        edited('"smoke"', '"palette-2022"'),
        "PB601",
        "submission.toml: target.protocol",
        'write protocol = "smoke"',
    ),
    "other variant": (
        edited("qf20", "qf5"),
        "PB602",
        "submission.toml: target.variant",
        "check against the set",
    ),
    "missing": (
        lambda f: coffee(f).unlink(),
        "PB201",
        "outputs/coffee.png",
        "write outputs/ID.png for every id of public.json",
    ),
    "foreign": (
        renamed("tea.png"),
        "PB202",
        "outputs/tea.png",
        "remove these files, or check against the set",
    ),
    "twin": (
        lambda f: shutil.copy(coffee(f), f / "outputs" / "Coffee.png") and None,
        "PB203",
        "outputs/Coffee.png, outputs/coffee.png",
        "keep one file per id",
    ),
    "suffix": (renamed("coffee.PNG"), "PB204", "outputs/coffee.PNG", "name the files exactly ID.png"),
    "too few samples": (
        edited("samples_per_image = 1", "samples_per_image = 2"),
        "PB206",
        "samples/1/coffee.png",
        "write samples/K/ID.png for every id, or lower target.samples_per_image",
    ),
    "unexpected": (
        lambda f: (f / "notes.txt").write_text("hello") and None,
        "PB106",
        "notes.txt",
        "keep only submission.toml",
    ),
    "JPEG named PNG": (saved_as("RGB", "JPEG"), "PB301", "outputs/coffee.png", "save it as PNG"),
    "size": (resized, "PB302", "outputs/chelsea.png, outputs/coffee.png", "nothing is resized for you"),
    "gray": (saved_as("L"), "PB303", "outputs/coffee.png", "convert to 8-bit RGB"),
    "alpha": (saved_as("RGBA"), "PB303", "outputs/coffee.png", "convert to 8-bit RGB"),
    "palette": (saved_as("P"), "PB303", "outputs/coffee.png", "convert to 8-bit RGB"),
    "cut": (
        lambda f: os.truncate(coffee(f), 5_000),
        "PB305",
        "outputs/coffee.png",
        "write the file again: it was cut or changed",
    ),
    "link": (linked, "PB105", "outputs/coffee.png", "put the file itself there"),
    "pipe": (piped, "PB105", "outputs/coffee.png", "put the file itself there"),
    "pipe named zip": (piped_as_a_whole, "PB105", "pipe.zip", "give the folder that holds submission.toml"),
    "tar": (in_a_tar, "PB104", "sub.tar", "give the folder that holds submission.toml"),
    "hostile name": (
        in_a_zip_with("../../x"),
        "PB102",
        "../../x",
        "zip the content of the submission's folder",
    ),
    "archive inside": (in_a_zip_with("more.zip"), "PB103", "more.zip", "no archive inside"),
    "zip of the folder": (
        in_a_zip_of_the_folder,
        "PB101",
        "submission.toml",
        "zip that folder's content instead of the folder",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_submission_is_refused_with_file_code_and_advice(
    kind: str, sub: Path, benchset: Path, run_cli: RunCli
) -> None:
    spoil, code, where, advice = BROKEN[kind]
    path = spoil(sub) or sub
    done = run_cli("check", path, "--set", benchset)
    assert done.returncode == 3, done.stderr
    assert done.stdout == ""
    finding = next(block for block in blocks(done.stderr) if block[0].startswith(f"{code} error"))
    told = {line.split(maxsplit=1)[0]: line.split(maxsplit=1)[1] for line in finding[1:]}
    assert where in told["where"]
    assert advice in told["fix"]
    assert "Traceback" not in done.stderr
    assert "refused: " in done.stderr


def blocks(text: str) -> list[list[str]]:
    """Return the findings: a line that begins with a code, and the indented ones after it."""
    found: list[list[str]] = []
    for line in text.splitlines():
        if line.startswith("PB"):
            found.append([line])
        elif line.startswith("  ") and found:
            found[-1].append(line.strip())
    return found


def test_a_sound_submission_ends_with_its_path_and_the_next_command(
    sound: Path, benchset: Path, run_cli: RunCli
) -> None:
    done = run_cli("check", sound, "--set", benchset)
    assert (done.returncode, done.stdout) == (0, f"{sound}\n")
    assert blocks(done.stderr) == []
    assert "passed: 12 good outputs, 0 errors, 0 warnings, 0 notices" in done.stderr
    assert f"palette-bench score {sound} --set {benchset} -o CARD.json" in done.stderr


def test_a_zip_and_its_folder_have_the_same_fingerprint(
    sound: Path, benchset: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    folder = json.loads(run_cli("check", sound, "--set", benchset, "--json").stdout)
    archive = json.loads(
        run_cli("check", zipped(sound, tmp_path / "a.zip"), "--set", benchset, "--json").stdout
    )
    assert folder == archive
    assert folder["verdict"] == "ok"
    assert folder["n_good"] == IDS


def test_all_problems_come_at_once_and_as_json(sub: Path, benchset: Path, run_cli: RunCli) -> None:
    renamed("tea.png")(sub)
    resized_name = sub / "outputs" / "chelsea.png"
    resized_name.write_bytes(encode(np.zeros((64, 64, 3), np.uint8)))
    edited("test-method", "Test!")(sub)
    done = run_cli("check", sub, "--set", benchset, "--json")
    value = json.loads(done.stdout)
    assert done.returncode == 3
    assert value["verdict"] == "refused"
    assert [(p["code"], p["ids"]) for p in value["problems"]] == [
        ("PB201", ["coffee"]),
        ("PB202", ["tea"]),
        ("PB302", ["chelsea"]),
        ("PB404", []),
    ]
    assert all(p["fix"] and p["where"] for p in value["problems"])


def test_warnings_pass_unless_checks_are_strict(sub: Path, benchset: Path, run_cli: RunCli) -> None:
    edited('"no"', '"yes"')(sub)
    lenient = run_cli("check", sub, "--set", benchset)
    strict = run_cli("check", sub, "--set", benchset, "--strict")
    assert (lenient.returncode, strict.returncode) == (0, 3)
    assert "PB410 warning" in lenient.stderr
    assert "PB410 error" in strict.stderr


def test_names_of_strangers_cannot_steer_the_terminal(sub: Path, benchset: Path, run_cli: RunCli) -> None:
    (sub / "\x1b[2J\u202egone.txt").write_text("")
    (sub / os.fsdecode(b"\xff.txt")).write_text("")
    done = run_cli("check", sub, "--set", benchset, LANG="C", LC_ALL="C")
    assert done.returncode == 3
    assert "\x1b" not in done.stderr
    assert r"\x1b[2J\u202egone.txt, \udcff.txt" in done.stderr


def test_an_unfinished_set_is_named_with_the_next_step(sub: Path, tmp_path: Path, run_cli: RunCli) -> None:
    done = run_cli("check", sub, "--set", tmp_path / "none")
    assert done.returncode == 3
    assert "manifest.json" in done.stderr
    assert "palette-bench generate" in done.stderr


def test_a_set_is_needed(sub: Path, run_cli: RunCli) -> None:
    done = run_cli("check", sub)
    assert done.returncode == 2
    assert "--set" in done.stderr


def test_a_gzipped_file_named_zip_is_refused(tmp_path: Path, benchset: Path, run_cli: RunCli) -> None:
    path = tmp_path / "sub.zip"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO())
    done = run_cli("check", path, "--set", benchset)
    assert done.returncode == 3
    assert "PB104 error" in done.stderr
