"""Ranks of torchrun, shards of schedulers, ordered work in processes or threads, and orderly stops.

Worker processes ignore Ctrl-C, which the parent handles, and end when the parent dies. Hence a killed run
leaves no process behind that still writes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from types import FrameType
from typing import TypeVar

from palette_bench.core.errors import PaletteBenchError, StorageError, UsageError

# --- ranks --------------------------------------------------------------------------------------

_LAUNCHED = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}  # variables of torchrun


def launched() -> bool:
    """Return whether torchrun started this process."""
    return os.environ.keys() >= _LAUNCHED


def rank_of() -> tuple[int, int]:
    """Return the rank of this process and the number of ranks; (0, 1) without torchrun."""
    return (int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])) if launched() else (0, 1)


def is_main_process() -> bool:
    """Return whether this process is rank 0, the only rank that prints."""
    return rank_of()[0] == 0


def own_device(name: str) -> str:
    """Return the device of this process; under torchrun, `cuda` stands for the GPU of the local rank."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if name == "cuda" and launched() else name


# --- shards of schedulers -----------------------------------------------------------------------

SHARDS = "PALETTE_BENCH_SHARDS"  # the number of shards, where a scheduler does not tell it


@dataclass(frozen=True)
class ArrayVariables:
    """Variables by which a scheduler tells a process its place in a job array.

    Attributes:
        scheduler: name, for messages.
        index: index of this process in the array.
        first: first index, as a variable or a number.
        last: variable of the last index; empty if the scheduler does not tell it.
        step: variable of the step between indices.
        count: variable of the number of indices.
        alone: value of `index` in a job that is no array.
    """

    scheduler: str
    index: str
    first: str = "0"
    last: str = ""
    step: str = ""
    count: str = ""
    alone: str = ""


# docs/clusters.md prints this table
SCHEDULERS = (
    ArrayVariables(
        "Slurm",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_MIN",
        "SLURM_ARRAY_TASK_MAX",
        "SLURM_ARRAY_TASK_STEP",
        "SLURM_ARRAY_TASK_COUNT",
    ),
    ArrayVariables("LSF", "LSB_JOBINDEX", "1", "LSB_JOBINDEX_END", "LSB_JOBINDEX_STEP", alone="0"),
    ArrayVariables("PBS", "PBS_ARRAY_INDEX"),
    ArrayVariables("Torque", "PBS_ARRAYID"),
    ArrayVariables("Kubernetes", "JOB_COMPLETION_INDEX"),
)


def scheduled_shard(variables: Mapping[str, str]) -> tuple[int, int]:
    """Return (index, count) of this process's shard from the variables of its scheduler.

    Args:
        variables: the environment. If it has `PALETTE_BENCH_SHARDS`, that is the count, and the index of the
            array counts from 0; so a single task of an array can run again.

    Raises:
        UsageError: no scheduler has set its variables, several have, or they are incomplete or contradict
            each other.
    """
    found = [row for row in SCHEDULERS if variables.get(row.index) not in (None, "", row.alone or None)]
    if len(found) != 1:
        names = ", ".join(row.index for row in found or SCHEDULERS)
        reason = "several job arrays at once" if found else "this process belongs to no job array"
        raise UsageError(f"--shard auto: {reason}: looked for {names}; outside a scheduler give --shard I/N")
    row = found[0]

    def number(name: str, default: int | None = None) -> int | None:
        text = name if name.isdecimal() else variables.get(name, "")
        if text and not text.isdecimal():
            raise UsageError(f"--shard auto: {row.scheduler} says {name}={text!r}, which is no number")
        return int(text) if text else default

    index, first, step = number(row.index), number(row.first), number(row.step, 1)
    last, count = number(row.last), number(row.count)
    if (given := number(SHARDS)) is not None:
        first, step, last, count = 0, 1, None, given
    elif count is None and last is not None and first is not None and step:
        count = (last - first) // step + 1
    if count is None or first is None:
        known = [name for name in (row.first, row.last, row.count) if name and not name.isdecimal()]
        wanted = ", ".join([*known, SHARDS])
        raise UsageError(
            f"--shard auto: {row.scheduler} says {row.index}={index} and not of how many: looked for "
            f"{wanted}; set {SHARDS} to the size of an array that counts from 0"
        )
    assert index is not None, "a scheduler was found by its index"
    at, rest = divmod(index - first, step or 1)
    whole = last is None or (last - first) // (step or 1) + 1 == count
    if rest or not 0 <= at < count or not whole:
        asked = (row.index, row.first, row.last, row.step, row.count, SHARDS)
        said = ", ".join(f"{name}={variables[name]}" for name in asked if name in variables)
        raise UsageError(
            f"--shard auto: {row.scheduler} says {said}: not a place in an array; use a range of "
            f"indices such as 0-7, or set {SHARDS} to the size of an array that counts from 0"
        )
    return at, count


