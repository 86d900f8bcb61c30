"""Keyed randomness of training (pb-train-v1): a draw depends on run seed, step, position and purpose.

Draws do not change with the number of ranks, workers or micro-batches. Source: trust, section 1.2.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from palette_bench.core.rng import Stream

from .objective import TrainingBatch

_WORD = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # of Philox-4x32 (Salmon et al. 2011, section 3.3)
_WEYL = (0x9E3779B9, 0xBB67AE85)  # added to the key each round: golden ratio, square root of 3 minus 1
_ROUNDS = 10


def draw_key(seed: int, step: int, position: int, purpose: str) -> str:
    """Return the key of one draw."""
    return f"pb-train-v1|{seed}|{step}|{position}|{purpose}"


def stream(seed: int, step: int, position: int, purpose: str) -> Stream:
    """Return the stream of integer draws of one sample for one purpose."""
    return Stream(draw_key(seed, step, position, purpose))


class KeyedDraws:
    """The keyed randomness of a run: equal (step, position, purpose) give equal draws on any rank and batch.

    Args:
        seed: run seed.
        noise: where normals come from. "host" is NumPy's Philox. "device" computes Philox-4x32-10 and
            Box-Muller on the device of the examples: other normals, equal on all devices up to rounding.
    """

    def __init__(self, seed: int, noise: Literal["host", "device"] = "host") -> None:
        self._seed = seed
        self._noise = noise

    def uniform(self, batch: TrainingBatch, purpose: str) -> NDArray[np.float64]:
        """Return uniform draws, (N,) float64 in [0, 1), multiples of 2^-53."""
        words = (int.from_bytes(digest[:8], "little") >> 11 for digest in self._digests(batch, purpose))
        return np.array([word * 2.0**-53 for word in words])

    def below(self, batch: TrainingBatch, purpose: str, n: int) -> NDArray[np.int64]:
        """Return uniform integers, (N,) int64 in [0, n)."""
        draws = (stream(self._seed, batch.step, int(p), purpose).below(n) for p in batch.positions)
        return np.array(list(draws), np.int64)

    def normal(self, batch: TrainingBatch, purpose: str, shape: tuple[int, ...]) -> torch.Tensor:
        """Return standard normals, (N, *shape) float32, on the device of the examples."""
        device = batch.reference.device
        digests = list(self._digests(batch, purpose))
        if self._noise == "device":
            return device_normals(digests, shape, device)
        return torch.from_numpy(np.stack([host_normals(digest, shape) for digest in digests])).to(device)

    def _digests(self, batch: TrainingBatch, purpose: str) -> Iterator[bytes]:
        for position in batch.positions:
            key = draw_key(self._seed, batch.step, int(position), purpose)
            yield hashlib.sha256(key.encode("ascii")).digest()


def host_normals(digest: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return float32 normals of NumPy's Philox: the key is the digest's first 16 bytes, the counter 0."""
    key = int.from_bytes(digest[:16], "little")
    generator = np.random.Generator(np.random.Philox(key=key))
    return generator.standard_normal(shape, dtype=np.float32)


def device_normals(digests: list[bytes], shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Return (N, *shape) float32 normals of Philox-4x32-10; the key is a digest's first 8 bytes.

    The counters are 0, 1, ... Each gives four words, hence two pairs of normals by Box and Muller (1958). The
    computation is in float64, so that devices agree up to the rounding of float32.
    """
    count = math.prod(shape)
    keys = torch.tensor([np.frombuffer(digest[:8], "<u4").tolist() for digest in digests], device=device)
    counters = torch.arange(-(-count // 4), device=device)
    first, second, third, fourth = philox(keys, counters)
    normals = torch.stack([*_box_muller(first, second), *_box_muller(third, fourth)], dim=-1)
    return normals.flatten(1)[:, :count].reshape(-1, *shape)


def _box_muller(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two float32 normals per pair of 32-bit words."""
    radius = torch.sqrt(-2 * torch.log((first.double() + 0.5) * 2.0**-32))
    angle = second.double() * (2 * math.pi * 2.0**-32)
    return (radius * torch.cos(angle)).float(), (radius * torch.sin(angle)).float()


def philox(keys: torch.Tensor, counters: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the four output words of Philox-4x32-10 for every key and counter.

    Args:
        keys: (N, 2) int64 holding 32-bit words.
        counters: (M,) int64 below 2^32, the lowest word of the counter; the other three are 0.

    Returns:
        Four (N, M) int64 tensors of 32-bit words.

    Source: Salmon, Moraes, Dror and Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
    """
    low, high = keys[:, :1], keys[:, 1:]
    zero = torch.zeros_like(low * counters)
    words = (counters + zero, zero, zero, zero)
    for _ in range(_ROUNDS):
        high_0, low_0 = _product(words[0], _MULTIPLIERS[0])
        high_1, low_1 = _product(words[2], _MULTIPLIERS[1])
        words = (high_1 ^ words[1] ^ low, low_1, high_0 ^ words[3] ^ high, low_0)
        low, high = (low + _WEYL[0]) & _WORD, (high + _WEYL[1]) & _WORD
    return words


def _product(words: torch.Tensor, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the high and low 32 bits of a product, computed in halves that never overflow int64."""
    by_low = words * (factor & 0xFFFF)
    by_high = words * (factor >> 16) + (by_low >> 16)
    return by_high >> 16, (by_high & 0xFFFF) << 16 | (by_low & 0xFFFF)
