"""One run in many processes: N ranks give what one gives.

torchrun starts the processes. Rank 0 checks, closes, writes and talks to people. Source: metrics, section 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
import torch.distributed.nn  # loaded inside a group, its defaults would keep the group and its threads
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from palette_bench.core.errors import PaletteBenchError, RankError, StackError, problem
from palette_bench.core.processes import Interrupted, launched, own_device
from palette_bench.core.types import ImageId
from palette_bench.runtime.device import open_device

T = TypeVar("T")

_SCORING_TIMEOUT = timedelta(days=1)  # ranks wait for the slowest one, and for rank 0's check
_TRAINING_TIMEOUT = timedelta(hours=1)  # ranks wait while rank 0 lists images and writes checkpoints


@dataclass(frozen=True)
class ProcessGroup:
    """The processes of this run. In a run of one process, every method is a plain call.

    Attributes:
        rank: number of this process.
        size: number of processes.
        device: this process trains on; scoring opens its own.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))

    @property
    def is_main(self) -> bool:
        """Return whether this is rank 0."""
        return self.rank == 0

    def shard(self, ids: Sequence[ImageId], batch: int) -> list[ImageId]:
        """Return this rank's images: units rank, rank + size, ... of `batch` consecutive ids.

        Whole units are dealt, so that an image meets the same neighbours in its batch on any number of ranks.
        """
        starts = range(self.rank * batch, len(ids), self.size * batch)
        return [image_id for start in starts for image_id in ids[start : start + batch]]

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Run work on rank 0 and return its result on every rank; the others wait.

        Raises:
            RankError: rank 0 failed. On rank 0 its own error is raised.
        """
        if self.size == 1:
            return work()
        outcome = _attempt(work) if self.is_main else _Outcome()
        box: list[Any] = [(outcome.value, outcome.exit_code)]
        dist.broadcast_object_list(box)
        value, exit_code = box[0]
        _raise_first([exit_code], outcome)
        return cast(T, value)

    def run_on_all(self, work: Callable[[], T]) -> T:
        """Run work on every rank; return this rank's result once all have succeeded.

        Raises:
            RankError: another rank failed. On the rank that failed its own error is raised.
        """
        if self.size == 1:
            return work()
        outcome = _attempt(work)
        _raise_first(self._all_gather(outcome.exit_code), outcome)
        return cast(T, outcome.value)

    def gather(self, work: Callable[[], T]) -> list[T]:
        """Run work on every rank; return all results by rank on rank 0, an empty list elsewhere.

        Raises:
            RankError: as `run_on_all`.
        """
        if self.size == 1:
            return [work()]
        value = self.run_on_all(work)
        box: list[Any] | None = [None] * self.size if self.is_main else None
        dist.gather_object(value, box)
        return box or []

    def all_gather(self, work: Callable[[], T]) -> list[T]:
        """Run work on every rank; return all results by rank, on every rank.

        Raises:
            RankError: as `run_on_all`.
        """
        return self._all_gather(self.run_on_all(work))

    def require_equal(self, what: str, value: str) -> None:
        """Raise unless all ranks hold the same fingerprint.

        Raises:
            StackError: PB710, on every rank.
        """
        found = self._all_gather(value)
        if len(set(found)) > 1:
            others = ", ".join(f"rank {rank} {text[:12]}" for rank, text in enumerate(found))
            fix = "give every rank the same files, recipe, weights and library versions"
            raise StackError(problem("PB710", what, expected="one for all ranks", found=others, fix=fix))

    def union(self, values: set[T]) -> set[T]:
        """Return what any rank holds, on every rank."""
        return set().union(*self._all_gather(values))

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum over ranks, on every rank."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return a module whose backward pass averages gradients over ranks."""
        if self.size == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, gradient_as_bucket_view=True)

    def wait(self) -> None:
        """Return once every rank is here."""
        if self.size > 1:
            dist.barrier()

    def _all_gather(self, value: T) -> list[T]:
        found: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found


@dataclass(frozen=True)
class _Outcome:
    """The value of some work, or its error with an exit code."""

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
    """Raise this rank's own error, or a RankError for the first rank that failed."""
    if own.error is not None:
        raise own.error
    failed = next(((rank, code) for rank, code in enumerate(exit_codes) if code is not None), None)
    if failed:
        raise RankError(*failed)


@contextmanager
def scoring_group() -> Iterator[ProcessGroup]:
    """Yield the processes that score; each takes the GPU of its local rank, if there is one.

    Results travel over gloo, so that devices need not speak to each other.
    """
    if not launched():
        yield ProcessGroup()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(torch.device(own_device("cuda")).index % torch.cuda.device_count())
    with _initialised("gloo", _SCORING_TIMEOUT, None):
        yield ProcessGroup(dist.get_rank(), dist.get_world_size())


@contextmanager
def training_group(device: str) -> Iterator[ProcessGroup]:
    """Yield the processes that train, each on the device of its local rank.

    Raises:
        DeviceError: PB707, the device is not there.
    """
    own = open_device(own_device(device))
    if not launched():
        yield ProcessGroup(device=own)
        return
    if own.type == "cuda":
        torch.cuda.set_device(own)
    gpu = own if own.type == "cuda" else None
    with _initialised("nccl" if gpu else "gloo", _TRAINING_TIMEOUT, gpu):
        yield ProcessGroup(dist.get_rank(), dist.get_world_size(), own)


@contextmanager
def _initialised(backend: str, timeout: timedelta, gpu: torch.device | None) -> Iterator[None]:
    dist.init_process_group(backend, timeout=timeout, device_id=gpu)
    try:
        yield
    finally:
        dist.destroy_process_group()
