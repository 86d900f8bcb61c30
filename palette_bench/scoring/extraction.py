"""Feature tables of images: cached tables are read, the others are computed in one pass by all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from palette_bench.core.errors import InputError, StackError
from palette_bench.core.processes import in_threads
from palette_bench.core.types import SILENT, Features, Fingerprint, Image, ImageId, Progress
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.scoring.features.cache import ArrayCache, HeadTables, cache_key
from palette_bench.scoring.features.extractor import FeatureExtractor, as_images


def extract(
    extractors: Sequence[FeatureExtractor],
    images: Iterable[Image],
    count: int,
    advance: Callable[[int], object],
    *,
    name: Callable[[int], str] = "image {:,}".format,
) -> list[HeadTables]:
    """Return the feature tables of images, one mapping per extractor.

    Args:
        extractors: they all process each batch while it is in memory; all must have the same micro-batch.
        images: (S, S, 3) uint8 each, in id order.
        count: number of images.
        advance: called with the size of every finished batch; may raise to stop.
        name: maps an index to the image's name in error messages.

    Returns:
        For each extractor, head -> (count, D) float32. Memory holds these tables and one batch.

    Raises:
        InputError: an extractor returns NaN or infinity; the message names the first such image.
    """
    tables: list[dict[str, Features]] = [{} for _ in extractors]
    remaining, batch = iter(images), micro_batch(extractors)
    for start in range(0, count, batch):
        tensors = as_images(list(islice(remaining, batch)))
        for extractor, table in zip(extractors, tables, strict=True):
            for head, rows in extractor(tensors).items():
                broken = ~np.isfinite(rows).all(axis=1)
                if broken.any():
                    first = name(start + int(broken.argmax()))
                    raise InputError(f"{extractor.id}: {head} is not finite for {first}")
                whole = table.setdefault(head, np.empty((count, rows.shape[1]), np.float32))
                whole[start : start + len(rows)] = rows
        advance(len(tensors))
    return list(tables)


def micro_batch(extractors: Sequence[FeatureExtractor]) -> int:
    """Return the micro-batch (images per forward pass) that all extractors of one device share."""
    (batch,) = {extractor.micro_batch for extractor in extractors}
    return batch


@dataclass(frozen=True)
class ImageSet:
    """Images for the networks (outputs, originals or references): a label, pixel digests, and a reader."""

    label: str
    digests: Mapping[ImageId, Fingerprint]
    read: Callable[[ImageId], Image]


@dataclass(frozen=True)
class Extraction:
    """Extractors, together with the cache, device, ranks and progress display that they use.

    `parts` holds the features of single micro-batches, which the shards of a run have computed; or is None.
    """

    extractors: Sequence[FeatureExtractor]
    cache: ArrayCache
    device: str
    world: ProcessGroup = field(default_factory=ProcessGroup)
    progress: Progress = SILENT
    parts: ArrayCache | None = None

    def keys(self, digests: Mapping[ImageId, Fingerprint]) -> dict[str, Fingerprint]:
        """Return, by extractor id, the cache key of these images' features."""
        return {e.id: cache_key(digests, e.fingerprint) for e in self.extractors}

    def tables(self, side: ImageSet) -> dict[str, HeadTables]:
        """Return the tables of one image set by extractor id, rows in id order; {} on ranks other than 0.

        The table of each extractor is cached as soon as the image set is complete, so a killed run resumes
        there.

        Raises:
            InputError: a feature is NaN or infinite.
            StackError: PB710, the ranks did not cover every image exactly once.
        """
        keys = self.keys(side.digests)
        found: dict[str, HeadTables] = {}

        def missing() -> list[str]:
            stored = {e.id: self.cache.load(keys[e.id]) for e in self.extractors}
            found.update({name: table for name, table in stored.items() if table is not None})
            return [name for name in stored if name not in found]

        names = self.world.run_on_main(missing)
        chosen = [e for e in self.extractors if e.id in names]
        for extractor, table in zip(chosen, self._computed(chosen, side), strict=False):  # [] off rank 0
            about = {"batch": str(extractor.micro_batch), "device": self.device}
            self.cache.store(keys[extractor.id], table, about)
            found[extractor.id] = table
        return found

    def _computed(self, chosen: Sequence[FeatureExtractor], side: ImageSet) -> list[HeadTables]:
        """Return the tables of these extractors on rank 0; each rank computes its own chunks of images."""
        if not chosen:
            return []
        ids = sorted(side.digests)
        mine = self.world.shard(ids, micro_batch(chosen))

        def work() -> list[tuple[list[ImageId], list[HeadTables]]]:
            stored = self._stored(chosen, side, mine)
            known = {image_id for own, _ in stored for image_id in own}
            rest = [image_id for image_id in mine if image_id not in known]
            if stored and not rest:
                return stored
            images = in_threads(side.read, rest)
            with self.progress(side.label, len(rest)) as advance, closing(images):
                tables = extract(chosen, images, len(rest), advance, name=lambda at: rest[at])
            return [*stored, (rest, tables)]

        parts = [part for of_rank in self.world.gather(work) for part in of_rank]
        if not parts:
            return []
        return [_assembled(ids, [(own, done[at]) for own, done in parts]) for at in range(len(chosen))]

    def _stored(
        self, chosen: Sequence[FeatureExtractor], side: ImageSet, mine: Sequence[ImageId]
    ) -> list[tuple[list[ImageId], list[HeadTables]]]:
        """Return the micro-batches of `mine` whose features shards have stored for all these extractors."""
        if self.parts is None:
            return []
        found, size = [], micro_batch(chosen)
        for start in range(0, len(mine), size):
            own = list(mine[start : start + size])
            keys = self.keys({image_id: side.digests[image_id] for image_id in own})
            tables = [table for e in chosen if (table := self.parts.load(keys[e.id])) is not None]
            if len(tables) == len(chosen):
                found.append((own, tables))
        return found

    def store_part(self, side: ImageSet) -> None:
        """Store the features of one micro-batch in `parts`, if they are not there.

        Args:
            side: the images of the micro-batch, which are few enough to be read at once.
        """
        assert self.parts is not None, "only a shard stores parts"
        keys = self.keys(side.digests)
        lacking = [e for e in self.extractors if self.parts.load(keys[e.id]) is None]
        if not lacking:
            return
        ids = sorted(side.digests)
        tables = extract(lacking, map(side.read, ids), len(ids), lambda _: None, name=lambda at: ids[at])
        for extractor, table in zip(lacking, tables, strict=True):
            about = {"batch": str(extractor.micro_batch), "device": self.device}
            self.parts.store(keys[extractor.id], table, about)


