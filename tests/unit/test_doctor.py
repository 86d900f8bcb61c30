"""`doctor`: every simulated fault is a row with its code, fix and exit code; sound machines have none."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from palette_bench.cli import doctor, main
from palette_bench.core import atomic, rng
from palette_bench.core.errors import BenchSetError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.scoring.features import canary as extractor
from palette_bench.scoring.features.weights import WeightsFile, pinned
from palette_bench.tasks import canary


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PALETTE_BENCH_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def codes(rows: Iterator[doctor.DoctorRow]) -> list[str]:
    return [p.code for row in rows for p in row.problems]


def test_a_sound_machine_is_trusted_and_left_as_it_was(tmp_path: Path) -> None:
    here = tmp_path / "work"
    here.mkdir()
    done = CliRunner().invoke(main, ["doctor", "--json", "--folder", str(here)], obj={"quiet": True})
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["trusted"]
    assert {row["area"] for row in told["rows"]} == {
        *("versions", "canary", "disk", "cache", "digests", "device", "weights")
    }
    assert {row["state"] for row in told["rows"] if row["area"] != "weights"} == {"ok"}
    assert list(here.iterdir()) == []


def test_a_variable_that_reduces_products_is_a_row_with_the_way_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    (row,) = doctor._networks()
    assert (row.what, row.found, row.state) == (
        "arithmetic",
        "environment variable ONEDNN_DEFAULT_FPMATH_MODE",
        "error",
    )
    assert "unset ONEDNN_DEFAULT_FPMATH_MODE" in str(row.problems[0])
    assert doctor.exit_code([row]) == 4


@pytest.mark.trust("all: canaries")
def test_each_canary_is_a_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    decode, fast, gray, noise = canary.decode, canary.fast_jpeg, canary.luma, rng.sampling_noise
    monkeypatch.setattr(canary, "decode", lambda data: decode(data) ^ 1)
    monkeypatch.setattr(canary, "fast_jpeg", lambda pixels, quality: fast(pixels, quality) ^ 1)
    monkeypatch.setattr(canary, "luma", lambda pixels: gray(pixels) ^ 1)
    monkeypatch.setattr(rng, "sampling_noise", lambda *key: -noise(*key))
    rows = list(doctor._canaries())
    assert [row.state for row in rows] == ["error", "error", "error", "warning"]
    assert [row.problems[0].code for row in rows] == list(canary.KINDS)
    assert all(p.fix for row in rows for p in row.problems)
    assert doctor.exit_code(rows) == 4
    assert doctor.exit_code(rows[3:]) == 0  # no set and no score rests on sampling noise


def test_other_noise_stops_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = rng.sampling_noise
    monkeypatch.setattr(rng, "sampling_noise", lambda *key: -noise(*key))
    canary.prove.__wrapped__()


def test_a_network_that_computes_otherwise_is_pb704(monkeypatch: pytest.MonkeyPatch) -> None:
    assert extractor.findings("cpu") == []
    monkeypatch.setattr(extractor, "pattern_k", lambda: canary.pattern_k() ^ 64)
    (found,) = extractor.findings("cpu")
    assert found.code == "PB704"
    assert "smoke-random on cpu" in found.where


def test_versions_outside_the_matrix_and_absent_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"numpy": "1.25.2", "torch": "2.5.1+cpu", "pillow": "10.4.0"}

    def version(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return told.get(name, "999.0")

    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor, "sys", SimpleNamespace(version_info=(3, 10, 2)))
    python, packages = doctor._versions()
    assert codes(iter([python])) == ["PB709"]
    assert sorted((p.code, p.where) for p in packages.problems) == [
        ("PB709", "numpy"),
        ("PB709", "torch"),
        ("PB711", "timm"),
    ]
    assert packages.state == "error"


def test_sets_that_differ_from_the_published_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(*args: object) -> None:
        raise BenchSetError(problem("PB606", "jpeg.qf5", expected="1", found="2"))

    monkeypatch.setattr(doctor, "generate", other)
    row = doctor._sets()
    assert (row.state, codes(iter([row])), doctor.exit_code([row])) == ("error", ["PB606"], 3)


def test_a_full_disk_and_a_short_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage._replace(free=10**9))
    work, cache = doctor._disks(tmp_path / "new")
    assert (work.state, codes(iter([work, cache]))) == ("warning", ["PB804"])

    def full(*args: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "write", full)
    work, cache = doctor._disks(tmp_path / "new")
    assert [p.code for p in work.problems] == ["PB802", "PB804"]
    assert cache.state == "warning"  # a cache costs time, never a score
    assert doctor.exit_code([work, cache]) == 5


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    work, _ = doctor._disks(tmp_path / "file" / "sets")
    assert (work.state, codes(iter([work]))) == ("error", ["PB802"])


def test_weights_absent_wrong_and_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = pinned()
    mine = replace_file(files["lpips-alex"], tmp_path / "weights" / "mine.pth", b"right")
    monkeypatch.setattr(doctor, "pinned", lambda: {"mine": mine, "lpips-alex": files["lpips-alex"]})
    right, absent = doctor._weights()
    assert (right.state, absent.state) == ("ok", "warning")
    assert absent.problems[0].fix == "palette-bench weights fetch lpips-alex"
    (tmp_path / "weights" / "mine.pth").write_bytes(b"wrong")
    wrong, _ = doctor._weights()
    assert wrong.state == "warning"
    assert "another sha256" in wrong.found


def replace_file(row: WeightsFile, path: Path, data: bytes) -> WeightsFile:
    atomic.write_bytes(path, data)
    return row.model_copy(update={"files": (path.name,), "bytes": len(data), "sha256": sha256(data)})


def test_a_gpu_that_torch_cannot_use_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_GPU_FILE", tmp_path / "none")
    assert doctor._no_gpu().state == "ok"
    (tmp_path / "nvidia0").touch()
    monkeypatch.setattr(doctor, "_GPU_FILE", tmp_path / "nvidia0")
    row = doctor._no_gpu()
    assert (row.state, codes(iter([row]))) == ("warning", ["PB707"])


def test_the_screen_shows_the_fix_under_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = problem("PB701", "decoding 420.jpg", expected="a", found="b", fix="reinstall Pillow")
    lost = replace(problem("PB705", "x", fix="fetch x"), severity="warning")
    rows = [
        doctor.DoctorRow("canary", "decoding", "1 differ", (wrong,)),
        doctor.DoctorRow("weights", "x", "absent", (lost,)),
    ]
    monkeypatch.setattr(doctor, "examine", lambda folder: iter(rows))
    done = CliRunner().invoke(main, ["doctor"], obj={"quiet": False})
    assert done.exit_code == 4
    assert "WRONG" in done.output
    assert "fix       reinstall Pillow" in done.output
    assert "PB705  fetch x" in done.output
    assert "not trusted: 2 tests, 1 warnings" in done.output


def test_a_place_below_nothing_is_measured_at_its_nearest_folder(tmp_path: Path) -> None:
    assert doctor._existing(tmp_path / "a" / "b") == tmp_path
    assert doctor._existing(Path("a")) == Path(os.getcwd())
