"""Regression and GAN as a person uses them: train, restore a set, check; and the GAN on two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from common import RunCli
from toy_method import run_toy, write_images

from palette_bench.baselines.gan import baseline as gan
from palette_bench.benchset.generate import generate
from palette_bench.benchset.sources import Request
from palette_bench.submission.check import check

FAST = {"OMP_NUM_THREADS": "1"}
R1 = """
schema = "palette-bench/recipe/1.0"
method = "gan"
[network]
preset = "palette-toy"
side = 32
multipliers = [1]
attention = []
[training]
batch = 4
micro_batch = 2
steps = 3
adversarial = "non-saturating"
[discriminator]
regularisation = "r1"
r1_every = 2
r1_weight = 1000
[log]
every = 1
strip_every = 0
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with six images and a set of them at 64 px."""
    home = tmp_path_factory.mktemp("other")
    images = write_images(home / "pictures", 6, (70, 80))
    generate("palette-mini", "jpeg/qf5", home / "set", request=Request("folder:own", images))
    return home


@pytest.mark.long
@pytest.mark.parametrize(("method", "seed"), [("regression", None), ("gan", 0)])
def test_a_trained_run_restores_a_set_that_passes_the_check(
    run_cli: RunCli, home: Path, tmp_path: Path, method: str, seed: int | None
) -> None:
    recipe = ("--task", "jpeg", "--recipe", "smoke", "--steps", 2)
    trained = run_cli("train", method, *recipe, "--data", home / "pictures", "-o", tmp_path / "run", **FAST)
    assert trained.returncode == 0, trained.stderr
    made = ("--run", tmp_path / "run", "--set", home / "set", "-o", tmp_path / "sub", "--size-policy", "tile")
    restored = run_cli("restore", method, *made, "--audit", "2", **FAST)
    assert restored.returncode == 0, restored.stderr
    assert "difference 0 levels" in restored.stderr or "difference 1 levels" in restored.stderr
    assert check(tmp_path / "sub", home / "set").ok
    card = tomllib.loads((tmp_path / "sub" / "submission.toml").read_text())
    assert (card["method"]["slug"], card["sampling"]["steps"]) == (method, 1)
    assert card["sampling"].get("seed") == seed


@pytest.mark.long
def test_two_processes_play_the_same_game_as_one(home: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(R1)
    words = ("--task", "jpeg", "--recipe", recipe, "--data", home / "pictures", "--deterministic")
    launch = ("torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "palette_bench")
    done = subprocess.run(
        [*map(str, (sys.executable, "-m", *launch, "train", "gan", *words, "-o", tmp_path / "two"))],
        env={**os.environ, **FAST},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,  # a guard against hanging, not a claim
        check=False,
    )
    assert done.returncode == 0, done.stderr
    keys = {"task": "jpeg", "recipe": str(recipe)}
    run_toy(gan.method(), home / "pictures", tmp_path / "one", **keys)
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("two", "one")]
    assert len(logs[0]) == 3
    for ours, theirs in zip(*logs, strict=True):
        two, one = json.loads(ours), json.loads(theirs)
        for key in ("loss", "loss_discriminator", "gradient_norm"):
            assert two[key] == pytest.approx(one[key], rel=1e-4)
