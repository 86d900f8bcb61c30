"""A stand-in for `os` inside the one module that writes: at the n-th change of the disk something happens."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from palette_bench.core import atomic

Fault = Callable[[str], None]


class FaultyOs:
    """Behaves as `os`; counts the calls that change the disk, and lets a fault strike at one of them.

    A write that is struck has put half of its bytes on the disk.

    Attributes:
        calls: (call, path) of every change so far, in order.
    """

    def __init__(self, fault: Fault | None = None, at: int = 0, *, ever_after: bool = False) -> None:
        """Strike at call `at`, counted from 1, and at all later ones if `ever_after`."""
        self.calls: list[tuple[str, str]] = []
        self._strike, self._at, self._ever_after = fault, at, ever_after
        self._paths: dict[int, str] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _count(self, call: str, path: str, before: Callable[[], int] = lambda: 0) -> int:
        """Note a call; where the fault strikes, do `before` first and return what it returned."""
        self.calls.append((call, path))
        n, done = len(self.calls), 0
        if self._strike and (n == self._at or (self._ever_after and n > self._at)):
            done = before()
            self._strike(path)
        return done

    def open(self, path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_CREAT:
            self._count("open", str(path))
        handle = os.open(path, flags, mode)
        self._paths[handle] = str(path)
        return handle

    def write(self, handle: int, data: Any) -> int:
        half = memoryview(data)[: len(data) // 2]
        done = self._count("write", self._paths[handle], lambda: os.write(handle, half))
        return done or os.write(handle, data)

    def fsync(self, handle: int) -> None:
        self._count("fsync", self._paths[handle])
        os.fsync(handle)

    def replace(self, old: Any, new: Any) -> None:
        self._count("replace", str(new))
        self.calls[-1] = ("replace", f"{old} -> {new}")
        os.replace(old, new)


def full_disk(path: str) -> None:
    """Raise what a full disk raises."""
    raise OSError(errno.ENOSPC, "No space left on device", path)


def kill(path: str) -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


@contextmanager
def standing_in(shim: FaultyOs) -> Iterator[FaultyOs]:
    """Let `core.atomic` see a shim instead of `os`."""
    atomic.os = shim  # type: ignore[assignment]  # behaves as the module
    try:
        yield shim
    finally:
        atomic.os = os
