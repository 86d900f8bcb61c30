"""Keyed random numbers of the protocol (stream-v1), and the noise of samplers (pb-noise-v1).

A random draw of the protocol depends only on an ASCII key. It uses no generator of a library, no function of
libm and no Python `hash()`. All results are integers, except the fill, whose values are exact float32
multiples of 1/4096. Sampler noise does not affect benchmark sets, so NumPy's normals are used for it.

Source: protocol, section 2; trust, section 1.2.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

FULL_TURN = 3600  # angles are counted in tenths of a degree


@cache
def normal_table() -> NDArray[np.int16]:
    """Return the table Z, (65536,) int16: Z[i] = nearest integer to 4096 PhiInv((2i+1)/131072).

    The upper half is computed; the lower half is its negative. The closest rounding tie is 1.7e-5 away, so an
    error in the last digit of libm cannot change an entry.
    """
    inverse = NormalDist().inv_cdf
    upper = [round(4096 * inverse((2 * i + 1) / 131072)) for i in range(32768, 65536)]
    return np.array([-z for z in reversed(upper)] + upper, dtype="<i2")


@cache
def cosine_table() -> NDArray[np.int32]:
    """Return the table C, (3600,) int32: C[a] = nearest integer to 65536 cos(2 pi a / 3600)."""
    return np.array(
        [round(65536 * math.cos(2 * math.pi * a / FULL_TURN)) for a in range(FULL_TURN)], dtype="<i4"
    )


def stream_key(
    stream: str, task: str, variant: str, source: str, item: str, purpose: str, rekey: str = ""
) -> str:
    """Return the key of an item's random stream for one purpose (`mask`, `fill`, `window`)."""
    return "|".join(("palette-bench/stream-v1", stream, task, variant, source, item, purpose, rekey))


def _blocks(key: str) -> Iterator[bytes]:
    root = hashlib.sha256(key.encode("ascii")).digest()
    counter = 0
    while True:
        yield hashlib.sha256(root + struct.pack("<Q", counter)).digest()
        counter += 1


class Stream:
    """The sequence of random numbers of one key."""

    def __init__(self, key: str) -> None:
        """Start at the first word of `key`."""
        self._words: Iterator[int] = (w for block in _blocks(key) for w in struct.unpack("<8I", block))

    def u32(self) -> int:
        """Return the next 32-bit word."""
        return next(self._words)

    def below(self, n: int) -> int:
        """Return a uniform integer in [0, n), by rejection sampling."""
        limit = n * (2**32 // n)
        while (word := self.u32()) >= limit:
            pass
        return word % n

    def normal(self) -> int:
        """Return a standard normal value in units of 1/4096."""
        return int(normal_table()[self.u32() >> 16])


def normals(key: str, shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Return the standard normal values of a key's fill, in units of 1/4096, in row, column, channel order.

    Value i is Z[16-bit word at byte 2i, little-endian]. It uses half a 32-bit word, unlike `Stream.normal`.
    """
    count = math.prod(shape)
    blocks = _blocks(key)
    data = b"".join(next(blocks) for _ in range(-(-2 * count // 32)))
    words = np.frombuffer(data, dtype="<u2", count=count)
    return np.take(normal_table(), words).reshape(shape)


def hole_noise(key: str, side: int) -> NDArray[np.float32]:
    """Return Gaussian noise that a model may fill the hole with.

    Returns:
        (side, side, 3) float32, standard normal in the model's [-1, 1] pixel scale, unclipped; exact
        multiples of 1/4096.
    """
    return normals(key, (side, side, 3)).astype(np.float32) / np.float32(4096)


def noise_digest(seed: int, image_id: str, sample: int, step: int) -> bytes:
    """Return the 32-byte digest that keys sampler noise; the arguments are those of `sampling_noise`."""
    return hashlib.sha256(f"pb-noise-v1|{seed}|{image_id}|{sample}|{step}".encode()).digest()


def noise_key(seed: int, image_id: str, sample: int, step: int) -> int:
    """Return the 128-bit key of the sampler noise for one image, sample and step.

    Source: trust, section 1.2 (pb-noise-v1): the first 16 bytes of the digest, little-endian.
    """
    return int.from_bytes(noise_digest(seed, image_id, sample, step)[:16], "little")


def sampling_noise(
    seed: int, image_id: str, sample: int, step: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return the sampler noise for one image, sample and step; batch, rank and order have no effect.

    Args:
        seed: seed of the run.
        image_id: id of the image.
        sample: index of the sample, from 0.
        step: step of the sampler, in the sampler's own numbering.
        shape: shape of the noise; (3, H, W) for images.

    Returns:
        float32 standard normals; equal on NumPy 1.23 to 2.4, x86-64 and aarch64.

    Source: trust, section 1.2 (pb-noise-v1): NumPy's Philox under the noise key, counter 0.
    """
    philox = np.random.Philox(key=noise_key(seed, image_id, sample, step), counter=0)
    return np.random.Generator(philox).standard_normal(shape, dtype=np.float32)
