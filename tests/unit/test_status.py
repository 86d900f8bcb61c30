"""status: what is done, missing and left, over all shards, from what lies on disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from common import RunCli

from palette_bench.core import journal
from palette_bench.core.journal import Journal, Shard
from palette_bench.submission.run_status import run_status


class Clock:
    """A clock that stands where a test puts it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(journal.time, "time", found.time)
    return found


def told(run_cli: RunCli, *words: object) -> list[dict[str, Any]]:
    done = run_cli("status", *words, "--json")
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout)["runs"])


def test_speed_and_time_left_follow_from_when_items_were_added(tmp_path: Path, clock: Clock) -> None:
    header = {"rules": "r", "n": 100}
    (tmp_path / "input").mkdir()
    for index, seconds in ((0, 10.0), (1, 20.0)):
        own = Journal(tmp_path, header, Shard(index, 4))
        own.start([{"id": f"kept{index}"}])  # of an earlier run: says nothing of this one's speed
        clock.now = 1_000.0
        for number in range(5):
            own.add([{"id": f"i{index}-{number}-{k}"} for k in range(2)])
            clock.now += seconds
    for entry in Journal(tmp_path, header).entries:
        (tmp_path / "input" / f"{entry}.png").touch()
    (tmp_path / "input" / "i0-0-0.png").unlink()
    clock.now = 1_100.0
    (one,) = run_status(tmp_path)
    first, second, third, _ = one.shards
    assert (one.kind, one.closed, first.name, first.total, third.done) == ("generate", False, "0/4", 25, 0)
    assert (first.done, first.lost, first.missing) == (10, 1, 15)
    assert first.per_second == pytest.approx(8 / 40)
    assert first.seconds_left == pytest.approx(15 / (8 / 40))
    assert (first.silent_s, second.silent_s, third.silent_s) == (60.0, 20.0, None)
    assert (one.whole.done, one.whole.missing) == (21, 79)
    assert one.whole.per_second == pytest.approx(8 / 40 + 8 / 80)
    clock.now = 10_000.0  # nobody works any more
    assert run_status(tmp_path)[0].whole.seconds_left is None


def test_each_kind_of_run_is_told_by_its_folder(run_cli: RunCli, smoke_sets: Path, tmp_path: Path) -> None:
    (one,) = told(run_cli, smoke_sets / "jpeg.qf5")
    assert (one["kind"], one["closed"], one["all"]["done"], one["all"]["missing"]) == (
        "generate",
        True,
        12,
        0,
    )
    assert len(told(run_cli, smoke_sets)) == 15

    words = ("restore", "copy-input", "--set", smoke_sets / "jpeg.qf5", "-o", "sub", "--samples", 2)
    assert run_cli(*words, "--shard", "1/5").returncode == 0
    (one,) = told(run_cli, "sub")
    assert (one["kind"], one["closed"], one["all"]["done"], one["all"]["total"]) == ("restore", False, 6, 24)
    assert [shard["total"] for shard in one["shards"]] == [6, 6, 4, 4, 4]
    (tmp_path / "sub" / "outputs").joinpath(next((tmp_path / "sub" / "outputs").iterdir()).name).unlink()
    (one,) = told(run_cli, "sub")
    assert (one["all"]["done"], one["all"]["lost"]) == (5, 1)
    assert run_cli(*words).returncode == 0  # whole, after the shards
    (one,) = told(run_cli, "sub")
    assert (one["closed"], one["all"]["missing"], len(one["shards"])) == (True, 0, 1)

    words = ("score", "sub", "--set", smoke_sets / "jpeg.qf5", "--metrics", "psnr", "-o", "card.json")
    assert run_cli(*words, "--shard", "1/2").returncode == 0
    (one,) = told(run_cli, "card.json")
    assert (one["kind"], one["all"]["done"], [s["total"] for s in one["shards"]]) == ("score", 0, [12, 0])
    assert run_cli(*words, "--shard", "0/2").returncode == 0
    printed = run_cli("status", "card.parts", "sub").stdout.splitlines()
    assert printed[0].startswith("score  card.parts  closed")
    assert printed[1].split() == ["shard", "done", "of", "missing", "lost", "images/s", "left", "last"]
    assert printed[4].split()[:5] == ["all", "12", "12", "0", "0"]


def test_a_training_run_tells_its_steps(run_cli: RunCli, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.resolved.toml").write_text("[training]\nsteps = 100\n")
    (one,) = told(run_cli, "run")
    assert (one["kind"], one["unit"], one["all"]["done"], one["all"]["seconds_left"]) == (
        *("train", "steps"),
        *(0, None),
    )
    line = {"step": 40, "images_seen": 320, "images_per_second": 16.0}
    (run / "log.jsonl").write_text(json.dumps(line) + '\n{"step": 4')  # the last line is being written
    (one,) = told(run_cli, "run")
    assert (one["all"]["done"], one["all"]["missing"], one["all"]["per_second"]) == (40, 60, 16.0)
    assert one["all"]["seconds_left"] == 30.0
    assert "40 " in run_cli("status", "run").stdout


def test_where_no_run_is_the_fix_is_told(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run_cli("status", "empty")
    assert done.returncode == 5
    assert "PB801" in done.stderr
    assert "generate, restore" in done.stderr
    (tmp_path / "empty" / "journal.0-of-1.jsonl").write_text("no journal\n")
    assert run_cli("status", "empty").returncode == 3
