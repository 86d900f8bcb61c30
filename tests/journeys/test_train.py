"""`palette-bench train` as a person runs it: from nothing, stopped and resumed, on two processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from common import RunCli
from toy_method import write_images

from palette_bench.baselines.palette import baseline
from palette_bench.baselines.training.checkpoint import TrainedRun, open_run
from palette_bench.submission.methods import TrainOptions

RECIPE = """\
schema = "palette-bench/recipe/1.0"
method = "palette"
[network]
preset = "palette-toy"
[training]
batch = 4
micro_batch = 2
steps = 4
learning_rate = 1e-3
warmup_steps = 2
ema_decay = 0.9
[checkpoints]
save_every = 100
[log]
every = 1
strip_every = 0
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images and a recipe of four small steps."""
    folder = tmp_path_factory.mktemp("train")
    write_images(folder / "pictures" / "a" / "class", 7)
    write_images(folder / "pictures" / "b", 5)
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def arguments(folder: Path, run: Path, *more: object) -> list[object]:
    data = (
        "--data",
        folder / "pictures" / "a",
        folder / "pictures" / "b",
        "--recipe",
        folder / "recipe.toml",
    )
    return ["train", "palette", "--task", "inpainting", *data, "-o", run, "--deterministic", *more]


@pytest.fixture(scope="module")
def straight(folder: Path) -> Path:
    """A run of four steps without a stop."""
    command = [sys.executable, "-m", "palette_bench", *arguments(folder, folder / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*map(str, command)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(folder / "run")]
    assert "step 4 of 4" in done.stderr
    assert "next         palette-bench restore palette --run" in done.stderr
    return folder / "run"


def resumed(folder: Path, run: Path, steps: int) -> TrainedRun:
    """Go on to `steps` in this process, and return the weights."""
    torch.set_num_threads(1)
    recipe, data = str(folder / "recipe.toml"), (folder / "pictures" / "a", folder / "pictures" / "b")
    baseline.train(TrainOptions("inpainting", data, run, recipe, steps=steps, deterministic=True))
    return open_run(run)


@pytest.mark.parametrize(
    ("stop", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGUSR1, 75, marks=pytest.mark.long)]
)
def test_a_stopped_run_resumes_to_the_very_weights(
    stop: int, code: int, folder: Path, straight: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "palette_bench", *map(str, arguments(folder, run, "--steps", 400))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        while "step 1 of" not in (said := child.stderr.readline()):
            assert said, "ended before its first step"
        child.send_signal(stop)
        rest = child.stderr.read()
    assert child.returncode == code, rest
    assert "run the same command again" in rest
    # the pace decided at which step the signal came: go on to where both can meet
    steps = max(4, open_run(run).step + 1)
    whole = Path(shutil.copytree(straight, tmp_path / "straight"))
    found, expected = resumed(folder, run, steps), resumed(folder, whole, steps)
    assert found.step == expected.step == steps
    assert found.sha256 == expected.sha256


@pytest.mark.long
def test_two_processes_take_the_same_steps_as_one(folder: Path, straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "palette_bench"]
    done = subprocess.run(
        [sys.executable, *map(str, [*launch, *arguments(folder, run)])],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,  # a guard against hanging, not a claim
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(run)]  # rank 0 alone speaks
    assert done.stderr.count("step 4 of 4") == 1
    two, one = open_run(run), open_run(straight)
    assert two.step == one.step == 4
    assert all(
        torch.allclose(two.tensors[name], one.tensors[name], rtol=0, atol=1e-6) for name in one.tensors
    )
    logs = [(path / "log.jsonl").read_text().splitlines() for path in (run, straight)]
    for ours, theirs in zip(*logs, strict=True):
        found, expected = json.loads(ours), json.loads(theirs)
        assert found["loss"] == pytest.approx(expected["loss"], abs=1e-6)
        # Adam hides a wrong scale of the gradient, its norm does not
        assert found["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-5)


def test_all_problems_of_a_recipe_are_told_with_exit_3(run_cli: RunCli, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(RECIPE.replace("batch = 4\n", "batsh = 4\n", 1).replace("toy", "toi"))
    done = run_cli(*arguments(folder, tmp_path / "run", "--recipe", tmp_path / "bad.toml"))
    assert done.returncode == 3
    assert all(word in done.stderr for word in ("PB402", "did you mean", "training.batsh", "network.preset"))
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_meant_is_exit_2(run_cli: RunCli, folder: Path, tmp_path: Path) -> None:
    done = run_cli("train", "copy-input", "--task", "jpeg", "--data", folder, "-o", tmp_path / "run")
    assert done.returncode == 2
    assert "copy-input cannot be trained" in done.stderr
    done = run_cli(*arguments(folder, tmp_path / "run", "--init-kind", "adm-64"))
    assert done.returncode == 2
    assert "--init FILE" in done.stderr


@pytest.mark.long
@pytest.mark.trust("training: --resume")
def test_resume_needs_the_run_alone_and_takes_moved_images(
    run_cli: RunCli, folder: Path, tmp_path: Path
) -> None:
    run, images = tmp_path / "run", Path(shutil.copytree(folder / "pictures", tmp_path / "pictures"))
    recipe = Path(shutil.copy(folder / "recipe.toml", tmp_path / "own.toml"))
    started = ("train", "palette", "--task", "inpainting", "--data", images, "-o", run, "--seed", 3)
    assert run_cli(*started, "--recipe", recipe, "--steps", 2).returncode == 0
    recipe.unlink()
    done = run_cli("train", "--resume", run, "--steps", 3)
    assert done.returncode == 0, done.stderr
    assert "going on after step 2, to step 3" in done.stderr
    moved = images.rename(tmp_path / "moved")
    lost = run_cli("train", "--resume", run, "--steps", 4)
    assert lost.returncode == 3
    assert "--data" in lost.stderr
    done = run_cli("train", "--resume", run, "--data", moved, "--steps", 4)
    assert done.returncode == 0, done.stderr
    assert open_run(run).step == 4


def test_resume_says_what_it_knows_and_what_is_no_run(run_cli: RunCli, tmp_path: Path) -> None:
    assert run_cli("train", "palette", "--resume", tmp_path).returncode == 2
    done = run_cli("train", "--resume", tmp_path)
    assert done.returncode == 5
    assert "options.json" in done.stderr
    done = run_cli("train", "palette")
    assert done.returncode == 2
    assert "missing --task, --data, -o RUN" in done.stderr
