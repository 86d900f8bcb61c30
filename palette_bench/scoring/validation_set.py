"""`val-full@...`: a whole validation set as reference, computed once and cached.

The set is 50,000 ImageNet images, 36,500 Places images, or any folder. Its images are split into parts, and
the features of each part are cached by content, so a killed run resumes at the part it had reached.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from palette_bench.benchset.images import ImageLocation, find_images
from palette_bench.core.errors import SourceError
from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.core.processes import in_threads
from palette_bench.core.types import SILENT, Fingerprint, Image, ImageId
from palette_bench.scoring.extraction import Extraction, ImageSet, micro_batch
from palette_bench.scoring.features.cache import ArrayCache, HeadTables, cache_key
from palette_bench.scoring.references import ImageReference, IndexEntry, ValidationSet, joined
from palette_bench.tasks.preprocess import PREPROCESS, DecodeError, decode

log = logging.getLogger(__name__)

PART = 256  # images per cached part, a multiple of every micro-batch: 50 MB of pixels in memory
_TAR = {"imagenet": "ILSVRC2012_img_val.tar", "places": "val_large.tar"}


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
    found = find_images(folder, _TAR.get(wanted.name, ""), lambda name: True)
    # By file stem, a flat folder and class folders are the same set; by path if stems repeat.
    places = {PurePosixPath(place.name).stem: place for place in found}
    if len(places) < len(found):
        places = {place.name: place for place in found}
    # A published validation set holds the source images of the benchmark set.
    absent = sorted(wanted.sources.keys() - places.keys()) if wanted.size else []
    if absent:
        raise SourceError.of(
            "PB607",
            "--reference-images",
            expected=f"the validation set that the {len(wanted.sources):,} images of the set come from",
            found="a folder without them",
            fix="name the folder, or the tar, that the set was generated from",
            ids=absent,
        )
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
    whole = {e.id: cache_key(digests, e.fingerprint) for e in extraction.extractors}
    if extraction.world.is_main:
        for extractor in extraction.extractors:
            parts = tuple(key[extractor.id] for key in keys)
            wanted.remember(extractor, IndexEntry(n=len(digests), key=whole[extractor.id], parts=parts))

    def load(name: str) -> HeadTables:
        return joined([part[name] for part in tables])

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
            expected = f"the file of the set, {wanted.sources[image_id][:12]}"
            found = f"another file of this name, {sha256(data)[:12]}"
            fix = "name the folder, or the tar, that the set was generated from"
            raise SourceError.of("PB607", places[image_id].name, expected=expected, found=found, fix=fix)
        return PREPROCESS[wanted.preprocess](decode(data), wanted.side)
    except (DecodeError, OSError) as error:
        raise SourceError.of(
            "PB309",
            places[image_id].name,
            expected="a JPEG or PNG of 8 bits",
            found=str(error),
            fix="replace the image: a reference needs all of them",
        ) from error