def _assembled(ids: Sequence[ImageId], parts: Sequence[tuple[Sequence[ImageId], HeadTables]]) -> HeadTables:
    """Return one table in id order from the rows of all ranks.

    Raises:
        StackError: PB710, the ranks did not cover each id exactly once.
    """
    if len(parts) == 1:
        return parts[0][1]
    done = [image_id for own, _ in parts for image_id in own]
    if sorted(done) != list(ids):
        expected = f"{len(ids):,} images, each once"
        found = f"{len(done):,} rows of {len(set(done)):,} images"
        fix = "run again; if it happens again, report it"
        raise StackError.of("PB710", "rows of all ranks", expected=expected, found=found, fix=fix)
    place = {image_id: at for at, image_id in enumerate(ids)}
    whole: dict[str, Features] = {}
    for own, tables in parts:
        rows = [place[image_id] for image_id in own]
        for head, table in tables.items():
            whole.setdefault(head, np.empty((len(ids), table.shape[1]), np.float32))[rows] = table
    return whole


def obeying(progress: Progress, stop: Callable[[], None]) -> Progress:
    """Return a progress function that also calls `stop` at every step, to obey Ctrl-C and SIGTERM."""

    @contextmanager
    def watched(label: str, total: int) -> Iterator[Callable[[int], Any]]:
        with progress(label, total) as advance:

            def step(count: int) -> None:
                advance(count)
                stop()

            yield step

    return watched
