"""The benchmark of the whole chain: its pictures, its verdict on growth, and a small run of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from common import REPOSITORY, SHARED

SCRIPT = REPOSITORY / "benchmarks" / "full_size.py"
IMAGES = SHARED / "data" / "imagenet-sample"


@pytest.fixture(scope="module")
def full_size() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)
        import full_size

        yield full_size
    sys.modules.pop("full_size")


@pytest.mark.parametrize(
    ("seconds", "megabytes", "fault"),
    [
        ((1.0, 10.0), (90, 90), None),
        ((1.0, 12.4), (90, 90), None),  # a quarter above linear is granted
        ((1.0, 12.6), (90, 90), "12.6 times the time"),
        ((0.2, 4.0), (90, 90), None),  # too short to tell
        ((1.0, 10.0), (10, 70), None),  # 64 MB are granted
        ((1.0, 10.0), (300, 1490), None),  # half as fast as the images, too
        ((1.0, 10.0), (300, 1510), "300 to 1,510 MB"),
    ],
)
def test_what_grows_faster_than_the_images_is_told(
    seconds: tuple[float, float], megabytes: tuple[float, float], fault: str | None, full_size: ModuleType
) -> None:
    few, many = (full_size.Figures(n, s, m, 0) for n, s, m in zip((10, 100), seconds, megabytes, strict=True))
    found = full_size.fault(few, many)
    assert found is None if fault is None else fault in found


def test_equal_seeds_make_equal_pictures(full_size: ModuleType, tmp_path: Path, smoke_sets: Path) -> None:
    found = sorted((smoke_sets / "jpeg.qf10" / "reference").iterdir())
    digests = []
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / folder).mkdir()
        for number in range(5):
            full_size.make_picture(found, tmp_path / folder, seed, number)
        digests.append([path.read_bytes() for path in sorted((tmp_path / folder).iterdir())])
    assert digests[0] == digests[1]
    assert not set(digests[0]) & set(digests[2])
    assert len(set(digests[0])) == 5


@pytest.mark.long
@pytest.mark.skipif(not IMAGES.is_dir(), reason="the sample of ImageNet is not on this machine")
def test_the_chain_runs_and_a_second_run_keeps_it(tmp_path: Path) -> None:
    given = [
        "--n",
        20,
        "--sets",
        "jpeg/qf10",
        "--extractors",
        "smoke-random",
        "--json",
        tmp_path / "found.json",
    ]
    command = [sys.executable, SCRIPT, IMAGES, "-o", tmp_path / "work", *given]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    tables = []
    for _ in range(2):
        done = subprocess.run(
            [*map(str, command)], env=environment, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stderr
        tables.append(done.stdout)
    assert tables[0] == tables[1]  # seconds, too: nothing ran again
    stages = json.loads((tmp_path / "found.json").read_text())["stages"]
    assert list(stages)[:4] == ["generate", "restore", "check", "score, smoke-random"]
    assert stages["generate"]["many"]["items"] == 13 * 20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system has no /proc")
def test_a_process_is_not_charged_with_the_memory_of_the_one_that_started_it(full_size: ModuleType) -> None:
    held = b"\x01" * 300_000_000
    process = subprocess.Popen([sys.executable, "-c", "import json"], start_new_session=True)
    assert 0 < full_size.peak_memory(process) < len(held) / 2**20 / 2
    assert process.returncode == 0