# --- ordered work -------------------------------------------------------------------------------

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")

_THREADS = min(4, os.cpu_count() or 1)  # enough to decode ahead of a network; inflating releases the GIL
_AHEAD = 32  # pieces in flight: two micro-batches of a CPU


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # srun signals every process of a step
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
    """Yield function(chunk) for all chunks, in their order.

    Args:
        function: a picklable function.
        chunks: picklable pieces of work; at most 2 * workers of them are in flight.
        workers: number of processes, >= 1; 1 runs the function in this process.

    Raises:
        StorageError: PB807, a worker was killed; the same command resumes.
    """
    if workers == 1:
        yield from map(function, chunks)
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        yield from _in_order(pool, function, chunks, ahead=2 * workers)
    except BrokenProcessPool as error:
        found = "killed, perhaps for memory"
        fix = "run the same command again: it resumes; fewer --workers need less memory"
        raise StorageError.of("PB807", "worker process", found=found, fix=fix) from error
    finally:
        pool.shutdown(cancel_futures=True)


def in_threads(function: Callable[[Chunk], Result], pieces: Iterable[Chunk]) -> Generator[Result, None, None]:
    """Yield function(piece) for all pieces, in their order; a few threads compute a little ahead.

    Use it for reading and decoding images. Memory holds at most a few dozen results, whatever the number of
    pieces. The first error, or closing the generator, ends the work, and no further piece is started.
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


# --- orderly stops ------------------------------------------------------------------------------

# seconds within which two signals count as one, because timeout(1) signals both the child and its group
_ONE_STOP = 1.0
_HEARD = b"stopping after the current item; Ctrl-C again ends at once, without it\n"
REQUEUE = os.EX_TEMPFAIL  # 75: exit code after SIGUSR1, by which schedulers announce the end of the time


class Interrupted(BaseException):
    """A signal asked the run to stop; finished items are journalled."""

    def __init__(self, signum: int) -> None:
        """Store the signal and the exit code: 130 for SIGINT, 143 for SIGTERM, 75 for SIGUSR1."""
        self.signum = signum
        self.exit_code = REQUEUE if signum == signal.SIGUSR1 else 128 + signum
        super().__init__(signal.Signals(signum).name)


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Yield a function `check()` that raises `Interrupted` after SIGINT, SIGTERM or SIGUSR1 arrived.

    After a signal, an error that is not ours becomes `Interrupted`, too. A second Ctrl-C ends the process at
    once with exit code 130. Under torchrun it does not, because torchrun forwards every Ctrl-C twice. Outside
    the main thread signals cannot be caught, so `check` never raises.
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
    before = {s: signal.signal(s, note) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    with _second_ends():
        try:
            yield check
        except PaletteBenchError:
            raise
        except Exception as error:
            # Ctrl-C reaches child processes, too: a compiler that it ends looks like a failed compilation.
            if received:
                raise Interrupted(received[0]) from error
            raise
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)


def end_on_requeue() -> None:
    """Let SIGUSR1 end this process with `Interrupted` wherever nothing has to be finished first."""

    def end(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(signum)

    signal.signal(signal.SIGUSR1, end)


@contextmanager
def _second_ends() -> Iterator[None]:
    """Watch for a second Ctrl-C in a thread; the main thread handles no signal during a call of torch."""
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
