"""References of FID and KID: the set's originals, a whole validation set, or imported statistics.

Source: metrics, section 3; protocol, section 8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import UsageError
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.types import Features, Fingerprint
from palette_bench.scoring.features.cache import ArrayCache, HeadTables, statistics_key
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.metrics import kid
from palette_bench.scoring.metrics.metric import ReferenceSet
from palette_bench.scoring.metrics.moments import Moments
from palette_bench.scoring.statistics_files import StatisticsFile, read_statistics
from palette_bench.tasks.preprocess import PREPROCESS

ORIGINALS = "originals"
FULL = "val-full@"
DEFAULT_FULL, MATCHED_FULL = f"{FULL}crop-area-v1", f"{FULL}crop256-v1"
IMPORTED_NOTE = "imported-reference"
OWN_NOTE = "own-originals"


@dataclass(frozen=True)
class ReferenceRequest:
    """The reference that a user requests for FID and KID.

    Attributes:
        name: `originals`, `val-full@<preprocessing>`, the path of an .npz, or None for the default.
        images: folder or tar of a validation set, for `val-full@...`.
        mode: resize mode of the FID network; required for an .npz, which need not state its own.
        n: number of images behind an .npz; required for an .npz.
    """

    name: str | None = None
    images: Path | None = None
    mode: str | None = None
    n: int | None = None

    @property
    def preprocess(self) -> str | None:
        """Return the preprocessing of the requested validation set, or None for any other reference."""
        is_full = self.name is not None and self.name.startswith(FULL)
        return self.name.removeprefix(FULL) if self.name and is_full else None

    @property
    def file(self) -> Path | None:
        """Return the requested statistics file, or None for any other reference."""
        return Path(self.name) if self.name and self.name.endswith(".npz") else None

    def require_sense(self) -> None:
        """Raise unless the name is known and the options fit it.

        Raises:
            UsageError: unknown name, or options that do not go together.
        """
        if self.file:
            if self.mode is None or self.n is None:
                raise UsageError(
                    f"{self.file.name} does not say how its images were resized, nor how many they were: "
                    "give both --mode MODE and --n N"
                )
            if self.n < 2:
                raise UsageError(
                    f"--n is the number of images behind {self.file.name}, at least 2, not {self.n}"
                )
        elif self.n is not None:
            raise UsageError("--n belongs to --reference FILE.npz; images are counted")
        elif self.name not in (None, ORIGINALS, *(f"{FULL}{name}" for name in PREPROCESS)):
            known = ", ".join([ORIGINALS, *(f"{FULL}{name}" for name in PREPROCESS)])
            raise UsageError(f"unknown reference {self.name!r}: {known}, or a FILE.npz")
        if self.images and not self.preprocess:
            raise UsageError(f"--reference-images goes with --reference {DEFAULT_FULL} or {MATCHED_FULL}")


class ReferenceSource(Protocol):
    """Provides the reference for each extractor and head.

    Attributes:
        id: `originals`, `val-full@<preprocessing>` or `imported:<12 hex>`.
        notes: notes that every score against it carries.
    """

    @property
    def id(self) -> str: ...  # noqa: D102  # described above
    @property
    def notes(self) -> tuple[str, ...]: ...  # noqa: D102

    def reference(self, extractor: FeatureExtractor, head: str, kernel: bool) -> ReferenceSet:
        """Return the reference in one head; `kernel` requests what KID needs."""

    def fingerprint(self, extractor: FeatureExtractor) -> Fingerprint:
        """Return the fingerprint of the reference's images and one extractor."""


