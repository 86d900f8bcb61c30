"""Ctrl-C and SIGTERM end a run after the current item; a second Ctrl-C ends it at once."""

from __future__ import annotations

import os
import signal
import socket
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

    A second Ctrl-C ends the process with 130, whatever it is doing; not under torchrun, which passes every
    one on twice. Outside the main thread signals cannot be caught, and `check` never raises.
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
    with _second_ends():
        try:
            yield check
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


@contextmanager
def _second_ends() -> Iterator[None]:
    """Watch for a second Ctrl-C from a thread: the main one hears nothing within an operation of torch."""
    incoming, outgoing = socket.socketpair()
    outgoing.setblocking(False)
    before = signal.set_wakeup_fd(outgoing.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(incoming,), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        outgoing.close()
        watcher.join()
        incoming.close()


def _watch(incoming: socket.socket) -> None:
    first = None
    while arrived := incoming.recv(1):
        if arrived[0] != signal.SIGINT:
            continue
        now = time.monotonic()
        if first is None:
            first = now
            os.write(2, _HEARD)
        elif now - first > _ONE_STOP and not launched():
            os._exit(128 + signal.SIGINT)
