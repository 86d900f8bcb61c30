"""One run in many processes: N ranks give what one gives.

The unit of work is a micro-batch of consecutive pictures, so that every picture meets the same neighbours
in its batch whatever the number of ranks. Rank 0 checks, closes and writes; results travel over gloo, so
that devices need not speak to each other. Source: metrics, section 8.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
import torch.distributed.nn  # loaded inside a group, its defaults would keep the group and its threads

from palette_bench.core.errors import PaletteBenchError, RankError, StackError, problem
from palette_bench.core.processes import Interrupted, launched
from palette_bench.core.types import ImageId

T = TypeVar("T")

_PATIENCE = timedelta(days=1)  # others wait for the slowest unit, and for rank 0's check


@dataclass(frozen=True)
class World:
    """The processes of this run; alone, every method is a plain call."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Return whether this is rank 0, which checks, closes, writes and speaks."""
        return self.rank == 0

    def dealt(self, ids: Sequence[ImageId], batch: int) -> list[ImageId]:
        """Return this rank's pictures: units rank, rank + size, ... of `batch` consecutive ids."""
        starts = range(self.rank * batch, len(ids), self.size * batch)
        return [image_id for start in starts for image_id in ids[start : start + batch]]

    def lead(self, work: Callable[[], T]) -> T:
        """Return what rank 0's work returns, on every rank; the others wait.

        Raises:
            RankError: rank 0 failed; there, its own error.
        """
        if self.size == 1:
            return work()
        outcome = _attempt(work) if self.leads else _Outcome()
        box: list[Any] = [(outcome.value, outcome.exit_code)]
        dist.broadcast_object_list(box)
        value, exit_code = box[0]
        _raise_first([exit_code], outcome)
        return cast(T, value)

    def gather(self, work: Callable[[], T]) -> list[T]:
        """Do work on every rank; return all results by rank at rank 0, an empty list elsewhere.

        Raises:
            RankError: another rank failed; on the rank that failed, its own error.
        """
        if self.size == 1:
            return [work()]
        value = self.each(work)
        box: list[Any] | None = [None] * self.size if self.leads else None
        dist.gather_object(value, box)
        return box or []

    def share(self, work: Callable[[], T]) -> list[T]:
        """Do work on every rank; return all results by rank, everywhere.

        Raises:
            RankError: as `gather`.
        """
        if self.size == 1:
            return [work()]
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, self.each(work))
        return box

    def each(self, work: Callable[[], T]) -> T:
        """Do work on every rank; return this rank's result once it succeeded on all.

        Raises:
            RankError: as `gather`.
        """
        if self.size == 1:
            return work()
        outcome = _attempt(work)
        codes: list[Any] = [None] * self.size
        dist.all_gather_object(codes, outcome.exit_code)
        _raise_first(codes, outcome)
        return cast(T, outcome.value)

    def agree(self, what: str, value: str) -> None:
        """Accept that all ranks hold the same fingerprint.

        Raises:
            StackError: PB710, on every rank.
        """
        found = self.share(lambda: value)
        if len(set(found)) > 1:
            others = ", ".join(f"rank {rank} {text[:12]}" for rank, text in enumerate(found))
            fix = "give every rank the same files, weights and library versions"
            raise StackError(problem("PB710", what, expected="one for all ranks", found=others, fix=fix))


ALONE = World()


@dataclass(frozen=True)
class _Outcome:
    """What came of work: a value, or the error with its exit code."""

    value: Any = None
    error: BaseException | None = None

    @property
    def exit_code(self) -> int | None:
        if self.error is None:
            return None
        known = isinstance(self.error, PaletteBenchError | Interrupted)
        return int(self.error.exit_code) if known else 6  # type: ignore[attr-defined]  # both have it


def _attempt(work: Callable[[], Any]) -> _Outcome:
    try:
        return _Outcome(work())
    except BaseException as error:  # told to the other ranks, then raised here
        return _Outcome(error=error)


def _raise_first(exit_codes: Sequence[int | None], own: _Outcome) -> None:
    """Raise this rank's own error, or the news of the first rank that failed."""
    if own.error is not None:
        raise own.error
    failed = next(((rank, code) for rank, code in enumerate(exit_codes) if code is not None), None)
    if failed:
        raise RankError(*failed)


@contextmanager
def world() -> Iterator[World]:
    """Yield the processes torchrun started, or this one alone; each takes the GPU of its local rank."""
    if not launched():
        yield ALONE
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    dist.init_process_group("gloo", timeout=_PATIENCE)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
