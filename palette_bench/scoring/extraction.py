"""Pictures to feature tables: cached ones are read, the others computed in one pass by all ranks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from palette_bench.core.errors import StackError, problem
from palette_bench.core.types import SILENT, Features, Fingerprint, Image, ImageId, Progress
from palette_bench.core.workers import in_threads
from palette_bench.scoring.distributed import ALONE, World
from palette_bench.scoring.features.cache import ArrayCache, HeadTables, cache_key
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.features.tables import extract, micro_batch


@dataclass(frozen=True)
class Side:
    """The outputs, the originals or some references: what the networks see, and where it is read."""

    label: str
    digests: Mapping[ImageId, Fingerprint]
    read: Callable[[ImageId], Image]


@dataclass(frozen=True)
class Extraction:
    """Networks at work: on which device, with which other ranks, remembering in which cache."""

    extractors: Sequence[FeatureExtractor]
    cache: ArrayCache
    device: str
    world: World = ALONE
    progress: Progress = SILENT

    def only(self, extractors: Sequence[FeatureExtractor]) -> Extraction:
        """Return the same with fewer networks."""
        return replace(self, extractors=extractors)

    def keys(self, digests: Mapping[ImageId, Fingerprint]) -> dict[str, Fingerprint]:
        """Return by extractor the fingerprint of these pictures seen by it: the key to their features."""
        return {e.id: cache_key(digests, e.fingerprint) for e in self.extractors}

    def tables(self, side: Side) -> dict[str, HeadTables]:
        """Return the tables of one side by extractor id, rows in id order; nothing but at rank 0.

        Each extractor's table is kept as soon as the side is complete, so that a killed run takes up
        there.

        Raises:
            InputError: a feature is NaN or infinite.
            StackError: PB710, the ranks did not cover every picture once.
        """
        keys = self.keys(side.digests)
        found: dict[str, HeadTables] = {}

        def missing() -> list[str]:
            stored = {e.id: self.cache.load(keys[e.id]) for e in self.extractors}
            found.update({name: table for name, table in stored.items() if table is not None})
            return [name for name in stored if name not in found]

        names = self.world.lead(missing)
        chosen = [e for e in self.extractors if e.id in names]
        for extractor, table in zip(chosen, self._computed(chosen, side), strict=False):  # none off rank 0
            self.cache.store(keys[extractor.id], table, self._about(extractor))
            found[extractor.id] = table
        return found

    def _about(self, extractor: FeatureExtractor) -> dict[str, str]:
        return {"batch": str(extractor.micro_batch), "device": self.device}

    def _computed(self, chosen: Sequence[FeatureExtractor], side: Side) -> list[HeadTables]:
        """Return the tables of these extractors, at rank 0: each rank computes the units dealt to it."""
        if not chosen:
            return []
        ids = sorted(side.digests)
        mine = self.world.dealt(ids, micro_batch(chosen))

        def work() -> tuple[list[ImageId], list[HeadTables]]:
            pictures = in_threads(side.read, mine)
            with self.progress(side.label, len(mine)) as advance, closing(pictures):
                return mine, extract(chosen, pictures, len(mine), advance, name=lambda at: mine[at])

        parts = self.world.gather(work)
        if not parts:
            return []
        return [_assembled(ids, [(own, done[at]) for own, done in parts]) for at in range(len(chosen))]


def _assembled(ids: Sequence[ImageId], parts: Sequence[tuple[Sequence[ImageId], HeadTables]]) -> HeadTables:
    """Return one table in id order from the rows of all ranks, each id exactly once.

    Raises:
        StackError: PB710.
    """
    if len(parts) == 1:
        return parts[0][1]
    told = [image_id for own, _ in parts for image_id in own]
    if sorted(told) != list(ids):
        raise StackError(
            problem(
                "PB710",
                "rows of all ranks",
                expected=f"{len(ids):,} pictures, each once",
                found=f"{len(told):,} rows of {len(set(told)):,} pictures",
                fix="run again; if it happens again, report it",
            )
        )
    place = {image_id: at for at, image_id in enumerate(ids)}
    whole: dict[str, Features] = {}
    for own, tables in parts:
        rows = [place[image_id] for image_id in own]
        for head, table in tables.items():
            whole.setdefault(head, np.empty((len(ids), table.shape[1]), np.float32))[rows] = table
    return whole


def obeying(progress: Progress, stop: Callable[[], None]) -> Progress:
    """Return progress whose every step obeys Ctrl-C and SIGTERM."""

    @contextmanager
    def watched(label: str, total: int) -> Iterator[Callable[[int], Any]]:
        with progress(label, total) as advance:

            def step(count: int) -> None:
                advance(count)
                stop()

            yield step

    return watched
