"""Protocols, read from validated TOML: tasks, variants, sources, and the metrics that rank.

A published protocol never changes; a correction gets a new id. Records name a shipped protocol by its id, and
carry the declaration of any other.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from functools import cache
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from palette_bench.core.errors import SpecError, suggest
from palette_bench.core.fingerprint import fingerprint, sha256
from palette_bench.core.records import Part, Record, Sha, Slug, SparsePart, Text
from palette_bench.core.resources import protocol_file, protocol_ids
from palette_bench.core.types import Fingerprint, Image, Mask

Preprocess = Literal["crop-area-v1", "crop256-v1"]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")]  # without folders
Span = tuple[int, int]  # first and last index, 0-based, both included


class Box(Part):
    """A rectangle of pixels."""

    rows: Span
    columns: Span


class VariantSpec(SparsePart):
    """One variant of a task; exactly the fields that its degradation needs are set.

    `hole` is the rectangle that is cut out, `kept` the rectangle that is kept, `freeform_pixels` the smallest
    and largest number of hole pixels in a drawn mask, `quality` the JPEG quality factor. Other degradations
    read `parameters`. `paper` marks the variants of the paper.
    """

    sparse: ClassVar[frozenset[str]] = frozenset({"parameters"})
    title: Text
    paper: bool = False
    hole: Box | None = None
    kept: Box | None = None
    freeform_pixels: Span | None = None  # both included
    quality: int | None = Field(default=None, ge=1, le=100)
    parameters: dict[str, int] = Field(default_factory=dict)  # the table of degradations lists them


@dataclass(frozen=True)
class Degraded:
    """The result of a degradation.

    Attributes:
        input: (S, S, 1 or 3) uint8.
        mask: (S, S) bool, True = hole, or None if the task has no hole.
        drawn: details of the degradation that the manifest records, e.g. the number of draws.
    """

    input: Image
    mask: Mask | None = None
    drawn: dict[str, int | str] = field(default_factory=dict)


class TaskSpec(SparsePart):
    """A task: preprocessing, degradation, variants, and the sources that its images may come from.

    `ranked` holds the metrics that rank its boards after those of the source.
    """

    sparse: ClassVar[frozenset[str]] = frozenset({"ranked"})
    title: Text
    preprocess: Preprocess
    degradation: str  # an id of the table of degradations
    sources: tuple[str, ...]
    ranked: tuple[str, ...] = ()
    variants: dict[Slug, VariantSpec] = Field(min_length=1)


class ImageNetSource(Part):
    """10,000 ImageNet validation images chosen by the rule of protocol 3.1."""

    kind: Literal["imagenet-ctest10k"]
    title: Text
    redistributable: bool
    skip: int  # number of leading entries of the class-by-class order to leave out
    dropped: FileName  # file that lists the validation numbers to leave out
    names_sha256: Sha  # sorted file names, a line feed after each
    labels_sha256: Sha  # the 50,000 labels in file order, decimal, a line feed after each
    subset_labels_sha256: Sha  # sorted lines `ID LABEL` of the chosen images


class PlacesSource(Part):
    """The first images of each class of the Places365 validation list (protocol 3.2)."""

    kind: Literal["places"]
    title: Text
    redistributable: bool
    per_class: int
    list_md5: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Window(Part):
    """A rectangle of a bundled photograph."""

    photo: str
    top: int
    left: int
    height: int
    width: int


class Photo(Part):
    """A bundled photograph; `sha256` is the leading 16 hexadecimal digits of the file's digest."""

    file: FileName
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]


class PhotoSource(Part):
    """Windows of bundled photographs, either listed by id or drawn from the keyed random stream.

    `windows` lists them; if it is empty, `drawn` is the number of windows to draw.
    """

    kind: Literal["photos"]
    title: Text
    redistributable: bool
    photos: dict[str, Photo]
    windows: dict[str, Window] = Field(default_factory=dict)
    drawn: int = 0
    smallest: int = 96  # shortest side of a drawn window

    @property
    def count(self) -> int:
        """Return the number of windows."""
        return self.drawn or len(self.windows)


SourceSpec = Annotated[ImageNetSource | PlacesSource | PhotoSource, Field(discriminator="kind")]


