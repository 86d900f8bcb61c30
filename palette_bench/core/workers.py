"""Work on many pieces in several processes or threads: order kept, memory flat, no orphans.

Worker processes ignore Ctrl-C (the parent decides) and end when the parent dies, so that a killed run leaves
nothing behind that still writes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import TypeVar

from palette_bench.core.errors import StorageError, problem

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
