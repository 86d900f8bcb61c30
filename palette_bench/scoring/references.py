"""References of FID and KID: what a user requests, and references made from images.

Source: metrics, section 3; protocol, section 8.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
from pydantic import ValidationError

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core import atomic
from palette_bench.core.errors import InputError, StorageError, UsageError, problem
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.records import Part, Sha
from palette_bench.core.types import Features, Fingerprint, ImageId
from palette_bench.scoring.features.cache import ArrayCache, HeadTables, cache_folder, statistics_key
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.metrics import cmmd, kid
from palette_bench.scoring.metrics.metric import KernelId, ReferenceSet
from palette_bench.scoring.metrics.moments import Moments
from palette_bench.tasks.preprocess import PREPROCESS
from palette_bench.tasks.protocol import ImageNetSource, PlacesSource

log = logging.getLogger(__name__)

ORIGINALS = "originals"
FULL = "val-full@"
DEFAULT_FULL, MATCHED_FULL = f"{FULL}crop-area-v1", f"{FULL}crop256-v1"
OWN_NOTE = "own-originals"
# kernel -> kind of the cached entry, and the mean over a reference's own pairs
_SELF_MEANS: Mapping[KernelId, tuple[str, Callable[[Features], float]]] = {
    "cubic": ("kernel-mean", kid.self_mean),
    "gaussian": ("gaussian-mean", cmmd.self_mean),
}


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
                    f"{self.file.name} does not state how its images were resized or how many there are: "
                    "give both --mode MODE and --n N"
                )
            if self.n < 2:
                raise UsageError(
                    f"--n is the number of images behind {self.file.name}, at least 2, not {self.n}"
                )
        elif self.n is not None:
            raise UsageError("--n belongs to --reference FILE.npz; images are counted")
        elif self.name not in (None, *(known := [ORIGINALS, *(f"{FULL}{name}" for name in PREPROCESS)])):
            raise UsageError(f"unknown reference {self.name!r}: {', '.join(known)}, or a FILE.npz")
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

    def reference(
        self, extractor: FeatureExtractor, head: str, all_pairs: bool, kernel: KernelId | None
    ) -> ReferenceSet:
        """Return the reference in one head.

        Args:
            extractor: the network.
            head: name of its head.
            all_pairs: whether the features are needed.
            kernel: the kernel whose mean over the reference's own pairs is needed, if any.
        """

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
        statistics: cache of moments, their factor, and kernel means over the reference's own pairs.
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

    def reference(
        self, extractor: FeatureExtractor, head: str, all_pairs: bool, kernel: KernelId | None
    ) -> ReferenceSet:
        """Return the reference in one head, without features if moments are enough."""

        def features() -> Features:
            if extractor.id not in self._loaded:
                self._loaded[extractor.id] = self.load(extractor.id)
            return self._loaded[extractor.id][head]

        key = statistics_key(self.keys[extractor.id], head, "moments")
        stored = self.statistics.load(key)
        moments = Moments.of(features()) if stored is None else Moments.from_arrays(stored)
        # Moments smaller than the features are cached, because that saves reading.
        is_large = self.n > len(moments.mean)
        if stored is None and is_large:
            self.statistics.store(key, moments.to_arrays(), {})
        paired = self.id == ORIGINALS
        kernel_mean = None
        if kernel and not paired and is_large:
            # the mean over the reference's own pairs: N^2 products, computed once
            kind, self_mean = _SELF_MEANS[kernel]
            key = statistics_key(self.keys[extractor.id], head, kind)
            mean = self.statistics.load(key)
            if mean is None:
                mean = {"mean": np.array([self_mean(features())])}
                self.statistics.store(key, mean, {})
            kernel_mean = float(mean["mean"][0])
        # with N <= D rows, a Fréchet distance works on the rows themselves
        rows = features() if all_pairs or paired or not is_large else None
        return ReferenceSet(self.id, self.n, rows, moments, kernel_mean, paired)


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


# --- validation sets in the cache ---

_WHOLE = {"imagenet": 50_000, "places": 36_500}  # images; Palette, Appendix C.5


class IndexEntry(Part):
    """The index entry of one validation set for one extractor."""

    n: int
    key: Sha  # fingerprint of all images and the extractor
    parts: tuple[Sha, ...]  # keys of the cached features, in order


@dataclass(frozen=True)
class ValidationSet:
    """A validation set: which one, with which preprocessing, at which size.

    An index lists the cached parts of each set, so later runs need neither images nor networks. The index key
    includes the source files of the benchmark set: another folder of the same name is another reference.

    Attributes:
        name: `imagenet`, `places`, or the id of a folder source.
        preprocess: id of the preprocessing.
        side: side of the protocol's images, pixels.
        sources: id -> SHA-256 of each source file of the benchmark set that is compared.
    """

    name: str
    preprocess: str
    side: int
    sources: Mapping[ImageId, Fingerprint] = field(default_factory=dict)

    @classmethod
    def of(cls, target: BenchSet, preprocess: str) -> ValidationSet:
        """Return the validation set that a benchmark set is compared with."""
        source = target.manifest.source
        known = target.protocol.sources.get(source)
        if isinstance(known, ImageNetSource):
            source = "imagenet"
        elif isinstance(known, PlacesSource):
            source = "places"
        sources = {item.id: item.source_sha256 for item in target.manifest.items}
        return cls(source, preprocess, target.protocol.side, sources)

    @property
    def id(self) -> str:
        """Return the reference's name in scorecards."""
        return f"{FULL}{self.preprocess}"

    @property
    def size(self) -> int | None:
        """Return the number of images in the whole set, or None for a folder."""
        return _WHOLE.get(self.name)

    def _path(self, extractor: FeatureExtractor) -> Path | None:
        folder = cache_folder()
        if folder is None:
            return None
        identity = {
            "set": self.name,
            "sources": sorted(self.sources.items()),
            "preprocess": self.preprocess,
            "side": self.side,
            "extractor": extractor.fingerprint,
        }
        return folder / "references" / f"{fingerprint(identity)}.json"

    def entry(self, extractor: FeatureExtractor) -> IndexEntry | None:
        """Return the index entry of an extractor, or None if it is absent or damaged (PB808)."""
        path = self._path(extractor)
        try:
            if path is None or not path.is_file():
                return None
            return IndexEntry.model_validate_json(path.read_bytes())
        except OSError:
            return None  # the feature cache already warns that it cannot be read
        except ValidationError as error:
            log.warning("%s", problem("PB808", str(path), expected="an index entry", found=str(error)[:200]))
            return None

    def remember(self, extractor: FeatureExtractor, entry: IndexEntry) -> None:
        """Write an index entry; failure is only logged, because the feature cache has already warned."""
        path = self._path(extractor)
        if path is None:
            return
        try:
            atomic.write_text(path, json.dumps(entry.model_dump(mode="json")))
        except StorageError:
            log.debug("the index of %s is not kept", self.id)

    def remembered(
        self, extractors: Sequence[FeatureExtractor], features: ArrayCache, statistics: ArrayCache
    ) -> ImageReference | None:
        """Return the reference from the cache, or None unless the index has an entry for every extractor."""
        entries = {e.id: entry for e in extractors if (entry := self.entry(e)) is not None}
        if len(entries) < len(extractors) or not entries:
            return None
        keys = {name: entry.key for name, entry in entries.items()}
        n = next(iter(entries.values())).n
        load = partial(_load, entries, features)
        return ImageReference(self.id, n, keys, load, statistics, self.notes(n))

    def notes(self, n: int) -> tuple[str, ...]:
        """Return `partial-reference` if n images are not the whole of a published validation set."""
        return ("partial-reference",) if self.size not in (None, n) else ()


def _load(entries: dict[str, IndexEntry], cache: ArrayCache, name: str) -> HeadTables:
    """Return the features of one extractor, joined from their cached parts.

    Raises:
        InputError: a part is missing or damaged.
    """
    parts = [cache.load(key) for key in entries[name].parts]
    whole = [part for part in parts if part is not None]
    if len(whole) < len(parts):
        raise InputError(
            f"{len(parts) - len(whole):,} of {len(parts):,} cached parts of the validation set are gone or "
            "damaged: name its images again with --reference-images DIR"
        )
    return joined(whole)


def joined(parts: Sequence[HeadTables]) -> HeadTables:
    """Return the feature tables of consecutive parts as one, by head."""
    return {head: np.concatenate([part[head] for part in parts]) for head in parts[0]}