@dataclass(frozen=True)
class ImageReference:
    """A reference made from images; its features and statistics are cached by content.

    Attributes:
        id: name in scorecards.
        n: number of images.
        keys: extractor id -> fingerprint of the images and the extractor.
        load: extractor id -> feature tables; called only if moments alone are not enough or not cached.
        statistics: cache of moments, their factor, and KID's mean over the reference's own pairs.
        notes: notes that every score against it carries.
    """

    id: str
    n: int
    keys: Mapping[str, Fingerprint]
    load: Callable[[str], HeadTables]
    statistics: ArrayCache
    notes: tuple[str, ...] = ()
    _loaded: dict[str, HeadTables] = field(default_factory=dict)

    def fingerprint(self, extractor: FeatureExtractor) -> Fingerprint:
        """Return the digest of ids, pixels and extractor."""
        return self.keys[extractor.id]

    def reference(self, extractor: FeatureExtractor, head: str, kernel: bool) -> ReferenceSet:
        """Return the reference in one head, without features if moments are enough."""

        def features() -> Features:
            if extractor.id not in self._loaded:
                self._loaded[extractor.id] = self.load(extractor.id)
            return self._loaded[extractor.id][head]

        key = statistics_key(self.keys[extractor.id], head, "moments")
        moments = self._moments(key, features)
        paired = self.id == ORIGINALS
        # with N <= D rows, a Fréchet distance works on the rows themselves
        needs_features = kernel or self.n <= len(moments.mean) or paired
        needs_kernel_mean = kernel and not paired and self._is_large(moments)
        return ReferenceSet(
            self.id,
            self.n,
            features() if needs_features else None,
            moments,
            self._kernel_mean(extractor, head, features) if needs_kernel_mean else None,
            paired,
        )

    def _moments(self, key: Fingerprint, features: Callable[[], Features]) -> Moments:
        stored = self.statistics.load(key)
        if stored is not None:
            return Moments.from_arrays(stored)
        moments = Moments.of(features())
        if self._is_large(moments):
            self.statistics.store(key, moments.to_arrays(), {})
        return moments

    def _is_large(self, moments: Moments) -> bool:
        """Return whether moments are smaller than the features, so that caching them saves reading."""
        return self.n > len(moments.mean)

    def _kernel_mean(self, extractor: FeatureExtractor, head: str, features: Callable[[], Features]) -> float:
        """Return KID's mean over the reference's own pairs; its N^2 products are computed once and cached."""
        key = statistics_key(self.keys[extractor.id], head, "kernel-mean")
        stored = self.statistics.load(key)
        if stored is None:
            stored = {"mean": np.array([kid.self_mean(features())])}
            self.statistics.store(key, stored, {})
        return float(stored["mean"][0])


def own_originals(
    target: BenchSet,
    keys: Mapping[str, Fingerprint],
    originals: Mapping[str, HeadTables],
    n: int,
    statistics: ArrayCache,
) -> ImageReference:
    """Return a set's own originals as reference.

    If the paper uses a validation set for this source, scores carry the note `own-originals`.

    Args:
        target: the benchmark set.
        keys: extractor id -> fingerprint of the originals and the extractor.
        originals: extractor id -> tables of the originals.
        n: number of originals.
        statistics: cache of moments.
    """
    known = target.protocol.has_validation_set(target.manifest.source)
    notes = (OWN_NOTE,) if known else ()
    return ImageReference(ORIGINALS, n, keys, originals.__getitem__, statistics, notes)


@dataclass(frozen=True)
class ImportedReference:
    """A reference read from a statistics file; it has no features and cannot be traced to images."""

    file: StatisticsFile
    mode: str
    notes: tuple[str, ...] = (IMPORTED_NOTE,)

    @property
    def id(self) -> str:
        """Return `imported:` and the first 12 digits of the file's digest."""
        return f"imported:{self.file.digest[:12]}"

    def fingerprint(self, extractor: FeatureExtractor) -> Fingerprint:
        """Return the digest of file, count, mode and extractor."""
        return fingerprint(
            {
                "file": self.file.digest,
                "n": self.file.moments.n,
                "mode": self.mode,
                "extractor": extractor.fingerprint,
            }
        )

    def reference(self, extractor: FeatureExtractor, head: str, kernel: bool) -> ReferenceSet:
        """Return the statistics; KID needs features and is None against them."""
        return ReferenceSet(self.id, self.file.moments.n, None, self.file.moments)


def import_reference(request: ReferenceRequest, width: int) -> ImportedReference:
    """Return the reference from the statistics file that a request names.

    Args:
        request: the request, with file, mode and n.
        width: number of features of the extractor that is compared.

    Raises:
        UsageError: the request lacks file, mode or n.
        RecordError: PB412, the file holds no usable statistics.
        StorageError: PB801, the file cannot be read.
    """
    path, n, mode = request.file, request.n, request.mode
    if path is None or n is None or mode is None:
        raise UsageError("statistics need a file, a mode and a number of images")
    return ImportedReference(read_statistics(path, n, width, mode), mode)
