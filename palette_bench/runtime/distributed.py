"""Process groups for scoring and training: a run on N ranks gives the results of a run on one.

torchrun starts the processes. Rank 0 alone checks submissions, computes final scores, writes files and
prints. Source: metrics, section 8.
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
import torch.distributed.nn  # if first loaded inside a group, its defaults keep the group and its threads
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from palette_bench.core.errors import PaletteBenchError, RankError, StackError
from palette_bench.core.processes import Interrupted, launched, own_device
from palette_bench.core.types import ImageId
from palette_bench.runtime.device import open_device

T = TypeVar("T")

_SCORING_TIMEOUT = timedelta(days=1)  # ranks wait for the slowest rank, and for rank 0's check
_TRAINING_TIMEOUT = timedelta(hours=1)  # ranks wait while rank 0 lists images and writes checkpoints


@dataclass(frozen=True)
class ProcessGroup:
    """The ranks of one run. In a run with one process, every method is a plain function call.

    Attributes:
        rank: index of this process.
        size: number of processes.
        device: device that this process trains on; scoring opens its own device.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=partial(torch.device, "cpu"))

    @property
    def is_main(self) -> bool:
        """Return whether this is rank 0."""
        return self.rank == 0

    def shard(self, ids: Sequence[ImageId], batch: int) -> list[ImageId]:
        """Return this rank's ids: chunks rank, rank + size, ... of `batch` consecutive ids.

        Whole chunks are distributed, so an image shares its batch with the same images on any number of
        ranks.
        """
        starts = range(self.rank * batch, len(ids), self.size * batch)
        return [image_id for start in starts for image_id in ids[start : start + batch]]

    def run_on_main(self, work: Callable[[], T]) -> T:
        """Run `work` on rank 0 and return its result on every rank; the other ranks wait.

        Raises:
            RankError: rank 0 failed. Rank 0 itself raises its own error.
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
        """Run `work` on every rank; return this rank's result once all ranks have succeeded.

        Raises:
            RankError: another rank failed. The rank that failed raises its own error.
        """
        if self.size == 1:
            return work()
        outcome = _attempt(work)
        _raise_first(self._all_gather(outcome.exit_code), outcome)
        return cast(T, outcome.value)

    def gather(self, work: Callable[[], T]) -> list[T]:
        """Run `work` on every rank; return all results by rank on rank 0, and an empty list elsewhere.

        Raises:
            RankError: another rank failed, as in `run_on_all`.
        """
        if self.size == 1:
            return [work()]
        value = self.run_on_all(work)
        box: list[Any] | None = [None] * self.size if self.is_main else None
        dist.gather_object(value, box)
        return box or []

    def all_gather(self, work: Callable[[], T]) -> list[T]:
        """Run `work` on every rank; return all results by rank, on every rank.

        Raises:
            RankError: another rank failed, as in `run_on_all`.
        """
        return self._all_gather(self.run_on_all(work))

    def require_equal(self, what: str, value: str) -> None:
        """Raise unless all ranks hold the same fingerprint.

        Raises:
            StackError: PB710, the fingerprints differ; raised on every rank.
        """
        found = self._all_gather(value)
        if len(set(found)) > 1:
            others = ", ".join(f"rank {rank} {text[:12]}" for rank, text in enumerate(found))
            fix = "give every rank the same files, recipe, weights and library versions"
            raise StackError.of("PB710", what, expected="one for all ranks", found=others, fix=fix)

    def union(self, values: set[T]) -> set[T]:
        """Return the union of all ranks' sets, on every rank."""
        return set().union(*self._all_gather(values))

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over ranks, on every rank; `values` is changed in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return the module, wrapped so that its backward pass averages gradients over ranks.

        A module without trainable parameters, or a module in a run with one process, comes back unchanged.
        """
        if self.size == 1 or not any(p.requires_grad for p in module.parameters()):
            return module
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=devices, gradient_as_bucket_view=True)

    def wait(self) -> None:
        """Block until every rank has called this method."""
        if self.size > 1:
            dist.barrier()

    def _all_gather(self, value: T) -> list[T]:
        found: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found


@dataclass(frozen=True)
class _Outcome:
    """The value of a call, or the error that it raised and its exit code."""

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
    except BaseException as error:  # the other ranks receive its exit code, then this rank raises it
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
    """Yield the process group for scoring; each rank uses the GPU of its local rank, if there is one.

    Results travel over gloo, so the GPUs need not communicate with each other.
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
    """Yield the process group for training; each rank trains on the device of its local rank.

    Raises:
        DeviceError: PB707, this machine lacks the device.
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
