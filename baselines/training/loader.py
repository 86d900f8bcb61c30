"""Data loading: micro-batches prepared ahead, in worker processes or in a thread beside the steps."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from palette_bench.core.errors import UsageError
from palette_bench.runtime.tensors import to_tensor

from .dataset import HostBatch, MicroBatches, TrainingPairs
from .draws import KeyedDraws
from .objective import HOLED, TrainingBatch

_AHEAD = 3  # micro-batches prepared or in preparation


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
    batches = iter(loader)
    with ThreadPoolExecutor(1) as thread:
        # a few micro-batches are prepared in the thread, so that preparation overlaps with the steps
        ready = deque(thread.submit(next, batches, None) for _ in range(_AHEAD))

        def prepared() -> Iterator[HostBatch]:
            while (batch := ready.popleft().result()) is not None:
                ready.append(thread.submit(next, batches, None))
                yield batch

        try:
            yield prepared()
        finally:
            thread.shutdown(cancel_futures=True)


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
