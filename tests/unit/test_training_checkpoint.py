"""Checkpoints: whole or absent whatever happens, the last sound one is found, nothing is believed."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from palette_bench.baselines.training import checkpoint
from palette_bench.baselines.training.checkpoint import open_run
from palette_bench.core import atomic
from palette_bench.core.errors import PaletteBenchError, StorageError, UsageError, WeightsError

RECIPE = 'schema = "palette-bench/recipe/1.0"\n'
STEMS = ("weights", "ema", "optimizer")


def state(step: int) -> checkpoint.CheckpointState:
    return checkpoint.CheckpointState(
        schema=checkpoint.CheckpointState.schema_name(),
        method="toy",
        step=step,
        images_seen=8 * step,
        skipped=0,
        skipped_in_a_row=0,
        parameters=6,
        configuration={"seed": 0},
        environment={"torch": "2"},
        files={},
    )


def save(run: Path, step: int) -> Path:
    tensors = {stem: {"a": torch.full((2, 3), float(step))} for stem in STEMS}
    return checkpoint.save(run, state(step), tensors, RECIPE)


def folders(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_a_checkpoint_reads_back_as_written_and_as_a_run(tmp_path: Path) -> None:
    folder = save(tmp_path, 7)
    state, tensors = checkpoint.read_checkpoint(folder)
    assert state.step == 7
    assert set(tensors) == set(STEMS)
    assert all(torch.equal(part["a"], torch.full((2, 3), 7.0)) for part in tensors.values())
    for path in (tmp_path, folder, folder / "ema.safetensors"):
        run = open_run(path)
        assert (run.recipe, run.method, run.step) == (RECIPE, "toy", 7)
        assert run.sha256 == state.files["ema.safetensors"]


def test_equal_checkpoints_are_equal_files(tmp_path: Path) -> None:
    first, second = save(tmp_path / "a", 3), save(tmp_path / "b", 3)
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


def test_the_last_two_and_every_kth_stay(tmp_path: Path) -> None:
    for step in range(1, 8):
        save(tmp_path, step)
        checkpoint.prune(tmp_path, keep_every=3)
    assert folders(tmp_path) == ["step-00000003", "step-00000006", "step-00000007"]
    save(tmp_path, 8)
    checkpoint.prune(tmp_path, keep_every=None)
    assert folders(tmp_path) == ["step-00000007", "step-00000008"]


DAMAGE: dict[str, Callable[[Path], object]] = {
    "cut": lambda folder: (folder / "ema.safetensors").write_bytes(
        (folder / "ema.safetensors").read_bytes()[:-1]
    ),
    "flipped": lambda folder: (folder / "weights.safetensors").write_bytes(
        (folder / "weights.safetensors").read_bytes()[:-1] + b"\xff"
    ),
    "no optimizer": lambda folder: (folder / "optimizer.safetensors").unlink(),
    "no ema": lambda folder: (folder / "ema.safetensors").unlink(),
    "no state": lambda folder: (folder / "state.json").unlink(),
    "torn state": lambda folder: (folder / "state.json").write_text('{"schema": "pal'),
    "empty": lambda folder: [file.unlink() for file in folder.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_newest_checkpoint_is_passed_over_and_alone_is_refused(
    damage: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = save(tmp_path, 1), save(tmp_path, 2)
    DAMAGE[damage](newer)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.newest(tmp_path) == older
    assert "PB806" in caplog.text
    assert open_run(tmp_path).step == 1
    with pytest.raises(PaletteBenchError):
        open_run(newer)
    shutil.rmtree(older)
    with pytest.raises(StorageError, match=r"PB806[\s\S]*PB801"):
        checkpoint.newest(tmp_path)


@pytest.mark.parametrize("tenth", range(10))
def test_a_file_cut_anywhere_never_loads(tenth: int, tmp_path: Path) -> None:
    folder = save(tmp_path, 1)
    file = folder / "ema.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[: len(data) * tenth // 10])
    with pytest.raises(StorageError, match="PB801"):
        checkpoint.read_checkpoint(folder)
    with pytest.raises(WeightsError, match="PB705"):
        open_run(file)


def test_saving_again_over_a_damaged_checkpoint_mends_it(tmp_path: Path) -> None:
    folder = save(tmp_path, 2)
    DAMAGE["cut"](folder)
    save(tmp_path, 2)
    assert checkpoint.newest(tmp_path) == folder


def test_a_full_disk_leaves_the_older_checkpoint_and_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = save(tmp_path, 1)
    write, calls = atomic.write_bytes, []

    def full(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 2:
            raise atomic.cannot_write(path, OSError(28, "No space left on device"))
        write(path, data)

    monkeypatch.setattr(atomic, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left"):
        save(tmp_path, 2)
    assert folders(tmp_path) == [older.name]


CHILD = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from palette_bench.core import atomic
from unit.test_training_checkpoint import checkpoint, save

run, point = Path(sys.argv[1]), sys.argv[2]
save(run, 1)
save(run, 2)
die = lambda *args, **keys: os.kill(os.getpid(), signal.SIGKILL)
write = atomic.write_bytes

def write_then_die(path, data):
    write(path, data)
    if path.name == point:
        die()

atomic.write_bytes = write_then_die
if point == "rename":
    replace = os.replace
    os.replace = lambda old, new: die() if os.path.isdir(old) else replace(old, new)
if point == "prune":
    save(run, 3)
    atomic.shutil.rmtree = die
    checkpoint.prune(run, None)
save(run, 3)
"""
POINTS = ["weights.safetensors", "optimizer.safetensors", "state.json", "rename", "prune"]


@pytest.mark.long
def test_kill_9_while_saving_never_loses_the_last_good_checkpoint(tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(tests=str(Path(__file__).parents[1])))
    children = {
        point: subprocess.Popen(
            [sys.executable, script, tmp_path / point, point], stderr=subprocess.PIPE, text=True
        )
        for point in POINTS
    }
    for point, child in children.items():
        _, said = child.communicate(timeout=120)
        assert child.returncode == -9, f"{point}: {said}"
        run = tmp_path / point
        found = checkpoint.newest(run)
        assert found is not None
        assert checkpoint.read_checkpoint(found)[0].step == (3 if point == "prune" else 2)
        atomic.sweep(run / "checkpoints")  # as the next run does
        left = ["step-00000002", "step-00000003"] if point == "prune" else ["step-00000001", "step-00000002"]
        assert folders(run) == left
        save(run, 4)
        assert checkpoint.newest(run) == run / "checkpoints" / "step-00000004"


def test_what_is_no_run_is_told_from_what_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="PB801"):
        open_run(tmp_path / "absent")
    with pytest.raises(UsageError, match="expected a run"):
        open_run(tmp_path)
    (tmp_path / "a.safetensors").write_bytes(b"\x80\x05pickle?")
    with pytest.raises(WeightsError, match="PB705"):
        open_run(tmp_path / "a.safetensors")
