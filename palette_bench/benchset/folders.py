"""Folders of images as sources: ids come from paths, labels from a table or from class folders.

Source: protocol, sections 3.3, 3.5 and 12.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from palette_bench.benchset import splits
from palette_bench.benchset.images import LABELS, SUFFIXES, ImageLocation, SourceImage, no_images, walk
from palette_bench.core.errors import SourceError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import read_file
from palette_bench.core.text import composed, decode_text, table_rows
from palette_bench.tasks.protocol import ProtocolSpec

log = logging.getLogger(__name__)

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LABEL = re.compile(r"[0-9]{1,9}")


def folder_images(protocol: ProtocolSpec, images: Path, labels: Path | None) -> list[SourceImage]:
    """Return the images below a folder, with ids and labels.

    Args:
        protocol: the rules; they state whether class folders give labels.
        images: the folder.
        labels: table of labels; None uses `labels.csv` in the folder, if it exists.

    Raises:
        SourceError: PB201, there are no images; PB203 or PB204, ids are equal; PB607, labels are bad.
    """
    places = list(walk(images)) if images.is_dir() else []
    if not places:
        raise no_images(images)
    of = _labels(protocol, labels or images / LABELS, places, required=labels is not None)
    ids = folder_ids([place.name for place in places])
    found = [SourceImage(ids[place.name], of.get(place.name), place) for place in places]
    _raise_twins([p.id for p in found], "folder")
    return found


def subset(images: list[SourceImage], limit: int) -> list[SourceImage]:
    """Return `limit` images, chosen by the digests of their ids (subset-v1).

    A larger subset contains every smaller one.
    """
    return sorted(images, key=lambda p: sha256(f"palette-bench/subset-v1|{p.id}".encode()))[:limit]


def listed(images: list[SourceImage], file: Path) -> list[SourceImage]:
    """Return the images that a text file names, one id or path per line; lines with # are comments.

    Raises:
        SourceError: PB607, the file is not such a list; PB203 or PB204, ids in it are equal; PB201, images
            that it names are missing.
        StorageError: PB801, the file cannot be read.
    """
    try:
        lines = [text.strip() for text in decode_text(read_file(file)).splitlines()]
    except ValueError as error:
        expected = "a text file with one id per line"
        raise SourceError.of("PB607", str(file), expected=expected, found=str(error)) from error
    named = [line for line in lines if line and not line.startswith("#")]
    ids = _ids_named(named, images)
    bad = sorted({i for i in ids if not _ID.fullmatch(i)})
    if bad or not ids:
        expected = "one id per line: up to 64 of A-Z, a-z, 0-9, _ and -"
        fix = "give the list of a set's ids"
        raise SourceError.of("PB607", str(file), expected=expected, fix=fix, ids=bad)
    _raise_twins(ids, str(file))
    by_id = {p.id: p for p in images}
    if missing := sorted(i for i in ids if i not in by_id):
        fix = "give --images the folder that the list was made for: ids are the paths of images below it"
        raise SourceError.of("PB201", str(file), expected="images of these ids", fix=fix, ids=missing)
    return [by_id[i] for i in ids]


def _ids_named(lines: list[str], images: list[SourceImage]) -> list[str]:
    """Return the id that each line stands for.

    A line is an id, or the path of an image relative to the folder, or that path with the folder's own name
    in front. A path is never reduced to its file name: `sub/a.jpg` is not the `a.jpg` of another folder.
    """
    by_name = {p.place.name: p.id for p in images}
    for p in images:
        root = p.place.file.parents[p.place.name.count("/")].name
        by_name.setdefault(f"{root}/{p.place.name}", p.id)
    known = {p.id for p in images}
    ids = []
    for line in lines:
        path = composed(line).replace("\\", "/").removeprefix("./")
        is_file = PurePosixPath(path).suffix.lower() in SUFFIXES
        ids.append(line if line in known else by_name.get(path) or (folder_id(path) if is_file else line))
    return ids


def folder_ids(names: Iterable[str]) -> dict[str, str]:
    """Return relative path -> id of the images of a folder.

    Names that are not ASCII and differ only in replaced characters would share an id; their ids get a digest
    of the path. ASCII names that collide keep the shared id, which `folder_images` refuses.
    """
    ids = {name: folder_id(name) for name in names}
    count = Counter(image_id.casefold() for image_id in ids.values())
    alike = [name for name, i in ids.items() if count[i.casefold()] > 1 and not name.isascii()]
    return ids | {name: folder_id(name, digested=True) for name in alike}


def folder_id(name: str, *, digested: bool = False) -> str:
    """Return the id of an image of a folder: its relative path without suffix, other characters as `_`.

    The id has characters of [A-Za-z0-9_-]. If it has more than 64 characters, or if `digested`, it consists
    of the first 47 characters, `-`, and 16 hexadecimal digits of SHA-256(path without suffix).
    """
    path = PurePosixPath(name).with_suffix("").as_posix()
    image_id = re.sub(r"[^A-Za-z0-9_-]", "_", path)
    if len(image_id) <= 64 and not digested:
        return image_id
    return f"{image_id[:47]}-{sha256(os.fsencode(path))[:16]}"


def _raise_twins(ids: list[str], where: str) -> None:
    same = [i for i, count in Counter(ids).items() if count > 1]
    alike = [i for i, count in Counter(i.casefold() for i in set(ids)).items() if count > 1]
    problems = []
    if same:
        problems.append(problem("PB203", where, fix="rename or remove all but one", ids=sorted(same)))
    if alike:
        problems.append(
            problem(
                "PB204", where, found="ids equal ignoring case", fix="rename all but one", ids=sorted(alike)
            )
        )
    if problems:
        raise SourceError(*problems)


def _labels(
    protocol: ProtocolSpec, file: Path, places: list[ImageLocation], *, required: bool
) -> dict[str, int]:
    """Return relative name -> ImageNet label; empty for an unlabelled folder."""
    if file.is_file() or required:
        return _csv_labels(file, places)
    tops = {place.name: PurePosixPath(place.name).parts[0] for place in places}
    if protocol.wnids and "wnid-folders" in protocol.folder_labels:
        index = {wnid: label for label, wnid in enumerate(protocol.class_names)}
        if all(top in index for top in tops.values()):
            return {name: index[top] for name, top in tops.items()}
    return {}


def _csv_labels(file: Path, places: list[ImageLocation]) -> dict[str, int]:
    """Return relative name -> label from `labels.csv`.

    The columns are `file` and `label` (or `class_index`); labels are ImageNet indices 0..999. A row names an
    image by its path below the folder, or by its file name alone. Lines that begin with # are comments.

    Raises:
        SourceError: PB607, the file is not such a table, labels are bad or contradict each other, or images
            have no label; lists all problems.
    """
    try:
        rows = list(table_rows(read_file(file), comments=True))
    except ValueError as error:
        fix = "save the table as CSV UTF-8"
        raise SourceError.of("PB607", str(file), expected="a CSV table", found=str(error), fix=fix) from error
    (_, header), *lines = rows or [(1, [])]
    names = [cell.strip().lower() for cell in header]
    column = next((name for name in ("label", "class_index") if name in names), None)
    if column is None or "file" not in names:
        raise SourceError.of(
            "PB607",
            f"{file}: header",
            expected="columns file and label (or class_index)",
            found=", ".join(header)[:200] or "an empty file",
            fix="name the columns file,label in the first line",
        )
    labels: dict[str, str] = {}
    first_lines: dict[str, int] = {}
    bad, contradicting = [], []
    for line, row in lines:
        cells = [*row, *[""] * (len(names) - len(row))]
        name = composed(cells[names.index("file")].strip()).replace("\\", "/").removeprefix("./")
        text = cells[names.index(column)].strip()
        first_lines.setdefault(name, line)
        if not (_LABEL.fullmatch(text) and int(text) < splits.CLASSES):
            bad.append(f"line {line}: {name} {text}")
        elif int(labels.setdefault(name, text)) != int(text):
            contradicting.append(f"line {line}: {name} {labels[name]} and {text}")
    found = {p.name: labels.get(p.name, labels.get(PurePosixPath(p.name).name)) for p in places}
    missing = sorted(name for name, text in found.items() if text is None)
    faults = (
        ("labels in 0..999", bad, "write each class as its ImageNet index, not as its name"),
        ("one label for every file", contradicting, "keep one row for each file"),
        ("a label for every image", [] if bad else missing, "add their rows, or remove the images"),
    )
    problems = [
        problem("PB607", str(file), expected=what, fix=fix, ids=names) for what, names, fix in faults if names
    ]
    if problems:
        raise SourceError(*problems)
    there = {p.name for p in places} | {PurePosixPath(p.name).name for p in places}
    if absent := [name for name in labels if name not in there]:
        text = "%s: %s rows name missing files, first in line %s: %s"
        log.info(text, file, f"{len(absent):,}", first_lines[absent[0]], absent[0])
    return {name: int(text) for name, text in found.items() if text is not None}
