"""Atomic writes, journals, locks and errors: the floor of every verb."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from palette_bench import baselines
from palette_bench.core import atomic
from palette_bench.core.errors import CODES, InputError, StorageError, UsageError, problem, suggest
from palette_bench.core.journal import Journal, Shard, is_ours, locked

PACKAGE = Path(atomic.__file__).parents[1]
BASELINES = Path(baselines.__file__).parent


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_failed_replace_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "card.json"
    atomic.write_text(target, "old")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device", str(target))

    for step in ("fsync", "replace", "write"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(StorageError, match=r"PB802[\s\S]*No space left"):
                atomic.write_text(target, "new")
        assert target.read_text() == "old"
        assert names(tmp_path) == ["card.json"]


def test_a_batch_shows_all_its_files_or_none(tmp_path: Path) -> None:
    batch = atomic.FileBatch()
    batch.write(tmp_path / "a", b"1")
    batch.__exit__(RuntimeError, RuntimeError("stop"), None)
    assert names(tmp_path) == []
    with atomic.FileBatch() as batch:
        batch.write(tmp_path / "a", b"1")
        batch.write(tmp_path / "b", b"2")
        assert not (tmp_path / "a").exists()
    assert names(tmp_path) == ["a", "b"]


def test_only_temporaries_of_dead_runs_of_this_host_are_swept(tmp_path: Path) -> None:
    host = atomic._host_tag()
    other = "0000" if host != "0000" else "1111"
    dead, alive = 2**22 + 1, os.getpid()  # above the highest pid Linux gives
    kept = [f".x.pb-{alive}-{host}abcd.tmp", f".x.pb-{dead}-{other}abcd.tmp", ".x.tmp", "x"]
    for name in [*kept, f".x.pb-{dead}-{host}abcd.tmp"]:
        (tmp_path / name).touch()
    atomic.sweep(tmp_path)
    assert names(tmp_path) == sorted(kept)


def test_a_run_that_died_but_was_not_reaped_is_dead(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and still a zombie
    (tmp_path / f".x.pb-{child.pid}-{atomic._host_tag()}abcd.tmp").touch()
    atomic.sweep(tmp_path)
    assert names(tmp_path) == []
    child.wait()


def test_gzip_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    atomic.write_gzip(tmp_path / "a.gz", b"same")
    atomic.write_gzip(tmp_path / "b.gz", b"same")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_journals_of_all_shards_are_one(tmp_path: Path) -> None:
    header = {"set": "s"}
    for i in range(2):
        journal = Journal(tmp_path, header, Shard(i, 2))
        journal.start([])
        journal.add([{"id": f"item{i}"}])
    assert set(Journal(tmp_path, header).entries) == {"item0", "item1"}
    with pytest.raises(InputError, match=r"PB605[\s\S]*set=other[\s\S]*set=s"):
        Journal(tmp_path, {"set": "other"})


def test_shards_share_a_folder_and_whole_runs_do_not(tmp_path: Path) -> None:
    with locked(tmp_path, Shard(0, 2)), locked(tmp_path, Shard(1, 2)):
        with pytest.raises(StorageError, match=f"PB803[\\s\\S]*process {os.getpid()}"), locked(tmp_path):
            pass
        with pytest.raises(StorageError, match="PB803"), locked(tmp_path, Shard(1, 2)):
            pass
    with locked(tmp_path):
        assert all(map(is_ours, names(tmp_path)))


def test_a_problem_reads_as_where_expected_found_fix() -> None:
    ids = [f"i{n}" for n in range(30)]
    text = str(problem("PB302", "outputs", expected="256 x 256", found="512 x 512", fix="resize", ids=ids))
    assert text.splitlines()[0] == "PB302 error  wrong size: 30 times"
    assert "i0, i1" in text
    assert "i19, ..." in text
    assert "i20" not in text
    assert text.endswith("  fix       resize")


def test_errors_tell_their_exit_code_and_all_problems() -> None:
    error = InputError(problem("PB201", "a"), problem("PB202", "b"))
    assert (error.exit_code, UsageError("x").exit_code) == (3, 2)
    assert [p.code for p in error.problems] == ["PB201", "PB202"]


def test_suggestions_are_neighbours_or_the_list() -> None:
    assert suggest("colorisation", ["colorization", "jpeg"]) == "did you mean colorization?"
    assert suggest("x", ["b", "a"]) == "known: a, b"


def test_every_code_is_used_and_every_used_code_has_a_text() -> None:
    used: set[str] = set()
    for path in (*PACKAGE.rglob("*.py"), *BASELINES.rglob("*.py")):
        if path.name != "errors.py":
            used |= set(re.findall(r"PB\d{3}", path.read_text()))
    assert used == set(CODES)
