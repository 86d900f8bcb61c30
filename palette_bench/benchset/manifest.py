"""Benchmark sets on disk: the manifest, the public part for methods, and the images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import numpy as np

from palette_bench.core import atomic
from palette_bench.core.errors import BenchSetError
from palette_bench.core.fingerprint import lines_digest
from palette_bench.core.notebook import html_images, html_table
from palette_bench.core.png import PngError, decode_strict, read_regular
from palette_bench.core.records import Part, Record, Sha, read_file
from palette_bench.core.types import AnyPath, Fingerprint, Image, ImageId, Mask
from palette_bench.tasks.degradations import DEGRADATIONS, Degradation
from palette_bench.tasks.protocol import ProtocolSpec, TaskSpec, UnderProtocol

MANIFEST = "manifest.json"
PUBLIC = "public.json"
_SHOWN = 6  # images in a notebook

SelectionRule: TypeAlias = Literal["split", "all", "subset-v1", "ids"]


class Item(Part):
    """One image of a set; values that do not apply are null."""

    id: str
    label: int | None
    source_path: str
    source_sha256: Sha
    source_size: tuple[int, int]  # height, width
    reference_px: Sha
    input_px: Sha
    mask_px: Sha | None
    hole_pixels: int | None
    drawn: dict[str, int | str] | None


class Selection(Part):
    """How the images of a set were chosen from its source; `split_sha256` is the digest of the chosen ids.

    Rules: `split`, the source's own list; `all`, all images of a folder; `subset-v1`, `limit` images, chosen
    by the digests of their ids; `ids`, a list of ids.
    """

    rule: SelectionRule
    candidates: int  # number of images before the choice
    limit: int | None = None  # requested number of images; `subset-v1` only


class Header(Part):
    """The nine fields that define a set together with its items; all of them enter its fingerprint."""

    protocol: str
    task: str
    variant: str
    source: str
    preprocess: str
    degradation: str
    masks: str  # "generated", "none" or NAME:<file sha256>:<pairing>
    rekey: str
    n: int


class PublicItem(Part):
    """The public facts of one image: its id, and the digests of its input and mask."""

    id: str
    input_px: Sha
    mask_px: Sha | None


class PublicSet(UnderProtocol, Record):
    """`public.json`: the public part of a set, which methods may read."""

    kind: ClassVar[str] = "public"
    task: str
    variant: str
    source: str
    set_fingerprint: Sha
    items: tuple[PublicItem, ...]


_OWN = ("schema_id", "items")  # fields of PublicSet that are not copied from the manifest


class Manifest(UnderProtocol, Record):
    """`manifest.json`: the complete record of a set, used for scoring and not given to methods."""

    kind: ClassVar[str] = "manifest"
    added: ClassVar[Mapping[str, int]] = {"selection": 1}
    protocol_fingerprint: Sha
    task: str
    variant: str
    source: str
    source_state: str  # "registered" or "unregistered"
    split_sha256: Sha  # digest of the sorted ids
    selection: Selection | None = None
    n: int
    n_enlarged: int
    preprocess: str
    degradation: str
    masks: str
    rekey: str
    set_fingerprint: Sha
    environment: dict[str, str]
    items: tuple[Item, ...]

    @property
    def header(self) -> Header:
        """Return the nine fields that enter the fingerprint."""
        return Header(**{key: getattr(self, key) for key in Header.model_fields})

    def public(self) -> PublicSet:
        """Return the public part of the manifest."""
        shared = {key: getattr(self, key) for key in PublicSet.model_fields if key not in _OWN}
        items = tuple(PublicItem(id=i.id, input_px=i.input_px, mask_px=i.mask_px) for i in self.items)
        return PublicSet(schema=PublicSet.schema_name(), items=items, **shared)

    @cached_property
    def by_id(self) -> dict[ImageId, Item]:
        """Return the items by id."""
        return {item.id: item for item in self.items}


def set_fingerprint(header: Header, items: Iterable[Item]) -> Fingerprint:
    """Return the fingerprint of a set.

    It is the digest of the nine header fields, one per line, followed by one line per item in id order; `-`
    stands for a missing value. Source bytes, paths and the environment do not enter. Source: protocol,
    section 6.
    """
    fields = [f"{key}={getattr(header, key)}" for key in Header.model_fields]
    lines = [
        f"{item.id} {'-' if item.label is None else item.label} "
        f"{item.reference_px} {item.input_px} {item.mask_px or '-'}"
        for item in sorted(items, key=lambda item: item.id)
    ]
    return lines_digest(["pb-set-v1", *fields, *lines])


class Example(NamedTuple):
    """One decoded image of a set.

    Attributes:
        id: id of the image.
        input: (S, S, 3) uint8, or (S, S, 1) for colorization.
        mask: (S, S) bool, True = hole; None for tasks without holes.
        reference: (S, S, 3) uint8, the original; None if only the public part is open.
    """

    id: ImageId
    input: Image
    mask: Mask | None
    reference: Image | None


@dataclass(frozen=True, repr=False)
class ContestantSet:
    """The public part of a set, which methods may read: inputs, masks and `public.json`."""

    folder: Path
    public: PublicSet
    protocol: ProtocolSpec

    @classmethod
    def open(cls, folder: AnyPath) -> ContestantSet:
        """Open the public part of a finished set, or a folder that `generate --public` wrote.

        Raises:
            BenchSetError: PB801, there is no `public.json`.
        """
        folder = Path(folder)
        public = PublicSet.read(_present(folder, PUBLIC))
        return ContestantSet(folder, public, public.rules)

    def __len__(self) -> int:
        return len(self.public.items)

    def __iter__(self) -> Iterator[Example]:
        """Iterate over the examples in the order of their ids; each is decoded on demand."""
        return map(self.__getitem__, self.ids)

    def __getitem__(self, image_id: ImageId) -> Example:
        """Return one decoded example.

        Raises:
            KeyError: the set has no such id.
        """
        if image_id not in self._known:
            raise KeyError(image_id)
        return Example(image_id, self.input(image_id), self.mask(image_id), None)

    def __repr__(self) -> str:
        public, kind = self.public, type(self).__name__
        question = f"{public.protocol} {public.task}/{public.variant} on {public.source}"
        return f"<{kind} {question}, {len(self):,} images, {public.set_fingerprint[:12]}>"

    def _repr_html_(self) -> str:
        facts = {key: getattr(self.public, key) for key in ("protocol", "task", "variant", "source")}
        rows = [*facts.items(), ("images", f"{len(self):,}"), ("folder", self.folder)]
        table = html_table(f"{type(self).__name__} {self.public.set_fingerprint[:12]}", (), rows)
        try:
            return table + self._strips(self.ids[:: max(1, len(self) // _SHOWN)][:_SHOWN])
        except BenchSetError:  # its images were moved or damaged since it was opened
            return table

    def _strips(self, ids: Sequence[ImageId]) -> str:
        """Return the images of some ids as HTML."""
        return html_images(f"input of {len(ids)} images", ((i, self.input(i)) for i in ids))

    @cached_property
    def _known(self) -> frozenset[ImageId]:
        return frozenset(self.ids)

    @property
    def ids(self) -> list[ImageId]:
        """Return the ids in the order of the record."""
        return [item.id for item in self.public.items]

    @property
    def reference_digests(self) -> Mapping[ImageId, Fingerprint]:
        """Return an empty mapping, because the public part has no originals."""
        return {}

    @property
    def task(self) -> TaskSpec:
        """Return the specification of the set's task."""
        return self.protocol.task(self.public.task)

    @property
    def degradation(self) -> Degradation:
        """Return the row of the task's degradation."""
        return DEGRADATIONS[self.task.degradation]

    @property
    def has_masks(self) -> bool:
        """Return whether the task has holes."""
        return self.degradation.has_mask

    def path(self, kind: str, image_id: ImageId) -> Path:
        """Return the path of an image file; `kind` is reference, input or mask."""
        return self.folder / kind / f"{image_id}.png"

    def input(self, image_id: ImageId) -> Image:
        """Return the input, (S, S, 3) uint8, or (S, S, 1) for colorization."""
        return self._read("input", image_id, self.degradation.channels)

    def mask(self, image_id: ImageId) -> Mask | None:
        """Return the mask, (S, S) bool, True = hole, or None for tasks without holes."""
        return self._read("mask", image_id, 1)[:, :, 0] == 255 if self.has_masks else None

    def condition(self, image_id: ImageId) -> Image:
        """Return the input as (S, S, 3) uint8; gray is repeated in each channel (a read-only view)."""
        return np.broadcast_to(self.input(image_id), (self.protocol.side, self.protocol.side, 3))

    def _read(self, kind: str, image_id: ImageId, channels: int) -> Image:
        path = self.path(kind, image_id)
        side = self.protocol.side
        try:
            return decode_strict(read_regular(path), side, side, channels)[0]
        except PngError as error:
            code, found = error.code, error.found
        except OSError as error:
            code, found = "PB801", error.strerror or str(error)
        raise BenchSetError.of(code, str(path), found=found, fix=f"palette-bench verify {self.folder}")


