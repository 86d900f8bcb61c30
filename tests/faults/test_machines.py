"""Machines of strangers: no home, odd file systems, other encodings, closed outputs, absent devices."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from common import RunCli

from palette_bench.benchset.generate import generate
from palette_bench.benchset.verify import verify
from palette_bench.cli import VERBS
from palette_bench.core import atomic, journal
from palette_bench.core.errors import DeviceError, StorageError
from palette_bench.core.journal import Shard, locked
from palette_bench.runtime.device import open_device
from palette_bench.scoring.features import cache

UNSUPPORTED = [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK]
NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]


def raises(number: int) -> Callable[..., None]:
    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


# --- caches ---


@pytest.mark.trust("machines: cache")
def test_a_user_without_a_home_scores_without_a_cache_and_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("PALETTE_BENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    store = cache.ArrayCache("features")
    for key in ("a", "b"):
        store.store(key, {"x": np.zeros(2, np.float32)}, {})
        assert store.load(key) is None
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no home folder" in caplog.text
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.cache_folder() is None


@pytest.mark.trust("machines: cache")
def test_a_cache_that_may_not_be_entered_costs_a_warning_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Path, "is_file", raises(errno.EACCES))
    store = cache.ArrayCache("features")
    assert store.load("a") is None
    assert store.load("b") is None
    assert caplog.text.count("scored without a cache") == 1


@pytest.mark.trust("machines: cache")
def test_a_dead_run_s_leftover_on_a_read_only_disk_stays_and_does_no_harm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    folder = tmp_path / "features"
    folder.mkdir()
    left = folder / f".x.pb-{ended.pid}-{atomic._host_tag()}0000.tmp"
    left.touch()
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", raises(errno.EROFS))
        patch.setattr(os, "open", raises(errno.EROFS))
        cache.ArrayCache("features").store("a", {"x": np.zeros(2, np.float32)}, {})
    assert "Read-only file system" in caplog.text
    atomic.sweep(folder)
    assert not left.exists()


@pytest.mark.long
@pytest.mark.trust("machines: cache")
def test_the_command_line_scores_where_no_cache_can_be(
    run_cli: RunCli, smoke_sets: Path, tmp_path: Path
) -> None:
    benchset = smoke_sets / "jpeg.qf5"
    assert run_cli("restore", "copy-input", "--set", benchset, "-o", "sub").returncode == 0
    words = ("score", "sub", "--set", benchset, "-o", "c.json", "--extractor", "smoke-random")
    done = run_cli(*words, PALETTE_BENCH_CACHE="/dev/null/cache")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("scored without a cache") == 1
    assert "PB808" not in done.stderr
    assert (tmp_path / "c.json").exists()


# --- file systems ---


@pytest.mark.trust("machines: fsync")
@pytest.mark.parametrize("number", UNSUPPORTED)
def test_a_file_system_that_does_not_flush_folders_is_said_once(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flush = os.fsync

    def refuses_folders(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        flush(handle)

    monkeypatch.setattr(os, "fsync", refuses_folders)
    monkeypatch.setattr(atomic, "_flush_warned", False)
    generate("smoke", "jpeg/qf5", tmp_path / "set")
    assert verify(tmp_path / "set") == []
    assert caplog.text.count("does not flush") == 1


@pytest.mark.trust("machines: fsync")
def test_a_disk_that_fails_to_flush_is_still_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "fsync", raises(errno.EIO))
    with pytest.raises(StorageError, match="PB802"):
        atomic.write_bytes(tmp_path / "file", b"x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.trust("machines: locks")
@pytest.mark.parametrize("number", NO_LOCKS)
def test_where_there_are_no_locks_a_file_stands_in(
    number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fcntl, "flock", raises(number))
    with locked(tmp_path):
        for shard in (Shard(), Shard(0, 2)):
            with (
                pytest.raises(StorageError, match=f"PB803[\\s\\S]*process {os.getpid()} of"),
                locked(tmp_path, shard),
            ):
                pass
    with locked(tmp_path, Shard(0, 2)), locked(tmp_path, Shard(1, 2)):
        with pytest.raises(StorageError, match="PB803"), locked(tmp_path):
            pass
        with pytest.raises(StorageError, match="PB803"), locked(tmp_path, Shard(1, 2)):
            pass
    assert not list(tmp_path.glob(".pb-lock.held*"))
    assert "has no locks" in caplog.text
    generate("smoke", "jpeg/qf5", tmp_path / "set")
    assert verify(tmp_path / "set") == []


@pytest.mark.trust("machines: locks")
@pytest.mark.parametrize("first", [Shard(), Shard(0, 2)])
def test_one_that_comes_between_the_look_and_the_claim_is_not_overlooked(
    first: Shard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fcntl, "flock", raises(errno.ENOLCK))
    other = Shard(1, 2) if first == Shard() else Shard()
    claim, entered = atomic.claim, []

    def late(path: Path, data: bytes) -> None:
        claim(path, data)
        if not entered:  # another begins just now
            entered.append(path)
            with pytest.raises(StorageError, match="PB803"), locked(tmp_path, other):
                pass

    monkeypatch.setattr(atomic, "claim", late)
    with locked(tmp_path, first):
        assert len(list(tmp_path.glob(".pb-lock.held.*"))) == 1


@pytest.mark.trust("machines: locks")
def test_the_file_of_a_run_that_ended_is_taken_over_and_another_machine_s_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(fcntl, "flock", raises(errno.ENOLCK))
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    held = tmp_path / ".pb-lock.held.0-of-1"
    held.write_text(f"{journal.socket.gethostname()} {ended.pid}\n")
    with locked(tmp_path):
        assert held.read_text().split()[1] == str(os.getpid())
    held.write_text("elsewhere 1\n")
    with pytest.raises(StorageError, match=f"process 1 of elsewhere[\\s\\S]*remove {held}"), locked(tmp_path):
        pass
    held.write_text("torn")
    with pytest.raises(StorageError, match="an unknown machine"), locked(tmp_path):
        pass


@pytest.mark.trust("machines: fsync")
@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "日" * 85])
def test_a_file_may_have_the_longest_name_there_is(name: str, tmp_path: Path) -> None:
    atomic.write_bytes(tmp_path / name, b"x")
    assert (tmp_path / name).read_bytes() == b"x"


# --- outputs ---


@pytest.mark.trust("machines: encodings")
@pytest.mark.parametrize("encoding", ["cp932", "koi8-r", "latin-1", "ascii", "cp1252"])
def test_no_character_stops_an_output_of_another_encoding(
    encoding: str, run_cli: RunCli, smoke_sets: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "日本é"
    folder.mkdir()
    (folder / "submission.toml").write_text("ё = 1\n", encoding="utf-8")
    for words in (("check", folder, "--set", smoke_sets / "jpeg.qf5"), ("ls", "tasks"), ("show", folder)):
        done = run_cli(*words, PYTHONIOENCODING=encoding, LC_ALL="C", PYTHONUTF8="0")
        assert done.returncode in (0, 3, 5), done.stderr
        assert "internal error" not in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.trust("machines: encodings")
@pytest.mark.parametrize("verb", VERBS)
def test_every_help_is_printed_in_ascii(verb: str, run_cli: RunCli) -> None:
    done = run_cli(verb, "--help", PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert done.stdout.isascii()


def end_of(stdout: int, *words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "palette_bench", *words],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.trust("machines: outputs")
def test_a_full_output_and_one_that_nobody_reads_end_with_their_codes(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        code, said = end_of(full.fileno(), "ls", "metrics")
    assert (code, said) == (5, "cannot write to the standard output: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert end_of(writer, "ls", "metrics") == (141, "")
    finally:
        os.close(writer)


@pytest.mark.trust("machines: outputs")
def test_without_a_temporary_folder_and_without_a_working_one_the_error_is_still_told(
    run_cli: RunCli, smoke_sets: Path, tmp_path: Path
) -> None:
    done = run_cli("verify", smoke_sets / "jpeg.qf5", TMPDIR="/nowhere")
    assert done.returncode == 0, done.stderr
    script = f"mkdir gone && cd gone && rmdir ../gone && {sys.executable} -m palette_bench verify set"
    gone = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert gone.returncode == 5, gone.stderr
    assert "PB801" in gone.stderr
    assert "it was deleted" in gone.stderr


# --- devices ---


@pytest.mark.trust("machines: devices")
@pytest.mark.parametrize("name", ["cuda:99", "mps", "xpu", "meta", "privateuseone"])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(DeviceError, match=r"PB707[\s\S]*this machine has cpu"):
        open_device(name)


@pytest.mark.trust("machines: devices")
@pytest.mark.parametrize(
    ("name", "told"), [("gpu", "did you mean cuda"), ("CUDA", "did you mean"), ("cuda:x", "did you mean")]
)
def test_a_name_that_is_no_device_gets_a_suggestion(name: str, told: str, run_cli: RunCli) -> None:
    for verb in (
        ("score", "s", "--set", "s", "-o", "c"),
        ("restore", "palette"),
        ("evaluate", ".", "--set", "s", "-o", "o"),
    ):
        done = run_cli(*verb, "--device", name)
        assert done.returncode == 2
        assert re.search(told, done.stderr), done.stderr


@pytest.mark.trust("machines: devices")
@pytest.mark.parametrize("name", ["mps", "xpu"])
def test_a_kind_that_torch_has_is_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if name == "mps":
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    else:
        monkeypatch.setattr(torch.xpu, "is_available", lambda: True)
        monkeypatch.setattr(torch.xpu, "device_count", lambda: 1)
    assert open_device(name).type == name


@pytest.mark.trust("machines: outputs")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_closed_streams_stop_nothing(closed: str) -> None:
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m palette_bench ls metrics {closed}"], check=False)
    assert done.returncode == 0


@pytest.mark.trust("machines: outputs")
@pytest.mark.parametrize(("word", "code"), [("smoke", 0), ("smok", 3)])
def test_words_that_nobody_takes_are_lost_and_the_work_goes_on(word: str, code: int, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "palette_bench", "generate", word, "jpeg/qf5", "-o", str(tmp_path / "s")]
    with open("/dev/full", "w") as full:
        assert subprocess.run(command, stderr=full, stdout=subprocess.DEVNULL, check=False).returncode == code
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert subprocess.run(command, stderr=writer, stdout=writer, check=False).returncode in (code, 141)
    finally:
        os.close(writer)