class ProtocolSpec(Record):
    """One protocol, as declared in `protocol.toml`.

    `shown` holds the metrics that cards and boards show beside the ranked ones. `lists` holds the texts of
    the list files that an own protocol names, by file name; those of a shipped one lie beside it.
    """

    kind: ClassVar[str] = "protocol"
    sparse: ClassVar[frozenset[str]] = frozenset({"shown", "lists"})
    id: Slug
    title: Text
    stream: Slug
    side: int = Field(multiple_of=16, ge=16, le=4096)  # pixels
    known_pixels: Literal["recomposite"]
    folder_labels: tuple[Literal["labels.csv", "wnid-folders"], ...]
    wnids: FileName | None = None  # file whose line i is the wnid of label i
    classifier_crop: str
    extractors: tuple[str, ...]
    ranked: dict[str, tuple[str, ...]]  # source id, or "folder" -> metric ids; boards sort by the first
    shown: tuple[str, ...] = ()
    tasks: dict[Slug, TaskSpec] = Field(min_length=1)
    sources: dict[Slug, SourceSpec]
    lists: dict[FileName, str] = Field(default_factory=dict)

    @property
    def fingerprint(self) -> Fingerprint:
        """Return the digest of the declaration and of the list files that it names."""
        lists = {name: sha256(self.list_file(name)) for name in self.list_names}
        declared = self.model_dump(mode="json", by_alias=True, exclude={"lists"})
        return fingerprint({"protocol": declared, "lists": lists})

    @property
    def declaration(self) -> ProtocolSpec | None:
        """Return what records carry of the protocol: itself, or None if it is shipped."""
        return None if self.id in protocol_ids() else self

    @property
    def list_names(self) -> list[str]:
        """Return the names of the list files that the declaration names."""
        names = [s.dropped for s in self.sources.values() if isinstance(s, ImageNetSource)]
        return [*names, *([self.wnids] if self.wnids else [])]

    def list_file(self, name: str) -> bytes:
        """Return the bytes of a list file."""
        return self.lists[name].encode() if name in self.lists else protocol_file(self.id, name)

    @property
    def class_names(self) -> list[str]:
        """Return the wnid of each label in order; none if the protocol names no classes."""
        return self.list_file(self.wnids).decode().split() if self.wnids else []

    def task(self, name: str) -> TaskSpec:
        """Return a task by name.

        Raises:
            SpecError: PB609, unknown task; the message suggests a known one.
        """
        if name not in self.tasks:
            raise _unknown("task", name, f"a task of {self.id}", self.tasks)
        return self.tasks[name]

    def variant(self, task: str, name: str) -> VariantSpec:
        """Return a variant of a task.

        Raises:
            SpecError: PB609, unknown task or variant; the message suggests a known one.
        """
        variants = self.task(task).variants
        if name not in variants:
            raise _unknown("variant", name or "none", f"a variant of {task}", variants)
        return variants[name]

    def pairs(self, wanted: str) -> list[tuple[str, str]]:
        """Return the (task, variant) pairs that `TASK`, `TASK/VARIANT` or `all` names."""
        task, _, variant = wanted.partition("/")
        if variant:
            self.variant(task, variant)
            return [(task, variant)]
        tasks = list(self.tasks) if task == "all" else [task]
        return [(t, v) for t in tasks for v in self.task(t).variants]

    def has_validation_set(self, source: str) -> bool:
        """Return whether FID for a source compares with a whole validation set, as in the paper."""
        return isinstance(self.sources.get(source), ImageNetSource | PlacesSource)

    def ranked_metrics(self, source: str, task: str) -> tuple[str, ...]:
        """Return the ids of the metrics that rank boards of a source and task.

        All folder sources share one entry.
        """
        return (*self.ranked.get(source, self.ranked["folder"]), *self.task(task).ranked)


def _unknown(what: str, name: str, expected: str, known: object) -> SpecError:
    names = list(known)  # type: ignore[call-overload]  # a dict of names
    return SpecError.of("PB609", what, expected=expected, found=name, fix=suggest(name, names))


@cache
def load(protocol: str) -> ProtocolSpec:
    """Return a protocol of this package by id.

    Raises:
        SpecError: PB609, unknown protocol.
    """
    return ProtocolSpec.parse(protocol_file(protocol, "protocol.toml"), f"{protocol}/protocol.toml")


class UnderProtocol(SparsePart):
    """What every record under a protocol says of it: the id, and the declaration unless it is shipped."""

    sparse: ClassVar[frozenset[str]] = frozenset({"declaration"})
    protocol: str
    declaration: ProtocolSpec | None = None

    @property
    def rules(self) -> ProtocolSpec:
        """Return the protocol.

        Raises:
            SpecError: PB609, the record carries the declaration of another protocol, or none where no shipped
                protocol has the id.
        """
        if self.declaration is None:
            return load(self.protocol)
        if self.declaration.id != self.protocol:
            found = f"the declaration of {self.declaration.id}"
            raise SpecError.of("PB609", "declaration", expected=self.protocol[:80], found=found)
        return self.declaration


def published_fingerprint(protocol: str, source: str, folder: str) -> str | None:
    """Return the leading hex digits of a set's registered fingerprint, or None if none is registered.

    Args:
        protocol: protocol id; none is registered for a protocol that is not shipped.
        source: source id.
        folder: folder name of the set, TASK.VARIANT or TASK.
    """
    if protocol not in protocol_ids():
        return None
    table = tomllib.loads(protocol_file(protocol, "fingerprints.toml").decode())
    value = table.get("sets", {}).get(source, {}).get(folder)
    return None if value is None else str(value)


def set_folder(task: str, variant: str) -> str:
    """Return the folder name of a set: TASK.VARIANT, or TASK for the variant `default`."""
    return task if variant == "default" else f"{task}.{variant}"