@dataclass(frozen=True, repr=False)
class BenchSet(ContestantSet):
    """A whole set, opened for scoring: the public part, the manifest and the references."""

    manifest: Manifest

    @classmethod
    def open(cls, folder: AnyPath) -> BenchSet:
        """Open a finished set.

        Raises:
            BenchSetError: PB801, there is no manifest, so the set was never finished; PB601, the set was made
                with another version of the protocol.
        """
        folder = Path(folder)
        manifest = Manifest.read(_present(folder, MANIFEST))
        protocol = manifest.rules
        if manifest.protocol_fingerprint != protocol.fingerprint:
            expected, found = protocol.fingerprint[:12], manifest.protocol_fingerprint[:12]
            fix = "generate the set again with this version of palette-bench"
            raise BenchSetError.of("PB601", str(folder / MANIFEST), expected=expected, found=found, fix=fix)
        return cls(folder, manifest.public(), protocol, manifest)

    @property
    def reference_digests(self) -> Mapping[ImageId, Fingerprint]:
        """Return id -> pixel digest of the original."""
        return {item.id: item.reference_px for item in self.manifest.items}

    def __getitem__(self, image_id: ImageId) -> Example:
        """Return one example with its original."""
        return super().__getitem__(image_id)._replace(reference=self.reference(image_id))

    def _strips(self, ids: Sequence[ImageId]) -> str:
        originals = html_images("their originals", ((i, self.reference(i)) for i in ids))
        return super()._strips(ids) + originals

    def reference(self, image_id: ImageId) -> Image:
        """Return the original, (S, S, 3) uint8."""
        return self._read("reference", image_id, 3)


