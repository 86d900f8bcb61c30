"""Cache of features and their statistics, keyed by content.

The key is a digest of pixels and network, without names or paths. A folder with other content therefore gets
a new key, and all sets with the same images share references and anchors. A damaged entry is recomputed; a
cache that cannot be written costs time, never a score. Source: metrics, section 3.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from palette_bench.core import atomic
from palette_bench.core.errors import StorageError, problem
from palette_bench.core.fingerprint import fingerprint, sha256
from palette_bench.core.resources import user_cache
from palette_bench.core.types import Features, Fingerprint, ImageId

log = logging.getLogger(__name__)

_warned = False  # whether the user was warned that there is no cache

CACHE_VARIABLE = "PALETTE_BENCH_CACHE"

HeadTables = Mapping[str, Features]  # head -> (N, D) float32, rows in id order
Arrays = Mapping[str, NDArray[Any]]


def cache_folder() -> Path | None:
    """Return $PALETTE_BENCH_CACHE or the user's cache directory; None for a user without a home folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    home = user_cache()
    return home and home / "palette-bench"


def cache_key(digests: Mapping[ImageId, Fingerprint], extractor: Fingerprint) -> Fingerprint:
    """Return the cache key of the features of some images.

    Args:
        digests: id -> pixel digest of the image that the network receives.
        extractor: fingerprint of the extractor.
    """
    return fingerprint({"pictures": sorted(digests.items()), "extractor": extractor})


def statistics_key(features: Fingerprint, head: str, what: str) -> Fingerprint:
    """Return the cache key of a statistic of one head of cached features, e.g. of its `moments`."""
    return fingerprint({"features": features, "head": head, "statistics": f"{what}-v1"})


def _payload_digest(arrays: Arrays) -> Fingerprint:
    return fingerprint([[name, list(t.shape), sha256(t.tobytes())] for name, t in sorted(arrays.items())])


class ArrayCache:
    """Named arrays on disk under a key; with `fresh`, entries of earlier runs are ignored and replaced."""

    def __init__(self, kind: str, *, fresh: bool = False, folder: Path | None = None) -> None:
        """Use a sub-folder of a folder.

        Args:
            kind: `features`, head -> (N, D) float32; or `statistics`, float64.
            fresh: whether to ignore entries of earlier runs.
            folder: None for `cache_folder()`.
        """
        folder = folder or cache_folder()
        self._folder = folder and folder / kind
        self._fresh = fresh
        self._made: set[Fingerprint] = set()

    def load(self, key: Fingerprint) -> Arrays | None:
        """Return the stored arrays, bit for bit, or None if they are absent or damaged (PB808)."""
        if self._folder is None or (self._fresh and key not in self._made):
            return None
        path = self._folder / f"{key}.safetensors"
        try:
            if not path.is_file():
                return None
            with safe_open(path, framework="numpy") as file:
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
                payload = (file.metadata() or {}).get("payload")
            if payload == _payload_digest(arrays):
                return arrays
            damage = "another payload digest"
        except (SafetensorError, ValueError) as error:
            damage = str(error)
        except OSError as error:
            self._go_on_without(f"{path}: {error.strerror or error}")
            return None
        log.warning("%s", problem("PB808", str(path), expected="an intact entry", found=damage))
        return None

    def store(self, key: Fingerprint, arrays: Arrays, about: Mapping[str, str]) -> None:
        """Write arrays under a key, completely or not at all; if that fails, warn once.

        Args:
            key: from `cache_key` or `statistics_key`.
            arrays: C-contiguous, by name.
            about: device and micro-batch, for human readers; they are not part of the key.
        """
        if self._folder is None:
            self._go_on_without("this user has no home folder")
            return
        header = {**about, "payload": _payload_digest(arrays)}
        try:
            atomic.make_folder(self._folder)
            atomic.sweep(self._folder)
            path = self._folder / f"{key}.safetensors"
            atomic.write_bytes(path, safetensors.numpy.save(dict(arrays), header))
            self._made.add(key)
        except StorageError as error:
            self._go_on_without(str(error))

    def _go_on_without(self, reason: str) -> None:
        """Warn, once per process, that nothing is kept for the next run, and say how to keep a cache."""
        global _warned  # noqa: PLW0603  # once in the life of a process, for all kinds
        if not _warned:
            log.warning(
                "scored without a cache: %s\n  set %s to a folder to keep one", reason, CACHE_VARIABLE
            )
        _warned = True
