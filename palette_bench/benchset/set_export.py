"""`export`: writes sets as a dataset that other libraries read, with its descriptions."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from palette_bench.benchset.containers import Format, Row, write_images
from palette_bench.benchset.croissant import croissant
from palette_bench.benchset.dataset_card import Configuration, DataFile, Dataset, texts
from palette_bench.benchset.manifest import BenchSet, ContestantSet, Item, PublicItem
from palette_bench.core import atomic
from palette_bench.core.errors import BenchSetError, SourceError, StorageError, UsageError, problem
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.png import PngError, decode_strict, read_regular
from palette_bench.core.records import canonical_json, today
from palette_bench.core.types import SILENT, AnyPath, Fingerprint, Progress
from palette_bench.tasks.protocol import PhotoSource, set_folder

RECORDS = "records"  # folder of the records of the sets: public.json, or the manifest of a whole set
KINDS = ("input", "mask", "reference")

_LICENSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]{0,63}")
_PHOTOS_LICENSE = "CC0-1.0"  # the photographs are in the public domain or under CC0
_PHOTOS_AUTHORS = ("palette-bench",)


@dataclass(frozen=True)
class ExportOptions:
    """Options of an export.

    Attributes:
        container: how the images are stored; None writes the descriptions and records alone.
        references: export the originals and the manifest, too.
        name: name of the dataset; if empty, made from protocol and source.
        license: SPDX identifier of the images' license; if empty, that of the bundled photographs.
        authors: who publishes the dataset; if empty, this program for the bundled photographs.
        url: address of the dataset, if known.
        synthetic: whether the source images are computer-made.
    """

    container: Format | None
    references: bool = False
    name: str = ""
    license: str = ""
    authors: tuple[str, ...] = ()
    url: str = ""
    synthetic: bool = False


def export_sets(
    folders: Sequence[AnyPath], out: AnyPath, options: ExportOptions, progress: Progress = SILENT
) -> Dataset:
    """Write sets as the configurations of one dataset, and return what its card says.

    Every image is compared with its digest before it is written. Equal sets and options give equal bytes,
    except that the descriptions carry the date (SOURCE_DATE_EPOCH, or today).

    Args:
        folders: finished sets of one protocol and source, or their public parts.
        out: folder of the dataset, which must not exist yet, or be empty; it appears whole or not at all.
        options: container, parts and descriptions.
        progress: callback that reports each image.

    Raises:
        UsageError: the sets do not belong together, or license or authors are unknown.
        SourceError: PB614, the terms of the source forbid copies of its images.
        BenchSetError: a set is unfinished or damaged, or has no originals and they are asked for.
        StackError: PB711, pyarrow is not installed.
        StorageError: PB802; PB809, `out` holds files.
    """
    opener = BenchSet if options.references else ContestantSet
    sets = [opener.open(folder) for folder in folders]
    names = [set_folder(one.public.task, one.public.variant) for one in sets]
    _require_one_dataset(sets, names)
    dataset = _described(sets[0], options)
    require_new(Path(out))
    configurations = []
    with (
        atomic.whole_folder(Path(out)) as folder,
        progress("exporting", sum(map(len, sets))) as advance,
    ):
        for name, one in zip(names, sets, strict=True):
            record = one.manifest if isinstance(one, BenchSet) else one.public
            record_path = folder / RECORDS / f"{name}.json"
            record.write(record_path)
            kinds = kinds_of(one)
            files = []
            if options.container:
                files = write_images(folder, options.container, name, kinds, _rows(one, kinds, advance))
            data = tuple(_data_file(path, folder) for path in files)
            configurations.append(Configuration(name, record, kinds, _data_file(record_path, folder), data))
        dataset = replace(dataset, configurations=tuple(configurations))
        croissant_text = canonical_json(croissant(dataset))
        for name, text in {**texts(dataset), "croissant.json": croissant_text}.items():
            atomic.write_text(folder / name, text)
    return dataset


def kinds_of(one: ContestantSet) -> tuple[str, ...]:
    """Return the kinds of images that a set, or its public part, has: input, mask, reference."""
    present = {"input": True, "mask": one.has_masks, "reference": isinstance(one, BenchSet)}
    return tuple(kind for kind in KINDS if present[kind])


def digests_of(one: ContestantSet) -> dict[str, dict[str, Fingerprint | None]]:
    """Return id -> kind -> pixel digest, of the images that a set has."""
    items: Sequence[Item | PublicItem] = one.manifest.items if isinstance(one, BenchSet) else one.public.items
    kinds = kinds_of(one)
    return {item.id: {kind: getattr(item, f"{kind}_px") for kind in kinds} for item in items}


def require_pixels(one: ContestantSet, kind: str, data: bytes, digest: Fingerprint | None) -> None:
    """Raise unless the bytes are a strict PNG of the set's size whose pixels have the digest.

    Raises:
        PngError: PB301-PB307; PB602, other pixels.
    """
    side, channels = one.protocol.side, {"input": one.degradation.channels, "mask": 1}.get(kind, 3)
    if pixel_digest(decode_strict(data, side, side, channels)[0]) != digest:
        raise PngError("PB602", "the pixels of the record", "others")


def require_new(out: Path) -> None:
    """Raise unless a folder can be made at `out`; remove what a killed run has left beside it.

    Raises:
        StorageError: PB809, there are files.
    """
    atomic.sweep(out.parent)
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        fix = "name another folder, or remove this one"
        raise StorageError.of("PB809", str(out), expected="no such folder, or an empty one", fix=fix)


def _require_one_dataset(sets: Sequence[ContestantSet], names: Sequence[str]) -> None:
    origins = {(one.public.protocol, one.public.source) for one in sets}
    if len(origins) > 1:
        listed = ", ".join(f"{source} under {protocol}" for protocol, source in sorted(origins))
        raise UsageError(f"a dataset holds sets of one protocol and source; these are {listed}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"several sets are {', '.join(twice)}: a dataset holds each once")


def _described(one: ContestantSet, options: ExportOptions) -> Dataset:
    """Return the dataset of a set's source, without configurations yet.

    Raises:
        UsageError, SourceError: see `export_sets`.
    """
    source, title = one.public.source, one.public.source
    spec = one.protocol.sources.get(source)
    if spec is not None:
        title = spec.title
        if options.container and not spec.redistributable:
            fix = (
                "publish its digests and descriptions with --format none; others generate the set themselves"
            )
            found = f"{source}: {title}, whose terms forbid it"
            raise SourceError.of(
                "PB614", str(one.folder), expected="a source that may be passed on", found=found, fix=fix
            )
    bundled = isinstance(spec, PhotoSource) and spec.redistributable
    license_id = options.license or (_PHOTOS_LICENSE if bundled else "")
    authors = options.authors or (_PHOTOS_AUTHORS if bundled else ())
    missing = [flag for flag, value in (("--license", license_id), ("--author", authors)) if not value]
    if missing:
        raise UsageError(f"only you know {' and '.join(missing)} of {source}: state them")
    if not _LICENSE.fullmatch(license_id):
        raise UsageError(f"--license {license_id!r} is no SPDX identifier such as CC-BY-4.0")
    return Dataset(
        name=options.name or f"{one.protocol.title} ({title})",
        protocol=one.protocol,
        source=source,
        source_title=title,
        container=options.container,
        license=license_id,
        authors=tuple(authors),
        by_people=bool(options.authors),
        url=options.url,
        date=today(),
        synthetic=options.synthetic,
    )


def _rows(one: ContestantSet, kinds: Sequence[str], advance: Callable[[int], object]) -> Iterator[Row]:
    """Yield the images of a set in its order, each compared with its digest.

    Raises:
        BenchSetError: an image is absent or not the one of the record.
    """
    for image_id, digests in digests_of(one).items():
        files = {}
        for kind in kinds:
            path = one.path(kind, image_id)
            try:
                files[kind] = read_regular(path)
                require_pixels(one, kind, files[kind], digests[kind])
            except (PngError, OSError) as error:
                code, expected = getattr(error, "code", "PB801"), getattr(error, "expected", "")
                found = getattr(error, "found", str(error))
                fix = f"palette-bench verify {one.folder}"
                raise BenchSetError(
                    problem(code, str(path), expected=expected, found=found, fix=fix)
                ) from error
        yield image_id, files
        advance(1)


def _data_file(path: Path, folder: Path) -> DataFile:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return DataFile(path.relative_to(folder).as_posix(), path.stat().st_size, digest)
