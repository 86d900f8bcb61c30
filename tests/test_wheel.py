"""The wheel holds every tracked file of the four folders, and works in an empty folder."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("palette_bench", "baselines", "protocols", "reports")
LEFT_OUT = (".images.csv.gz",)  # per-image tables of the record are too large for the wheel


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy of the tracked files."""
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        out,
        ROOT,
    ]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def tracked() -> list[str]:
    done = subprocess.run(
        ["git", "ls-files", "--", *FOLDERS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.splitlines() if not name.endswith(LEFT_OUT)]


def installed_name(tracked_name: str) -> str:
    return tracked_name if tracked_name.startswith("palette_bench/") else f"palette_bench/{tracked_name}"


def test_every_tracked_file_is_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    missing = [name for name in tracked() if installed_name(name) not in names]
    assert not missing


def test_the_installed_wheel_makes_the_published_set(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "env"
    venv.create(environment, with_pip=False, symlinks=True)
    python = environment / "bin" / "python"
    site = Path(next((environment / "lib").glob("python*"))) / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # the dependencies come from this environment; the package itself only from the wheel
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    work = tmp_path / "empty"
    work.mkdir()
    code = (
        "import palette_bench, palette_bench.baselines.original, pathlib, sys;"
        f"assert pathlib.Path(palette_bench.__file__).is_relative_to({str(site)!r});"
        "sys.argv = ['palette-bench', 'generate', 'smoke', 'jpeg/qf5', '-o', 'set'];"
        "from palette_bench.cli import run; run()"
    )
    done = subprocess.run([python, "-c", code], cwd=work, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "matches the published set" in done.stderr


def test_the_editable_install_finds_the_overlay_folders(tmp_path: Path) -> None:
    code = (
        "from palette_bench.core.resources import protocol_ids, report_text;"
        "import palette_bench.baselines.copy_input;"
        "assert 'palette-2022' in protocol_ids()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
