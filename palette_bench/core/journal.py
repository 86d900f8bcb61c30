"""Journals of finished items, which let a run resume, and folder locks, which keep two runs apart.

The first line of `journal.I-of-N.jsonl` states the configuration; one line per item follows. A resumed run
compares pixel digests and does not rely on the existence of a file. Source: trust, section 2.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import socket
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from palette_bench.core import atomic
from palette_bench.core.errors import InputError, StorageError
from palette_bench.core.fingerprint import canonical_json
from palette_bench.core.records import read_file

log = logging.getLogger(__name__)

LOCK = ".pb-lock"
_CHECK = "crc"  # key of the checksum in each line
_AT = "at"  # key of the time at which a run added an entry; entries that a run has kept have none
JOURNAL = re.compile(r"journal\.(\d+)-of-(\d+)\.jsonl")  # shard index and number of shards


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count` of a run; items are assigned to the parts in turn, in id order."""

    index: int = 0
    count: int = 1

    @property
    def name(self) -> str:
        """Return the name of the shard in file names: I-of-N."""
        return f"{self.index}-of-{self.count}"

    def __str__(self) -> str:
        """Return the form of the command line: I/N."""
        return f"{self.index}/{self.count}"


WHOLE = Shard()


def is_ours(name: str) -> bool:
    """Return whether a file name is that of a journal, lock, temporary or growing file."""
    unfinished = atomic.is_temporary(name) or atomic.is_growing(name)
    return unfinished or name.startswith(LOCK) or bool(JOURNAL.fullmatch(name))


def _dump(value: dict[str, Any]) -> str:
    return canonical_json({**value, _CHECK: _checksum(value)}).decode()


def _checksum(value: dict[str, Any]) -> str:
    return f"{zlib.crc32(canonical_json(value)):08x}"


def _load(line: bytes) -> dict[str, Any] | None:
    """Return the content of a journal line, or None if the line is incomplete or its checksum is wrong."""
    try:
        value = json.loads(line)
        whole = isinstance(value, dict) and value.pop(_CHECK, None) == _checksum(value)
    except (ValueError, RecursionError):
        return None
    return value if whole else None


@dataclass(frozen=True)
class JournalFile:
    """The content of a journal, up to the first damaged line; items after that line are made again.

    Attributes:
        header: the configuration; None if the first line is damaged.
        entries: the finished items.
        times: seconds since 1970 at which the last run added its items; it may have kept more.
    """

    header: dict[str, Any] | None
    entries: list[dict[str, Any]]
    times: list[float]


def read_journal(path: Path) -> JournalFile:
    """Return the content of a journal file.

    Raises:
        StorageError: PB801, the file cannot be read.
    """
    lines = list(takewhile(lambda value: value is not None, map(_load, read_file(path).splitlines())))
    header, *found = lines or [None]
    entries = [entry for entry in found if entry]
    times = [float(at) for entry in entries if (at := entry.pop(_AT, None)) is not None]
    return JournalFile(header, entries, times)


class Journal:
    """The journal of one shard.

    `entries` are the items of all shards, by id, that were finished when it was read.
    """

    def __init__(self, folder: Path, header: dict[str, Any], shard: Shard = WHOLE) -> None:
        """Read every journal in `folder`.

        Raises:
            InputError: PB605, the folder was started with another configuration.
        """
        self.path = folder / f"journal.{shard.name}.jsonl"
        self.header = header
        self.entries: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob("journal.*.jsonl")):
            found = read_journal(path)
            if found.header not in (None, header):
                other = found.header or {}
                keys = sorted(k for k in header.keys() | other.keys() if header.get(k) != other.get(k))
                expected, stated = (", ".join(f"{k}={h.get(k)}" for k in keys) for h in (header, other))
                fix = "use another output folder, or repeat the first command"
                raise InputError.of("PB605", str(path), expected=expected, found=stated, fix=fix)
            self.entries.update((entry["id"], entry) for entry in found.entries)

    def start(self, kept: Iterable[dict[str, Any]]) -> None:
        """Rewrite this shard's journal with the header and the entries that are still valid."""
        lines = [_dump(self.header), *(_dump(entry) for entry in kept)]
        atomic.write_text(self.path, "".join(f"{line}\n" for line in lines))

    def add(self, entries: list[dict[str, Any]]) -> None:
        """Append finished items; they are synced to the disk when the call returns."""
        now = round(time.time(), 2)
        atomic.append_lines(self.path, (_dump({**entry, _AT: now}) for entry in entries))


