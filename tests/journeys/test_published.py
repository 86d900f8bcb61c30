"""The scores this repository publishes: whole cards, and a page that repeats them."""

from __future__ import annotations

import html
import re
import shlex
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from common import REPOSITORY, SHARED, RunCli

from palette_bench.board.site import build_site


def test_the_page_repeats_the_published_scorecards() -> None:
    script = REPOSITORY / "benchmarks" / "published.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "run `python benchmarks/published.py`"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published boards, as anybody builds them."""
    folder = tmp_path_factory.mktemp("published") / "site"
    build_site(REPOSITORY / "reports", folder)
    return folder


def test_every_published_board_brings_the_ids_of_its_set(site: Path) -> None:
    lists = {path.read_text() for path in (site / "boards").glob("*.ids.txt")}
    assert len(list((site / "boards").glob("*.html"))) == 4
    assert [len(text.split()) for text in lists] == [2500]  # the same for all four


@pytest.mark.long
@pytest.mark.parametrize("task", ["colorization", "inpainting", "uncropping", "jpeg"])
def test_the_published_sets_come_out_of_the_command_on_their_boards(
    task: str, site: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    archive = SHARED / "data" / "tiny-imagenet-100" / "val.tar"
    if not archive.is_file():
        pytest.skip("Tiny-ImageNet's validation images are not on this machine")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    (page,) = (site / "boards").glob(f"{task}.*.html")
    (line,) = re.findall(r">(palette-bench generate [^<]*)<", page.read_text())
    places = {"DIR": str(tmp_path / "val"), "SET": str(tmp_path / "set")}
    words = [places.get(word, word) for word in shlex.split(html.unescape(line).replace("\\\n", ""))[1:]]
    done = run_cli(*words, cwd=page.parent)
    assert done.returncode == 0, done.stderr
    assert "2,500 items, matches the expected set" in done.stderr
