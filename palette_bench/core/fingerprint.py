"""Canonical JSON, and digests that identify records, pixels and tables.

PNG files are identified by their pixels, not their bytes, because the bytes depend on the version of zlib.
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
    """Return `value` as UTF-8 JSON with sorted keys and no spaces; NaN and infinities raise ValueError."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace")  # names that are not UTF-8 become JSON escapes


def sha256(data: bytes) -> Fingerprint:
    """Return the SHA-256 of `data`, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def fingerprint(value: Any) -> Fingerprint:
    """Return the SHA-256 of the canonical JSON of `value`."""
    return sha256(canonical_json(value))


def pixel_digest(pixels: NDArray[np.uint8]) -> Fingerprint:
    r"""Return the digest of pixels, independent of the file format.

    The digest is the SHA-256 of `pb-px-v1\0`, height, width and channels (u32, little-endian), followed by
    the pixel values. Source: protocol, section 6.

    Args:
        pixels: (H, W) or (H, W, C) uint8, row-major.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise TypeError(f"pixels must be (H, W[, C]) uint8, not {pixels.shape} {pixels.dtype}")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    header = b"pb-px-v1\0" + struct.pack("<3I", pixels.shape[0], pixels.shape[1], channels)
    return sha256(header + np.ascontiguousarray(pixels).tobytes())


def lines_digest(lines: Iterable[str]) -> Fingerprint:
    """Return the SHA-256 of ASCII lines, each followed by a line feed."""
    return sha256("".join(f"{line}\n" for line in lines).encode("ascii"))


def table_digest(digests: dict[ImageId, Fingerprint]) -> Fingerprint:
    """Return the digest of the (id, pixel digest) pairs of a folder of images, sorted by id."""
    return lines_digest(f"{image_id} {digests[image_id]}" for image_id in sorted(digests))
