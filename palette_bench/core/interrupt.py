"""Ctrl-C and SIGTERM end a run after the current item; a second Ctrl-C ends it at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from palette_bench.core.ranks import launched

_ONE_STOP = 1.0  # seconds within which two signals are one: timeout(1) sends to the child and to its group
_HEARD = b"stopping after the current item; Ctrl-C again ends at once, without it\n"


class Interrupted(BaseException):
    """The run was asked to stop; what is finished is journalled."""

    def __init__(self, signum: int) -> None:
        """Keep the exit code: 130 for SIGINT, 143 for SIGTERM."""
        self.exit_code = 128 + signum
        super().__init__(signal.Signals(signum).name)


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Yield `check()`, which raises `Interrupted` once a stop signal has come.

    A second Ctrl-C raises it wherever the run is; not under torchrun, which passes every one on twice.
    Outside the main thread signals cannot be caught, and `check` never raises.
    """
    received: list[tuple[int, float]] = []

    def note(signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        received.append((signum, now))
        if len(received) == 1:
            os.write(2, _HEARD if signum == signal.SIGINT else b"")  # print() may be what was interrupted
        elif signum == signal.SIGINT and now - received[0][1] > _ONE_STOP and not launched():
            raise Interrupted(signum)

    def check() -> None:
        if received:
            raise Interrupted(received[0][0])

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
