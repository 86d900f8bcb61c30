"""Folders as sources: ids from paths, labels from a table or from class folders.

Source: protocol, sections 3.3, 3.5 and 12.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path, PurePosixPath

from palette_bench.benchset import splits
from palette_bench.benchset.pictures import Picture, Place, walk
from palette_bench.core.errors import SourceError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import read_file
from palette_bench.core.resources import protocol_file
from palette_bench.tasks.protocol import ProtocolSpec

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LABEL = re.compile(r"[0-9]{1,9}")


def folder_pictures(protocol: ProtocolSpec, images: Path, labels: Path | None) -> list[Picture]:
    """Return the pictures below a folder, links not followed.

    Args:
        protocol: says where labels may come from.
        images: the folder.
        labels: a table of labels; `labels.csv` in the folder if there is one.

    Raises:
        SourceError: PB201 no pictures, PB203 and PB204 twins, PB607 bad labels.
    """
    places = list(walk(images))
    if not places:
        raise SourceError(problem("PB201", str(images), expected=".jpg, .jpeg or .png files", found="none"))
    of = _labels(protocol, labels or images / "labels.csv", places)
    pictures = [Picture(folder_id(place.name), of.get(place.name), place) for place in places]
    _raise_twins([p.id for p in pictures], "folder")
    return pictures


def subset(pictures: list[Picture], limit: int) -> list[Picture]:
    """Return so many pictures, chosen by the digests of their ids, so that more include fewer (subset-v1)."""
    return sorted(pictures, key=lambda p: sha256(f"palette-bench/subset-v1|{p.id}".encode()))[:limit]


def listed(pictures: list[Picture], file: Path) -> list[Picture]:
    """Return the pictures that a text file names, one id a line.

    Raises:
        SourceError: PB607 the file is no such list, PB203 and PB204 twins in it, PB201 pictures it names that
            are not there.
        StorageError: PB801, it cannot be read.
    """
    ids = [line for text in read_file(file).decode("utf-8", "replace").splitlines() if (line := text.strip())]
    bad = sorted({i for i in ids if not _ID.fullmatch(i)})
    if bad or not ids:
        expected = "ids, one a line: up to 64 of A-Z, a-z, 0-9, _ and -"
        fix = "give the list of a set's ids"
        raise SourceError(problem("PB607", str(file), expected=expected, fix=fix, ids=bad))
    _raise_twins(ids, str(file))
    by_id = {p.id: p for p in pictures}
    if missing := sorted(i for i in ids if i not in by_id):
        fix = "give --images the folder the list was made for: ids are the paths of pictures below it"
        raise SourceError(problem("PB201", str(file), expected="pictures of these ids", fix=fix, ids=missing))
    return [by_id[i] for i in ids]


def folder_id(name: str) -> str:
    """Return the id of a picture of a folder: its relative path without suffix, in [A-Za-z0-9_-].

    Above 64 characters: the first 47, `-`, and 16 hexadecimal digits of SHA-256(path without suffix).
    """
    path = PurePosixPath(name).with_suffix("").as_posix()
    image_id = re.sub(r"[^A-Za-z0-9_-]", "_", path)
    return image_id if len(image_id) <= 64 else f"{image_id[:47]}-{sha256(path.encode())[:16]}"


def _raise_twins(ids: list[str], where: str) -> None:
    same = [i for i, count in Counter(ids).items() if count > 1]
    alike = [i for i, count in Counter(i.casefold() for i in set(ids)).items() if count > 1]
    problems = []
    if same:
        problems.append(problem("PB203", where, fix="rename or remove all but one", ids=sorted(same)))
    if alike:
        problems.append(
            problem(
                "PB204",
                where,
                found="ids equal ignoring case",
                fix="rename all but one",
                ids=sorted(alike),
            )
        )
    if problems:
        raise SourceError(*problems)


def _labels(protocol: ProtocolSpec, file: Path, places: list[Place]) -> dict[str, int]:
    """Return relative name -> ImageNet label, or nothing for an unlabelled folder."""
    if file.is_file():
        return _csv_labels(file, places)
    tops = {place.name: PurePosixPath(place.name).parts[0] for place in places}
    if protocol.wnids and "wnid-folders" in protocol.folder_labels:
        wnids = protocol_file(protocol.id, protocol.wnids).decode().split()
        index = {wnid: label for label, wnid in enumerate(wnids)}
        if all(top in index for top in tops.values()):
            return {name: index[top] for name, top in tops.items()}
    return {}


def _csv_labels(file: Path, places: list[Place]) -> dict[str, int]:
    """Read `labels.csv`: columns `file` and `label` (or `class_index`), ImageNet indices 0..999.

    A row names a picture by its path below the folder, or by its file name alone.
    """
    rows = _csv_rows(file)
    column = next((c for c in ("label", "class_index") if rows and c in rows[0]), None)
    if column is None or "file" not in rows[0]:
        raise SourceError(
            problem("PB607", str(file), expected="columns file and label", fix="add the header file,label")
        )
    labels = {row["file"] or "": row[column] or "" for row in rows}
    bad = sorted(
        name for name, text in labels.items() if not (_LABEL.fullmatch(text) and int(text) < splits.CLASSES)
    )
    found = {p.name: labels.get(p.name, labels.get(PurePosixPath(p.name).name)) for p in places}
    missing = sorted(name for name, text in found.items() if text is None)
    problems = []
    if bad:
        problems.append(problem("PB607", str(file), expected="labels in 0..999", ids=bad))
    if missing:
        problems.append(problem("PB607", str(file), expected="a label for every picture", ids=missing))
    if problems:
        raise SourceError(*problems)
    return {name: int(text) for name, text in found.items() if text is not None}


def _csv_rows(file: Path) -> list[dict[str, str | None]]:
    """Return the rows of a table by column; cells that a row lacks are None."""
    data = read_file(file)
    try:
        return list(csv.DictReader(data.decode("utf-8-sig").splitlines()))
    except (UnicodeDecodeError, csv.Error) as error:
        fix = "save the table as UTF-8, comma-separated"
        raise SourceError(
            problem("PB607", str(file), expected="a CSV table", found=str(error), fix=fix)
        ) from error
