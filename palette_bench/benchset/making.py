"""Making of sets from an opened source: journals, worker processes, resume, and the final manifest."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from palette_bench.benchset.foreign_masks import ForeignMasks, area_problems
from palette_bench.benchset.images import SourceImage
from palette_bench.benchset.items import KINDS, ItemRecipe, SetTarget, damage, make_chunk
from palette_bench.benchset.manifest import MANIFEST, PUBLIC, Header, Item, Manifest, set_fingerprint
from palette_bench.benchset.sources import Source, unreadable
from palette_bench.core import atomic
from palette_bench.core.errors import BenchSetError, SourceError, StorageError, UsageError
from palette_bench.core.fingerprint import canonical_json
from palette_bench.core.journal import WHOLE, Journal, Shard, is_ours, locked
from palette_bench.core.processes import in_processes, stoppable
from palette_bench.core.records import raise_errors
from palette_bench.core.text import is_litter
from palette_bench.core.types import SILENT, Fingerprint, Progress
from palette_bench.tasks import canary
from palette_bench.tasks.protocol import ProtocolSpec, published_fingerprint, set_folder

log = logging.getLogger(__name__)

REPORT = "source-report.json"
OURS = {MANIFEST, PUBLIC, REPORT, *KINDS}  # names in a set's folder, beside journals and locks
_ANOTHER_MACHINE = (
    "this machine makes other images than the published set: run palette-bench verify, "
    "then report the versions in its output"
)
_ANOTHER_SET = (
    "compare with that set's maker: name of the source, images and their paths, --ids or --limit, "
    "--labels, --masks, --rekey"
)
_FSYNC_GROUP = 64  # files of this many items share one fsync round


@dataclass(frozen=True)
class GenerateOptions:
    """Options of making sets; only `rekey` changes pixels.

    Attributes:
        workers: number of processes.
        shard: part of the images to make; the shard that ends last writes the manifests.
        rekey: key of a control set with fresh masks, [a-z0-9-]{1,32}; empty for the public set.
        verify_all: compare every JPEG with the integer definition, not 1 in 64.
        expect: fingerprint that the set must have, or its first digits, at least 12; empty for any.
    """

    workers: int = 1
    shard: Shard = WHOLE
    rekey: str = ""
    verify_all: bool = False
    expect: str = ""

    def __post_init__(self) -> None:
        """Raise if `rekey` could collide with other fields of a stream key, or `expect` is not a digest."""
        if not re.fullmatch(r"[a-z0-9-]{0,32}", self.rekey):
            raise UsageError(f"rekey {self.rekey!r}: up to 32 of a-z, 0-9 and -")
        if not re.fullmatch(r"([0-9a-f]{12,64})?", self.expect):
            raise UsageError(f"expect {self.expect!r}: 12 to 64 of the digits 0-9 and a-f")


@dataclass(frozen=True)
class FinishedSet:
    """A set after a run; `set_fingerprint` is None while other shards are missing.

    It holds no manifest: those of all sets of a run would fill the memory.
    """

    folder: Path
    n: int
    set_fingerprint: Fingerprint | None
    published: str | None  # registered fingerprint, if any
    redone: int  # number of stored items that were damaged and made again


def make_sets(
    protocol: ProtocolSpec,
    targets: list[SetTarget],
    source: Source,
    *,
    masks: ForeignMasks | None = None,
    options: GenerateOptions,
    progress: Progress = SILENT,
) -> list[FinishedSet]:
    """Make sets from an opened source, and return them; stored items with correct pixels are kept.

    Each image is decoded once for all sets.

    Args:
        protocol: the rules.
        targets: the sets to make.
        source: the opened source.
        masks: foreign masks, or None for drawn masks.
        options: processes, shard, control key, verification.
        progress: callback that reports each item.

    Raises:
        CodecError: PB701-PB703, a canary failed; nothing was written.
        SourceError: PB309, images cannot be decoded; no set is finished.
        BenchSetError: PB606, a set differs from the registered or expected one; it is not finished.
        UsageError: a fingerprint is given for several sets.
        StorageError: PB802-PB804, PB807, PB809.
    """
    if options.expect and len(targets) > 1:
        raise UsageError("--expect is the fingerprint of one set: name TASK/VARIANT")
    canary.prove()
    recipe = ItemRecipe(protocol, source.id, options.rekey, options.verify_all, masks)
    for target in targets:
        if masks and recipe.has_mask(target):
            raise_errors(
                area_problems(masks, target.variant, recipe.variant(target), protocol.side), SourceError
            )
        # only files that belong to a set may lie in its folder
        names = sorted(p.name for p in target.folder.iterdir()) if target.folder.is_dir() else []
        strangers = [name for name in names if not (name in OURS or is_ours(name) or is_litter(name))]
        if strangers:
            fix = "use an empty folder, or the folder of this set"
            raise StorageError.of("PB809", str(target.folder), fix=fix, ids=strangers)
    run = _GenerateRun(recipe, source, targets, options, progress)
    with ExitStack() as stack:
        for target in targets:
            stack.enter_context(locked(target.folder, options.shard))
        run.resume()
        run.make()
        return [run.close(target) for target in targets]


@dataclass
class _GenerateRun:
    """One call of `make_sets`: resumes the journals, makes missing items, and writes the manifests."""

    recipe: ItemRecipe
    source: Source
    targets: list[SetTarget]
    options: GenerateOptions
    progress: Progress
    journals: dict[SetTarget, Journal] = field(default_factory=dict)
    redone: dict[SetTarget, int] = field(default_factory=dict)

    @property
    def images(self) -> tuple[SourceImage, ...]:
        """Return the images of this shard."""
        return self.source.images[self.options.shard.index :: self.options.shard.count]

    def _header(self, target: SetTarget) -> Header:
        task = self.recipe.task(target)
        masks = "generated" if self.recipe.has_mask(target) else "none"
        if self.recipe.masks and masks == "generated":
            masks = self.recipe.masks.label
        return Header(
            protocol=self.recipe.protocol.id,
            task=target.task,
            variant=target.variant,
            source=self.source.id,
            preprocess=task.preprocess,
            degradation=task.degradation,
            masks=masks,
            rekey=self.recipe.rekey,
            n=len(self.source.images),
        )

    def resume(self) -> None:
        """Open the journals, and keep the items whose stored pixels still match their digests."""
        for target in self.targets:
            for kind in KINDS if self.recipe.has_mask(target) else KINDS[:2]:
                atomic.make_folder(target.folder / kind)
                atomic.sweep(target.folder / kind)
            atomic.sweep(target.folder)
            header = self._header(target).model_dump() | {
                "rules": self.recipe.protocol.fingerprint,
                "split": self.source.split_sha256,
            }
            self.journals[target] = Journal(target.folder, header, self.options.shard)
        # This shard's items leave the journals; `_kept` puts the valid ones back.
        stored = []
        for target in self.targets:
            found = [self.journals[target].entries.pop(image.id, None) for image in self.images]
            stored.append((target, [_item(entry) for entry in found if entry]))
        with self.progress("checking stored items", sum(len(items) for _, items in stored)) as advance:
            for target, items in stored:
                kept = self._kept(target, items, advance)
                self.redone[target] = len(items) - len(kept)
                if self.redone[target]:
                    log.warning(
                        "PB805 info  %d stored items damaged, redone: %s", self.redone[target], target.folder
                    )
                self.journals[target].start(kept)

    def _kept(self, target: SetTarget, items: list[Item], advance: Any) -> list[dict[str, Any]]:
        check = partial(
            _sound_items, target.folder, self.recipe.protocol.side, self.recipe.task(target).degradation
        )
        kept: list[Item] = []
        chunks = list(_chunks(items, _FSYNC_GROUP))
        workers = self.options.workers if len(items) > 4 * _FSYNC_GROUP else 1
        for chunk, good in zip(chunks, in_processes(check, chunks, workers), strict=True):
            kept += good
            advance(len(chunk))
        entries = [item.model_dump(mode="json") for item in kept]
        self.journals[target].entries.update((entry["id"], entry) for entry in entries)
        return entries

    def make(self) -> None:
        """Make the missing items, and journal each chunk; stop signals take effect between chunks.

        Raises:
            StorageError: PB804, the disk is too small.
        """
        work = []
        for image in self.images:
            if todo := [t for t in self.targets if image.id not in self.journals[t].entries]:
                work.append((image, todo))
        for journal in self.journals.values():
            journal.entries.clear()  # `close` reads them again, one set at a time
        count = sum(len(todo) for _, todo in work)
        # Two photographs at deflate level 1 and the mask take five bytes a pixel.
        needed = count * self.recipe.protocol.side**2 * 5
        free = atomic.require_space(self.targets[0].folder, needed)
        sizes = atomic.in_bytes(needed), atomic.in_bytes(free)
        text = "plan: %s items in %d sets, about %s to write, %s free"
        log.info(text, f"{count:,}", len(self.targets), *sizes)
        broken: dict[str, str] = {}
        chunks = _chunks(work, max(1, _FSYNC_GROUP // len(self.targets)))
        function = partial(make_chunk, self.recipe)
        workers = min(self.options.workers, max(1, len(work)))
        with self.progress("generating", count) as advance, stoppable() as check_stop:
            for made in in_processes(function, chunks, workers):
                for target in self.targets:
                    items = made.items.get(target.folder, [])
                    self.journals[target].add([item.model_dump(mode="json") for item in items])
                broken |= made.unreadable
                advance(sum(map(len, made.items.values())))
                check_stop()
        if broken:
            raise SourceError(*unreadable(self.source.id, broken))

    def close(self, target: SetTarget) -> FinishedSet:
        """Write `public.json`, then the manifest, if the items of all shards are journalled.

        Two shards that end at the same time may both write these files; the bytes are equal.
        """
        entries = Journal(target.folder, self.journals[target].header, self.options.shard).entries
        published = None
        if not (self.recipe.rekey or self.recipe.masks or self.source.limit):
            folder = set_folder(target.task, target.variant)
            published = published_fingerprint(self.recipe.protocol.id, self.source.id, folder)
        header, redone = self._header(target), self.redone[target]
        if len(entries) < header.n:
            return FinishedSet(target.folder, header.n, None, published, redone)
        items = tuple(_item(entries[p.id]) for p in self.source.images)
        manifest = Manifest(
            schema=Manifest.schema_name(),
            protocol_fingerprint=self.recipe.protocol.fingerprint,
            declaration=self.recipe.protocol.declaration,
            source_state=self.source.state,
            split_sha256=self.source.split_sha256,
            selection=self.source.selection,
            n_enlarged=sum(min(item.source_size) < self.recipe.protocol.side for item in items),
            set_fingerprint=set_fingerprint(header, items),
            environment=canary.environment(),
            items=items,
            **header.model_dump(),
        )
        found = manifest.set_fingerprint
        for expected, fix in ((published, _ANOTHER_MACHINE), (self.options.expect, _ANOTHER_SET)):
            if expected and not found.startswith(expected):
                shown = found[: max(16, len(expected))]
                raise BenchSetError.of("PB606", str(target.folder), expected=expected, found=shown, fix=fix)
        manifest.public().write(target.folder / PUBLIC)
        manifest.write(target.folder / MANIFEST)
        return FinishedSet(target.folder, header.n, found, published, redone)


def _sound_items(folder: Path, side: int, degradation: str, items: list[Item]) -> list[Item]:
    return [item for item in items if not damage(folder, item, side, degradation)]


def _chunks(values: list[Any], size: int) -> Iterator[list[Any]]:
    return (values[i : i + size] for i in range(0, len(values), size))


def _item(entry: dict[str, Any]) -> Item:
    """Return a journal entry as an item, via JSON because strict models accept no list as a tuple."""
    return Item.model_validate_json(canonical_json(entry))