def _lock(path: Path, mode: int) -> int:
    """Lock a file and return its file descriptor.

    Raises:
        StorageError: PB803, another process holds the lock; the message names that process.
        OSError: the file system does not support locks.
    """
    handle = atomic.open_lock_file(path)
    try:
        fcntl.flock(handle, mode | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(handle, 64, 0).decode(errors="replace").strip()
        os.close(handle)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise _in_use(path.parent, f"process {holder or 'unknown'}", "wait for it to end") from error
        if error.errno in atomic.UNSUPPORTED:
            raise
        raise atomic.cannot_write(path, error) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
    return handle


def _in_use(folder: Path, holder: str, advice: str) -> StorageError:
    fix = f"{advice}, or use another output folder"
    return StorageError.of("PB803", str(folder), found=f"in use by {holder}", fix=fix)


@contextmanager
def locked(folder: Path, shard: Shard = WHOLE) -> Iterator[None]:
    """Lock a folder against other runs while the block runs; the shards of one run share the folder.

    Raises:
        StorageError: PB803, another run uses the folder; the message names its process.
    """
    atomic.make_folder(folder)
    alone = shard.count == 1
    handles = []
    try:
        try:
            handles.append(_lock(folder / LOCK, fcntl.LOCK_EX if alone else fcntl.LOCK_SH))
            if not alone:
                handles.append(_lock(folder / f"{LOCK}.{shard.name}", fcntl.LOCK_EX))
        except OSError as error:
            text = "%s: this file system has no locks (%s); files named %s.held replace them"
            log.warning(text, folder, error.strerror, LOCK)
            with _held(folder, shard):
                yield
        else:
            yield
    finally:
        for handle in handles:
            os.close(handle)


@contextmanager
def _held(folder: Path, shard: Shard) -> Iterator[None]:
    """Lock a folder with a file that only one process can create, on file systems without locks.

    The file names the process and its machine. Any such file excludes a whole run. The file of a whole run,
    or of the same shard, excludes a shard. Each run creates its own file before it looks for others, so that
    two simultaneous runs cannot miss each other.
    """
    own = folder / f"{LOCK}.held.{shard.name}"
    _require_left(own)
    try:
        atomic.claim(own, f"{socket.gethostname()} {os.getpid()}\n".encode())
    except FileExistsError:  # another run created it after the test above
        raise _in_use(folder, "another run", "wait for it to end") from None
    whole = [folder / f"{LOCK}.held.{WHOLE.name}"]
    try:
        for path in sorted(folder.glob(f"{LOCK}.held.*")) if shard == WHOLE else whole:
            if path != own:
                _require_left(path)
        yield
    finally:
        own.unlink(missing_ok=True)


def _require_left(path: Path) -> None:
    """Remove a lock file if its process, on this machine, has ended.

    Raises:
        StorageError: PB803, the process is running, or it belongs to another machine, so its state is
            unknown.
    """
    try:
        host, pid = path.read_text().split()
        if host == socket.gethostname() and not atomic.is_alive(int(pid)):
            path.unlink(missing_ok=True)
            return
    except FileNotFoundError:
        return
    except ValueError:
        host, pid = "an unknown machine", "?"
    advice = f"wait for it to end; if it has ended already, remove {path}"
    raise _in_use(path.parent, f"process {pid} of {host}", advice)
