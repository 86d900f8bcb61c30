"""The keyed normals of restoring, drawn while the network computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from palette_bench.core.rng import noise_digest, sampling_noise
from palette_bench.core.types import ImageId

from ..training.draws import device_normals


@dataclass(frozen=True)
class KeyedNoise:
    """Standard normals by step; each picture's depend on its name, not on the batch.

    Attributes:
        seed: of the run.
        names: of the N pictures.
        sample: which of several samples.
        size: height and width.
        device: where they are needed.
        where: "host", NumPy's Philox (pb-noise-v1); "device", other normals under the same key, drawn there.
    """

    seed: int
    names: tuple[ImageId, ...]
    sample: int
    size: tuple[int, int]
    device: torch.device
    where: Literal["host", "device"]

    def __call__(self, step: int) -> torch.Tensor:
        """Return (N, 3, H, W) float32."""
        shape = (3, *self.size)
        if self.where == "device":
            digests = [noise_digest(self.seed, name, self.sample, step) for name in self.names]
            return device_normals(digests, shape, self.device)
        drawn = [sampling_noise(self.seed, name, self.sample, step, shape) for name in self.names]
        return torch.from_numpy(np.stack(drawn)).to(self.device)


@contextmanager
def ahead(draw: Callable[[int], torch.Tensor], steps: int) -> Iterator[Callable[[int], torch.Tensor]]:
    """Yield `draw` for calls with 0, 1, ..., steps - 1 in order, the next one begun in a thread.

    One draw takes about as long as a step of a small network, and NumPy lets others run meanwhile.
    """
    with ThreadPoolExecutor(1) as thread:
        begun = [thread.submit(draw, 0)]

        def take(step: int) -> torch.Tensor:
            drawn = begun.pop().result()
            if step + 1 < steps:
                begun.append(thread.submit(draw, step + 1))
            return drawn

        yield take
