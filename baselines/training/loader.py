"""Data loading: micro-batches prepared ahead, in worker processes or in a thread beside the steps."""

from __future__ import annotations

import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch.utils.data import DataLoader

from palette_bench.core.errors import UsageError
from palette_bench.runtime.tensors import to_tensor

from .dataset import HostBatch, MicroBatches, TrainingPairs
from .draws import KeyedDraws
from .objective import HOLED, TrainingBatch

T = TypeVar("T")
_AHEAD = 2  # prepared micro-batches in the queue


@dataclass(frozen=True)
class BatchShard:
    """The part of a step's samples that a rank processes: `accumulation` micro-batches of `micro` samples.

    Attributes:
        batch: samples per step, all ranks together.
        micro: samples per forward pass.
        rank: rank of this process.
        world: number of processes.
    """

    batch: int
    micro: int
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        """Raise unless the batch divides evenly.

        Raises:
            UsageError: batch is not micro_batch x accumulation x processes.
        """
        if self.batch % (self.micro * self.world):
            raise UsageError(
                f"batch {self.batch} is not micro_batch {self.micro} x accumulation x {self.world} processes:"
                " change [training] batch or micro_batch, or the number of processes"
            )

    @property
    def accumulation(self) -> int:
        """Return the number of micro-batches that a rank processes per step."""
        return self.batch // (self.micro * self.world)

    def samples(self, first: int, last: int) -> Iterator[list[int]]:
        """Yield the sample numbers of each micro-batch of this rank, for steps first..last-1."""
        for step in range(first, last):
            for turn in range(self.accumulation):
                start = step * self.batch + (turn * self.world + self.rank) * self.micro
                yield list(range(start, start + self.micro))


def _quiet_worker(number: int) -> None:
    """Ignore stop signals in a worker, as the parent handles them; torch ends workers whose parent died."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


@contextmanager
def micro_batches(
    pairs: TrainingPairs, share: BatchShard, first: int, last: int, workers: int
) -> Iterator[Iterator[HostBatch]]:
    """Yield an iterator over this rank's micro-batches of steps first..last-1, prepared ahead."""
    loader: DataLoader[HostBatch] = DataLoader(
        MicroBatches(pairs),  # type: ignore[arg-type]  # map-style by its __getitem__
        batch_size=None,
        sampler=share.samples(first, last),
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,  # torch's threads do not survive a fork
        worker_init_fn=_quiet_worker if workers else None,
    )
    with closing(_Ahead(iter(loader))) as ahead:
        yield ahead


class _Ahead(Iterator[T]):
    """An iterator computed a few items ahead in a thread, so that preparation overlaps with the step."""

    def __init__(self, source: Iterator[T]) -> None:
        self._source = source
        self._ready: queue.Queue[T | BaseException | None] = queue.Queue(_AHEAD)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def _fill(self) -> None:
        try:
            for item in self._source:
                self._ready.put(item)
                if self._closed.is_set():
                    return
            self._ready.put(None)
        except BaseException as error:  # `__next__` raises it in the consumer
            self._ready.put(error)

    def __next__(self) -> T:
        item = self._ready.get()
        if item is None:
            raise StopIteration
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        """Stop the thread and discard what it prepared."""
        self._closed.set()
        # emptying the queue unblocks a thread that is waiting to put an item
        while self._thread.is_alive():
            try:
                self._ready.get(timeout=0.05)
            except queue.Empty:
                continue


def to_examples(
    host_batch: HostBatch, draws: KeyedDraws, device: torch.device, memory_format: torch.memory_format
) -> TrainingBatch:
    """Return a micro-batch on the device, with holes filled by N(0, 1), drawn for every sample anew.

    Source: Palette, section 3: the hole holds Gaussian noise.
    """
    mask = host_batch.mask.to(device)[:, None]
    reference, source = (
        to_tensor(pixels.numpy(), device).to(memory_format=memory_format)
        for pixels in (host_batch.reference, host_batch.source)
    )
    batch = TrainingBatch(host_batch.step, host_batch.positions, host_batch.tasks, reference, source, mask)
    if any(task in HOLED for task in host_batch.tasks):
        fill = draws.normal(batch, "fill", tuple(reference.shape[1:]))
        source.copy_(torch.where(batch.holes, fill, source))
    return batch
