"""Ctrl-C and SIGTERM end a run after the current item, never inside one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """The run was asked to stop; what is finished is journalled."""

    def __init__(self, signum: int) -> None:
        """Keep the exit code: 130 for SIGINT, 143 for SIGTERM."""
        self.exit_code = 128 + signum
        super().__init__(signal.Signals(signum).name)


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Yield `check()`, which raises `Interrupted` once a stop signal has come.

    Outside the main thread signals cannot be caught, and `check` never raises.
    """
    received: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        received.append(signum)

    def check() -> None:
        if received:
            raise Interrupted(received[0])

    if threading.current_thread() is not threading.main_thread():
        yield check
        return
    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
