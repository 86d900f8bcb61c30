"""The reference model as a person uses it: train, restore a set, check, restore an image of one's own."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from common import RunCli
from PIL import Image as PillowImage

from palette_bench.benchset.images import photo_path

pytestmark = pytest.mark.long  # minutes: make test-all


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six windows of photographs and a run of the smoke recipe."""
    home = tmp_path_factory.mktemp("palette")
    (home / "pictures").mkdir()
    for name in ("astronaut", "chelsea", "coffee"):
        with PillowImage.open(photo_path(f"{name}.png")) as photo:
            for k in range(2):
                window = photo.convert("RGB").crop((100 * k, 50, 100 * k + 200, 250))
                window.save(home / "pictures" / f"{name}-window-{k}.png")
    words = ["train", "palette", "--task", "inpainting", "--recipe", "smoke", "--data", home / "pictures"]
    done = subprocess.run(
        [sys.executable, "-m", "palette_bench", *map(str, words), "-o", str(home / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return home


def test_a_trained_run_restores_a_set_that_passes_the_check(
    run_cli: RunCli, home: Path, tmp_path: Path
) -> None:
    benchset, sub = tmp_path / "set", tmp_path / "sub"
    source = ("--source", "folder:own", "--images", home / "pictures")
    made = run_cli("generate", "palette-mini", "inpainting/center32", *source, "-o", benchset)
    assert made.returncode == 0, made.stderr
    method = ("palette", "--run", home / "run", "--set", benchset)
    larger = run_cli("restore", *method, "-o", sub)
    assert larger.returncode == 2
    assert "PB302" in larger.stderr
    assert "32 x 32 px, the size the run was trained at" in larger.stderr
    assert not sub.exists()
    method = (*method, "--size-policy", "native")
    restored = run_cli("restore", *method, "-o", sub, "--audit", "2")
    assert restored.returncode == 0, restored.stderr
    assert "largest difference 0 levels" in restored.stderr or "difference 1 levels" in restored.stderr
    assert run_cli("check", sub, "--set", benchset).returncode == 0
    card = tomllib.loads((sub / "submission.toml").read_text())
    assert card["declared"]["postprocess"] == "size policy native: trained at 32 px"
    assert card["sampling"]["sampler"] == "dpmpp-2m/log-snr/static"
    assert (card["sampling"]["steps"], card["sampling"]["seed"]) == (3, 0)
    assert card["training"]["parameters"] == 1_371_971
    assert card["training"]["task_specific"] is True
    refused = run_cli("restore", *method, "-o", sub, "--steps", "4")
    assert refused.returncode == 3
    assert "PB605" in refused.stderr


def test_an_image_of_ones_own_is_filled_where_the_mask_is_white(
    run_cli: RunCli, home: Path, tmp_path: Path
) -> None:
    image = home / "pictures" / "coffee-window-0.png"
    mask = np.zeros((200, 200), np.uint8)
    mask[20:60, 150:] = 255
    PillowImage.fromarray(mask).save(tmp_path / "mask.png")
    words = ("--task", "inpainting", "--mask", tmp_path / "mask.png", "--run", home / "run")
    done = run_cli("restore", image, tmp_path / "out.png", *words)
    assert done.returncode == 0, done.stderr
    before, after = (np.asarray(PillowImage.open(path)) for path in (image, tmp_path / "out.png"))
    assert (before[mask == 0] == after[mask == 0]).all()
    assert (before[mask == 255] != after[mask == 255]).any()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--sampler", "ancestor"), 2, "did you mean ancestral"),
        (("--sampler", "ancestral/paper"), 2, "grid 'paper' has 1000 levels"),
        (("--device", "cuda:99"), 4, "PB707"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    run_cli: RunCli, home: Path, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    image = home / "pictures" / "coffee-window-0.png"
    own = ("--task", "uncropping", "--extend", "right=16", "--run", home / "run")
    done = run_cli("restore", image, tmp_path / "out.png", *own, *words)
    assert done.returncode == code
    assert message in done.stderr
    assert not (tmp_path / "out.png").exists()