def open_set(folder: Path) -> ContestantSet:
    """Open a set: the whole set if the folder has a manifest, else its public part.

    Raises:
        BenchSetError: the folder has neither `manifest.json` nor `public.json`.
    """
    # Without either file, BenchSet.open raises the more helpful error.
    whole = (folder / MANIFEST).is_file() or not (folder / PUBLIC).is_file()
    return BenchSet.open(folder) if whole else ContestantSet.open(folder)


def _present(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        expected, found = "a file of a finished set", "no such file"
        raise BenchSetError.of("PB801", str(path), expected=expected, found=found, fix=_hint(folder, name))
    return path


def _hint(folder: Path, name: str) -> str:
    if name == MANIFEST and (folder / PUBLIC).is_file():
        return "this is the public part, which `check` can read; scoring needs the whole set"
    sets = sorted(p.parent.name for p in folder.glob(f"*/{name}"))
    if sets:
        return f"this folder holds {len(sets)} sets; name one, e.g. {folder / sets[0]}"
    return f"palette-bench generate PROTOCOL TASK -o {folder}   (run again, it resumes)"


def export_public(folder: Path, out: Path) -> None:
    """Copy the public part of a set, its inputs, masks and `public.json`, to `out`.

    Raises:
        BenchSetError: the folder holds no finished set.
        StorageError: PB801, PB802.
    """
    benchset = BenchSet.open(folder)
    for kind in ("input", "mask") if benchset.has_masks else ("input",):
        atomic.make_folder(out / kind)
        with atomic.FileBatch() as batch:
            for image_id in benchset.ids:
                batch.write(out / kind / f"{image_id}.png", read_file(benchset.path(kind, image_id)))
    atomic.write_bytes(out / PUBLIC, read_file(folder / PUBLIC))
