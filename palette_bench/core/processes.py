"""Work on many pieces in several processes or threads: order kept, memory flat, no orphans.

Worker processes ignore Ctrl-C (the parent decides) and end when the parent dies, so that a killed run leaves
nothing behind that still writes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from types import FrameType
from typing import TypeVar

from palette_bench.core.errors import StorageError, problem

_LAUNCHED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}  # what torchrun sets


def launched() -> bool:
    """Return whether torchrun started this process."""
    return os.environ.keys() >= _LAUNCHED


def rank_of() -> tuple[int, int]:
    """Return this process's rank and how many there are; 0 of 1 without torchrun."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if launched() else (0, 1)


def is_main_process() -> bool:
    """Return whether this process is rank 0, the only one that prints."""
    return rank_of()[0] == 0


def own_device(name: str) -> str:
    """Return the device of this process: `cuda` means the GPU of its local rank."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and launched() else name


Chunk = TypeVar("Chunk")
Result = TypeVar("Result")

_THREADS = min(4, os.cpu_count() or 1)  # enough to decode ahead of a network; inflating frees the lock
_AHEAD = 32  # pieces under way or waiting: two micro-batches of a CPU


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"

    def end_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def in_processes(
    function: Callable[[Chunk], Result], chunks: Iterable[Chunk], workers: int
) -> Iterator[Result]:
    """Yield function(chunk) in order; with one worker, in this process.

    Args:
        function: picklable.
        chunks: picklable pieces of work; at most 2 * workers are in flight.
        workers: >= 1.

    Raises:
        StorageError: PB807, a worker was killed; running again resumes.
    """
    if workers == 1:
        yield from map(function, chunks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        yield from _in_order(pool, function, chunks, ahead=2 * workers)
    except BrokenProcessPool as error:
        raise StorageError(
            problem(
                "PB807",
                "worker process",
                found="killed, perhaps for memory",
                fix="run the same command again: it resumes; fewer --workers need less memory",
            )
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def in_threads(function: Callable[[Chunk], Result], pieces: Iterable[Chunk]) -> Generator[Result, None, None]:
    """Yield function(piece) in order, worked out a little ahead by a few threads.

    For reading and decoding: memory holds a few dozen results, however many pieces there are. The first
    error, or closing the generator, ends the work; nothing starts after it.
    """
    pool = ThreadPoolExecutor(_THREADS)
    try:
        yield from _in_order(pool, function, pieces, ahead=_AHEAD)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: Executor, function: Callable[[Chunk], Result], pieces: Iterable[Chunk], ahead: int
) -> Iterator[Result]:
    waiting: deque[Future[Result]] = deque()
    for piece in pieces:
        waiting.append(pool.submit(function, piece))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


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
