"""A job array under kills, repeats and reorderings gives what one process gives, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.trust("all: job arrays")
@pytest.mark.parametrize(
    ("shards", "kills", "images"), [(3, 3, 33), pytest.param(8, 20, 128, marks=pytest.mark.long)]
)
def test_a_job_array_killed_repeated_and_reordered_gives_what_one_process_gives(
    shards: int, kills: int, images: int, tmp_path: Path
) -> None:
    script = Path(__file__).with_name("shard_kills.py")
    options = ["--shards", str(shards), "--kills", str(kills), "--images", str(images)]
    done = subprocess.run(
        [sys.executable, script, *options],
        capture_output=True, text=True, cwd=tmp_path, timeout=600, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(": 0 faults") == 3
