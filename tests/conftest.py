"""Fixtures every suite may use: real sets, the real command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from palette_bench.benchset.generate import generate, targets_of
from palette_bench.benchset.sources import Request, open_source
from palette_bench.tasks.protocol import load

settings.register_profile("palette_bench", deadline=None, derandomize=True)
settings.load_profile("palette_bench")

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"  # real pictures and weights, where a developer has them

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]


def make_sets(protocol: str, wanted: str, source: str, out: Path, workers: int = 1) -> Path:
    """Generate sets of a bundled source in this process."""
    rules = load(protocol)
    generate(
        rules,
        targets_of(rules, wanted, source, out),
        open_source(rules, Request(source)),
        workers=workers,
    )
    return out


@pytest.fixture(scope="session")
def smoke_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 13 sets of `smoke` (12 pictures, 256x256); read-only: copy a set before changing it."""
    return make_sets("smoke", "all", "smoke-photos", tmp_path_factory.mktemp("smoke"))


@pytest.fixture(scope="session")
def mini_sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 13 sets of `palette-mini` (256 pictures, 64x64); read-only."""
    return make_sets("palette-mini", "all", "photos-64", tmp_path_factory.mktemp("mini"))


@pytest.fixture
def smoke_copy(smoke_sets: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies one smoke set to a folder the test may damage."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(smoke_sets / name, tmp_path / name))

    return copy


@pytest.fixture
def run_cli(tmp_path: Path) -> RunCli:
    """Run the real command line in a child process, in an empty folder, and return what it said."""

    def run(*args: object, **extra_env: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PALETTE_BENCH_CACHE": str(tmp_path / "cache"), **extra_env}
        return subprocess.run(
            [sys.executable, "-m", "palette_bench", *map(str, args)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=600,  # a guard against hanging, not a claim
            check=False,
        )

    return run
