"""Fixtures every suite may use: real sets, the real command line."""

from __future__ import annotations

import io
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the processors: two threads each would fight
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from browsing import chromium
from common import SHARED, RunCli
from hypothesis import settings
from serving import Server
from submissions import submit

from palette_bench.benchset import splits
from palette_bench.benchset.generate import generate
from palette_bench.cli import exit_code
from palette_bench.core import atomic
from palette_bench.core.resources import protocol_file
from palette_bench.scoring.features import cache
from palette_bench.tasks.protocol import ImageNetSource, load

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile("palette_bench", deadline=None, derandomize=True)
settings.load_profile("palette_bench")


@pytest.fixture(autouse=True)
def _said_nothing_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said once in the life of a process is said once a test."""
    monkeypatch.setattr(cache, "_warned", False)
    monkeypatch.setattr(atomic, "_flush_warned", False)


@pytest.fixture(autouse=True)
def _log_levels_end_with_the_test() -> Iterator[None]:
    """A verb sets levels for its process, and the next test may read the log."""
    yield
    for name, log in logging.Logger.manager.loggerDict.items():
        if name.startswith("palette_bench") and isinstance(log, logging.Logger):
            log.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def smoke_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 15 sets of `smoke` (12 images, 256x256); read-only: copy a set before changing it."""
    out = tmp_path_factory.mktemp("smoke")
    generate("smoke", "all", out)
    return out


@pytest.fixture(scope="session")
def mini_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 13 sets of `palette-mini` (256 images, 64x64); read-only."""
    out = tmp_path_factory.mktemp("mini")
    generate("palette-mini", "all", out)
    return out


@pytest.fixture(scope="session")
def mini_jpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One set of `palette-mini` (256 images, 64x64), for tests that need no other; read-only."""
    out = tmp_path_factory.mktemp("mini-jpeg") / "set"
    generate("palette-mini", "jpeg/qf5", out)
    return out


@pytest.fixture
def smoke_copy(smoke_sets: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies one smoke set to a folder the test may damage."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(smoke_sets / name, tmp_path / name))

    return copy


@pytest.fixture
def run_cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunCli:
    """Run the real command line in this process, in an empty folder, and return what it said.

    It spares seconds of imports a call. What belongs to a process, such as its streams or signals, needs
    `run_process`.
    """

    def run(*args: object, cwd: Path = tmp_path, **extra_env: str) -> subprocess.CompletedProcess[str]:
        words = ["palette-bench", *map(str, args)]
        with monkeypatch.context() as patch:
            patch.chdir(cwd)
            patch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "cache"))
            for name, value in extra_env.items():
                patch.setenv(name, value)
            out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
            patch.setattr(sys, "argv", words)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(logging.getLogger(), "handlers", [])  # only the command's own
            code = exit_code()
        said = (stream.buffer.getvalue().decode() for stream in (out, err))  # type: ignore[attr-defined]
        return subprocess.CompletedProcess(words, code, *said)

    return run


@pytest.fixture
def run_process(tmp_path: Path) -> RunCli:
    """Run the real command line in a child process, in an empty folder, and return what it said."""

    def run(*args: object, cwd: Path = tmp_path, **extra_env: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PALETTE_BENCH_CACHE": str(tmp_path / "cache"), **extra_env}
        return subprocess.run(
            [sys.executable, "-m", "palette_bench", *map(str, args)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,  # a guard against hanging, not a claim
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser per file of tests; without it they skip, or fail where CI is set."""
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def sound(benchset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound submission to the file's `benchset`; read-only."""
    return submit(benchset, tmp_path_factory.mktemp("sound") / "sub")


@pytest.fixture
def sub(sound: Path, tmp_path: Path) -> Path:
    """A sound submission that a test may break."""
    return Path(shutil.copytree(sound, tmp_path / "sub"))


@pytest.fixture
def study(designed: Path, tmp_path: Path) -> Path:
    """A copy of the file's `designed` study, in which nobody has voted."""
    return Path(shutil.copytree(designed, tmp_path / "study"))


@pytest.fixture
def server(study: Path) -> Iterator[Server]:
    """The study, served by a process that tests may kill."""
    served = Server(study)
    yield served
    served.kill()


@pytest.fixture(scope="session")
def imagenet_labels() -> Path:
    """The 50,000 validation labels, where a developer has them."""
    path = SHARED / "data" / "imagenet-lists" / "val_labels.txt"
    if not path.is_file():
        pytest.skip("needs the ImageNet validation labels")
    return path


@pytest.fixture(scope="session")
def ctest10k_ids(imagenet_labels: Path) -> list[str]:
    """The ids of ctest10k, sorted."""
    spec = load("palette-2022").sources["imagenet-ctest10k"]
    assert isinstance(spec, ImageNetSource)
    dropped = [int(text) for text in protocol_file("palette-2022", spec.dropped).split()]
    chosen = splits.ctest10k(splits.read_imagenet_labels(imagenet_labels), spec, dropped)
    return sorted(map(splits.imagenet_id, chosen))
