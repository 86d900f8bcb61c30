"""`val-full@...`: a whole validation set as reference, computed once and cached.

The set is 50,000 ImageNet images, 36,500 Places images, or any folder. Its images are split into parts, and
the features of each part are cached by content, so a killed run resumes at the part it had reached. An index
lists the parts of each set, so later runs need neither images nor networks. The index key includes the source
files of the benchmark set: another folder of the same name is another reference.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from pydantic import ValidationError

from palette_bench.benchset.images import ImageLocation, find_images
from palette_bench.benchset.manifest import BenchSet
from palette_bench.core import atomic
from palette_bench.core.errors import InputError, SourceError, StorageError, problem
from palette_bench.core.fingerprint import fingerprint, pixel_digest, sha256
from palette_bench.core.processes import in_threads
from palette_bench.core.records import Part, Sha
from palette_bench.core.types import SILENT, Fingerprint, Image, ImageId
from palette_bench.scoring.extraction import Extraction, ImageSet, micro_batch
from palette_bench.scoring.features.cache import ArrayCache, HeadTables, cache_folder, cache_key
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.references import FULL, ImageReference
from palette_bench.tasks.preprocess import PREPROCESS, DecodeError, decode
from palette_bench.tasks.protocol import ImageNetSource, PlacesSource

log = logging.getLogger(__name__)

PART = 256  # images per cached part, a multiple of every micro-batch: 50 MB of pixels in memory
_TAR = {"imagenet": "ILSVRC2012_img_val.tar", "places": "val_large.tar"}
_WHOLE = {"imagenet": 50_000, "places": 36_500}  # images; Palette, Appendix C.5


class IndexEntry(Part):
    """The index entry of one validation set for one extractor."""

    n: int
    key: Sha  # fingerprint of all images and the extractor
    parts: tuple[Sha, ...]  # keys of the cached features, in order


@dataclass(frozen=True)
class ValidationSet:
    """A validation set: which one, with which preprocessing, at which size.

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

    def is_whole(self, reference: ImageReference) -> bool:
        """Return whether a reference has the number of images of the published validation set."""
        return reference.n == self.size

    def notes(self, n: int) -> tuple[str, ...]:
        """Return `partial-reference` if n images are not the whole of a published validation set."""
        return ("partial-reference",) if self.size not in (None, n) else ()

    def require_own(self, places: Mapping[ImageId, ImageLocation]) -> None:
        """Raise unless a published validation set holds the source images of the benchmark set.

        Raises:
            SourceError: PB607, images of the benchmark set are not in it.
        """
        absent = sorted(self.sources.keys() - places.keys()) if self.size else []
        if absent:
            raise SourceError.of(
                "PB607",
                "--reference-images",
                expected=f"the validation set that the {len(self.sources):,} images of the set come from",
                found="a folder without them",
                fix="name the folder, or the tar, that the set was generated from",
                ids=absent,
            )


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
    return _joined(whole)


def _joined(parts: Sequence[HeadTables]) -> HeadTables:
    return {head: np.concatenate([part[head] for part in parts]) for head in parts[0]}


def compute(
    wanted: ValidationSet, folder: Path, extraction: Extraction, statistics: ArrayCache
) -> ImageReference:
    """Return the reference made from a folder of images; only features that are not cached are computed.

    Args:
        wanted: name and preprocessing of the validation set.
        folder: images at any depth, or the original tar of the edition.
        extraction: the extractors that need the reference; all ranks must call this.
        statistics: cache of moments.

    Raises:
        SourceError: PB201, no images; PB309, an image cannot be decoded; PB607, a published validation set
            lacks images of the benchmark set, or holds other files under their names.
    """
    places = _by_id(find_images(folder, _TAR.get(wanted.name, ""), lambda name: True))
    wanted.require_own(places)
    if wanted.size and wanted.size != len(places):
        log.warning("%s: %s images, not the %s of the whole", wanted.id, len(places), wanted.size)
    ids = sorted(places)
    digests: dict[ImageId, Fingerprint] = {}
    tables: list[dict[str, HeadTables]] = []
    keys: list[dict[str, Fingerprint]] = []
    with extraction.progress("reference", len(ids)) as advance:
        for start in range(0, len(ids), PART):
            part = ids[start : start + PART]
            side = _part(wanted, part, places, extraction)
            digests.update(side.digests)
            keys.append(extraction.keys(side.digests))
            # silent, because one progress display covers all parts
            tables.append(replace(extraction, progress=SILENT).tables(side))
            advance(len(part))
    return _closed(wanted, digests, keys, tables, extraction, statistics)


def _closed(
    wanted: ValidationSet,
    digests: dict[ImageId, Fingerprint],
    keys: Sequence[dict[str, Fingerprint]],
    tables: Sequence[dict[str, HeadTables]],
    extraction: Extraction,
    statistics: ArrayCache,
) -> ImageReference:
    """Return the reference made of all parts, and write its index entries."""
    whole = {e.id: cache_key(digests, e.fingerprint) for e in extraction.extractors}
    if extraction.world.is_main:
        for extractor in extraction.extractors:
            parts = tuple(key[extractor.id] for key in keys)
            wanted.remember(extractor, IndexEntry(n=len(digests), key=whole[extractor.id], parts=parts))

    def load(name: str) -> HeadTables:
        return _joined([part[name] for part in tables])

    return ImageReference(wanted.id, len(digests), whole, load, statistics, wanted.notes(len(digests)))


def _part(
    wanted: ValidationSet,
    ids: Sequence[ImageId],
    places: dict[ImageId, ImageLocation],
    extraction: Extraction,
) -> ImageSet:
    """Return one part: the decoded images of this rank, and the digests of all ranks."""
    mine = extraction.world.shard(ids, micro_batch(extraction.extractors))
    pixels: dict[ImageId, Image] = {}

    def work() -> dict[ImageId, Fingerprint]:
        read = partial(_read, wanted, places)
        pixels.update(zip(mine, in_threads(read, mine), strict=True))
        return {image_id: pixel_digest(pixels[image_id]) for image_id in mine}

    shares = extraction.world.all_gather(work)
    return ImageSet(
        "reference", {i: digest for share in shares for i, digest in share.items()}, pixels.__getitem__
    )


def _read(wanted: ValidationSet, places: dict[ImageId, ImageLocation], image_id: ImageId) -> Image:
    try:
        data = places[image_id].read()
        if wanted.size and wanted.sources.get(image_id, sha256(data)) != sha256(data):
            raise SourceError.of(
                "PB607",
                places[image_id].name,
                expected=f"the file of the set, {wanted.sources[image_id][:12]}",
                found=f"another under its name, {sha256(data)[:12]}",
                fix="name the folder, or the tar, that the set was generated from",
            )
        return PREPROCESS[wanted.preprocess](decode(data), wanted.side)
    except (DecodeError, OSError) as error:
        raise SourceError.of(
            "PB309",
            places[image_id].name,
            expected="a JPEG or PNG of 8 bits",
            found=str(error),
            fix="replace the image: a reference is never made of fewer",
        ) from error


def _by_id(places: Sequence[ImageLocation]) -> dict[ImageId, ImageLocation]:
    """Return image locations by file stem, or by path if stems repeat.

    By stem, a flat folder and class folders are the same set.
    """
    stems = Counter(PurePosixPath(place.name).stem for place in places)
    if len(stems) == len(places):
        return {PurePosixPath(place.name).stem: place for place in places}
    return {place.name: place for place in places}
