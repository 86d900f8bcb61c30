"""Features cached by content: the same pixels through the same network are computed once.

The key knows no name and no path, so a replaced folder is a new key and references and anchors are shared
by all sets that hold the same pictures. A damaged entry is recomputed; a cache that cannot be written
costs time, never a score. Source: metrics, section 3.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import safetensors.numpy
from safetensors import SafetensorError, safe_open

from palette_bench.core import atomic
from palette_bench.core.errors import StorageError, problem
from palette_bench.core.fingerprint import fingerprint, sha256
from palette_bench.core.types import Features, Fingerprint, ImageId

log = logging.getLogger(__name__)

CACHE_VARIABLE = "PALETTE_BENCH_CACHE"

HeadTables = Mapping[str, Features]  # head -> (N, D) float32, rows in id order


def cache_folder() -> Path:
    """Return $PALETTE_BENCH_CACHE, or the user's cache directory."""
    given = os.environ.get(CACHE_VARIABLE)
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(given) if given else (Path(home) if home else Path.home() / ".cache") / "palette-bench"


def cache_key(digests: Mapping[ImageId, Fingerprint], extractor: Fingerprint) -> Fingerprint:
    """Return the key of the features of some pictures.

    Args:
        digests: pixel digest of each picture as the network sees it, by id.
        extractor: fingerprint of the network.
    """
    return fingerprint({"pictures": sorted(digests.items()), "extractor": extractor})


def _payload_digest(tables: HeadTables) -> Fingerprint:
    return fingerprint([[head, list(t.shape), sha256(t.tobytes())] for head, t in sorted(tables.items())])


class FeatureCache:
    """The cache on disk; `fresh` ignores what it holds and replaces it."""

    def __init__(self, *, fresh: bool = False) -> None:
        """Use the folder the environment names."""
        self._folder = cache_folder() / "features"
        self._fresh = fresh

    def _path(self, key: Fingerprint) -> Path:
        return self._folder / f"{key}.safetensors"

    def load(self, key: Fingerprint) -> HeadTables | None:
        """Return the stored tables, bit for bit, or None if there are none or they are damaged (PB808)."""
        path = self._path(key)
        if self._fresh or not path.is_file():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                tables = {head: file.get_tensor(head) for head in file.keys()}  # noqa: SIM118  # not a dict
                payload = (file.metadata() or {}).get("payload")
        except (SafetensorError, OSError, ValueError) as error:
            self._report_damage(path, str(error))
            return None
        if payload != _payload_digest(tables):
            self._report_damage(path, "another payload digest")
            return None
        return tables

    def _report_damage(self, path: Path, found: str) -> None:
        log.warning("%s", problem("PB808", str(path), expected="an intact entry", found=found))

    def store(self, key: Fingerprint, tables: HeadTables, about: Mapping[str, str]) -> None:
        """Keep tables under a key; a folder that cannot be written is a warning.

        Args:
            key: from `cache_key`.
            tables: head -> (N, D) float32.
            about: device and micro-batch, for readers; they are no part of the key.
        """
        header = {**about, "payload": _payload_digest(tables)}
        try:
            atomic.make_folder(self._folder)
            atomic.sweep(self._folder)
            atomic.write_bytes(self._path(key), safetensors.numpy.save(dict(tables), header))
        except StorageError as error:
            log.warning("scored without a cache, nothing is kept for the next run:\n%s", error)
