"""The schedule of the learning rate belongs to the length of the run."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from toy_method import Toy, files_of, run_toy, weights_of, write_pack

from palette_bench.baselines.training.checkpoint import CheckpointState
from palette_bench.baselines.training.recipe import PaperTraining
from palette_bench.core.errors import UsageError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("data") / "pack.safetensors")


def rates(run: Path) -> list[float]:
    return [json.loads(line)["learning_rate"] for line in (run / "log.jsonl").read_text().splitlines()]


def state(run: Path, step: int) -> CheckpointState:
    return CheckpointState.read(run / "checkpoints" / f"step-{step:08d}" / "state.json")


@pytest.mark.parametrize(
    ("told", "steps", "fitted"),  # (steps, warm-up, cooldown) -> (warm-up, cooldown)
    [
        ((9500, 200, 5500), 9500, (200, 5500)),  # an unchanged recipe stays as it is
        ((8020, 200, 7820), 8020, (200, 7820)),
        ((9500, 200, 5500), 950, (200, 550)),  # the cooldown keeps its share
        ((9500, 200, 5500), 19_000, (200, 11_000)),
        ((500, 200, 5500), 500, (50, 250)),  # a copied recipe with fewer steps
        ((1_000_000, 10_000, 0), 500, (50, 0)),
        ((20, 5, 0), 1, (0, 0)),
    ],
)
def test_the_schedule_fits_into_the_run(
    told: tuple[int, int, int], steps: int, fitted: tuple[int, int]
) -> None:
    training = PaperTraining(**dict(zip(("steps", "warmup_steps", "cooldown_steps"), told, strict=True)))
    found = training.of_length(steps)
    assert (found.steps, found.warmup_steps, found.cooldown_steps) == (steps, *fitted)


@pytest.mark.trust("training: steps beyond the recipe")
def test_steps_beyond_the_recipe_are_trained_at_full_rate(data: Path, tmp_path: Path) -> None:
    run_toy(Toy(), data, tmp_path / "run", steps=9)
    assert rates(tmp_path / "run") == pytest.approx([1e-2 / 3, 2e-2 / 3] + 7 * [1e-2])
    assert weights_of(tmp_path / "run", 9) != weights_of(tmp_path / "run", 8)


@pytest.mark.trust("training: fewer steps than its cooldown")
def test_a_copied_recipe_with_fewer_steps_reaches_its_rate(data: Path, tmp_path: Path) -> None:
    run_toy(Toy(cooldown_steps=60), data, tmp_path / "run")
    assert max(rates(tmp_path / "run")) == 1e-2
    assert rates(tmp_path / "run")[-1] == pytest.approx(1e-2 / 3)


@pytest.mark.trust("training: another length on resume")
def test_a_longer_run_goes_on_by_the_longer_schedule_which_is_recorded(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    run_toy(Toy(cooldown_steps=2), data, run)
    with caplog.at_level(logging.INFO):
        run_toy(Toy(cooldown_steps=2), data, run, steps=12)
    assert rates(run)[4:] == pytest.approx([1e-2, 5e-3, *[1e-2] * 3, 7.5e-3, 5e-3, 2.5e-3], abs=5e-3)
    assert rates(run)[6] == 1e-2
    changes = state(run, 12).resumptions
    assert [c.step for c in changes] == [6]
    assert any("steps = 6 -> 12" in change for change in changes[0].differing)
    assert any("going on after step 6, to step 12" in line for line in caplog.messages)
    assert any(line.startswith("recorded: ") for line in caplog.messages)


def test_without_a_cooldown_a_longer_run_is_the_straight_one(data: Path, tmp_path: Path) -> None:
    run_toy(Toy(), data, tmp_path / "run")
    run_toy(Toy(), data, tmp_path / "run", steps=9)
    run_toy(Toy(), data, tmp_path / "straight", steps=9)
    assert files_of(tmp_path / "run", 9) == files_of(tmp_path / "straight", 9)
    assert state(tmp_path / "run", 9).resumptions == ()


def test_fewer_steps_than_done_are_refused(data: Path, tmp_path: Path) -> None:
    run_toy(Toy(), data, tmp_path / "run")
    with pytest.raises(UsageError, match="has taken 6 steps and shall have 4"):
        run_toy(Toy(), data, tmp_path / "run", steps=4)
