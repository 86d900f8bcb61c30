"""Canonical JSON and digests: how things are told apart.

Files are never hashed as an identity: PNG bytes change with the host's zlib, pixels do not.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.types import Fingerprint, ImageId


def canonical_json(value: Any) -> bytes:
    """Return `value` as UTF-8 JSON with sorted keys and no spaces; NaN and infinities are refused."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")  # of a name that is no UTF-8, its escape in JSON


def sha256(data: bytes) -> Fingerprint:
    """Return the SHA-256 of `data`, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def fingerprint(value: Any) -> Fingerprint:
    """Return the SHA-256 of the canonical JSON of `value`."""
    return sha256(canonical_json(value))


def pixel_digest(pixels: NDArray[np.uint8]) -> Fingerprint:
    r"""Return the digest of pixels, whatever file they came from.

    Args:
        pixels: (H, W) or (H, W, C) uint8, row-major.

    Source: protocol, section 6: SHA-256 of `pb-px-v1\0`, height, width, channels (u32
        little-endian), samples.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise TypeError(f"pixels must be (H, W[, C]) uint8, not {pixels.shape} {pixels.dtype}")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    header = b"pb-px-v1\0" + struct.pack("<3I", pixels.shape[0], pixels.shape[1], channels)
    return sha256(header + np.ascontiguousarray(pixels).tobytes())


def lines_digest(lines: Iterable[str]) -> Fingerprint:
    """Return the SHA-256 of ASCII lines, a line feed after each."""
    return sha256("".join(f"{line}\n" for line in lines).encode("ascii"))


def table_digest(digests: dict[ImageId, Fingerprint]) -> Fingerprint:
    """Return the digest over the sorted (id, pixel digest) list of a folder of images."""
    return lines_digest(f"{image_id} {digests[image_id]}" for image_id in sorted(digests))
