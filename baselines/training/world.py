"""The processes of a training run: one, or those torchrun started."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.distributed.nn  # loaded inside a group, its defaults would keep the group and its threads
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from palette_bench.core.errors import StackError, problem
from palette_bench.core.processes import launched, own_device
from palette_bench.runtime.device import open_device

T = TypeVar("T")
_PATIENCE = timedelta(hours=1)  # others wait while rank 0 lists pictures and writes checkpoints


@dataclass(frozen=True)
class World:
    """This process among those of the run.

    Attributes:
        device: that it computes on.
        rank: its number; 0 writes and speaks.
        size: how many there are.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Return whether this is rank 0."""
        return self.rank == 0

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

    def agree(self, what: str, value: str) -> None:
        """Accept that all ranks hold the same text.

        Raises:
            StackError: PB710, on every rank.
        """
        found: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        if len(set(found)) > 1:
            others = ", ".join(f"rank {rank} {text[:12]}" for rank, text in enumerate(found))
            fix = "give every rank the same recipe, data and library versions"
            raise StackError(problem("PB710", what, expected="one for all ranks", found=others, fix=fix))

    def union(self, values: set[T]) -> set[T]:
        """Return what any rank holds, on every rank."""
        found: list[Any] = [values] * self.size
        if self.size > 1:
            dist.all_gather_object(found, values)
        return set().union(*found)

    def wait(self) -> None:
        """Return once every rank is here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def world(device: str) -> Iterator[World]:
    """Yield this process alone, or among those torchrun started, each with the GPU of its local rank."""
    own = open_device(own_device(device))
    if not launched():
        yield World(own)
        return
    if own.type == "cuda":
        torch.cuda.set_device(own)
    gpu = own if own.type == "cuda" else None
    dist.init_process_group("nccl" if gpu else "gloo", timeout=_PATIENCE, device_id=gpu)
    try:
        yield World(own, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
