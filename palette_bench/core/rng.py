"""Keyed randomness of the protocol (stream-v1), and a model's own sampling noise (pb-noise-v1).

A draw of the protocol depends only on an ASCII key: no library generator, no libm in a draw, no Python
`hash()`. Everything returned is an integer, except the fill, whose values are exact float32 multiples of
1/4096. Sampling noise decides no benchmark set, so there NumPy's normals are good enough.

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
    """Return Z: Z[i] = nearest integer to 4096 PhiInv((2i+1)/131072), i = 0..65535.

    The upper half is computed and the lower is its negative; the nearest tie is 1.7e-5 away, so an
    error of the last digit of libm cannot flip an entry.
    """
    inverse = NormalDist().inv_cdf
    upper = [round(4096 * inverse((2 * i + 1) / 131072)) for i in range(32768, 65536)]
    return np.array([-z for z in reversed(upper)] + upper, dtype="<i2")


@cache
def cosine_table() -> NDArray[np.int32]:
    """Return C: C[a] = nearest integer to 65536 cos(2 pi a / 3600), a = 0..3599."""
    return np.array(
        [round(65536 * math.cos(2 * math.pi * a / FULL_TURN)) for a in range(FULL_TURN)],
        dtype="<i4",
    )


def stream_key(
    stream: str, task: str, variant: str, source: str, item: str, purpose: str, rekey: str = ""
) -> str:
    """Return the key of one item's draws for one purpose (`mask`, `fill`, `window`)."""
    return "|".join(("palette-bench/stream-v1", stream, task, variant, source, item, purpose, rekey))


def _blocks(key: str) -> Iterator[bytes]:
    root = hashlib.sha256(key.encode("ascii")).digest()
    counter = 0
    while True:
        yield hashlib.sha256(root + struct.pack("<Q", counter)).digest()
        counter += 1


class Stream:
    """The draws of one key, in order."""

    def __init__(self, key: str) -> None:
        """Start at the first word of `key`."""
        self._words: Iterator[int] = (w for block in _blocks(key) for w in struct.unpack("<8I", block))

    def u32(self) -> int:
        """Return the next 32-bit word."""
        return next(self._words)

    def below(self, n: int) -> int:
        """Return a uniform integer in [0, n), by rejection."""
        limit = n * (2**32 // n)
        while (word := self.u32()) >= limit:
            pass
        return word % n

    def normal(self) -> int:
        """Return a standard normal in units of 1/4096."""
        return int(normal_table()[self.u32() >> 16])


def normals(key: str, shape: tuple[int, ...]) -> NDArray[np.int16]:
    """Return the fill's normals of a key, units of 1/4096, in row, column, channel order.

    Value i is Z[16-bit word at byte 2i, little-endian]: half a word each, unlike `Stream.normal`.
    """
    count = math.prod(shape)
    blocks = _blocks(key)
    data = b"".join(next(blocks) for _ in range(-(-2 * count // 32)))
    words = np.frombuffer(data, dtype="<u2", count=count)
    return np.take(normal_table(), words).reshape(shape)


def fill(key: str, side: int) -> NDArray[np.float32]:
    """Return the Gaussian hole content a model may start from.

    Returns:
        (side, side, 3) float32, standard normal in the model's [-1, 1] pixel scale, unclipped; exact
        multiples of 1/4096.
    """
    return normals(key, (side, side, 3)).astype(np.float32) / np.float32(4096)


def noise_digest(seed: int, image_id: str, sample: int, step: int) -> bytes:
    """Return the 32 bytes that key a model's noise; arguments as `sampling_noise`."""
    return hashlib.sha256(f"pb-noise-v1|{seed}|{image_id}|{sample}|{step}".encode()).digest()


def noise_key(seed: int, image_id: str, sample: int, step: int) -> int:
    """Return the 128-bit key of a model's noise for one image, sample and step.

    Source: trust, section 1.2 (pb-noise-v1): the first 16 bytes of the digest, little-endian.
    """
    return int.from_bytes(noise_digest(seed, image_id, sample, step)[:16], "little")


def sampling_noise(
    seed: int, image_id: str, sample: int, step: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Return a model's noise for one image, sample and step, whatever the batch, rank or order.

    Args:
        seed: of the run.
        image_id: of the image.
        sample: which of several samples, from 0.
        step: of the sampler; its own numbering.
        shape: (3, H, W) for images.

    Returns:
        float32 standard normals; equal on NumPy 1.23 to 2.4, x86-64 and aarch64.

    Source: trust, section 1.2 (pb-noise-v1): NumPy's Philox under the noise key, counter 0.
    """
    philox = np.random.Philox(key=noise_key(seed, image_id, sample, step), counter=0)
    return np.random.Generator(philox).standard_normal(shape, dtype=np.float32)
