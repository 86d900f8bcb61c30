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

_LABEL = re.compile(r"[0-9]{1,9}")


def folder_pictures(
    protocol: ProtocolSpec, images: Path, labels: Path | None, limit: int | None
) -> list[Picture]:
    """Return the pictures below a folder, links not followed.

    Args:
        protocol: says where labels may come from.
        images: the folder.
        labels: a table of labels; `labels.csv` in the folder if there is one.
        limit: take this many, chosen by the digest of their ids, so that more include fewer.

    Raises:
        SourceError: PB201 no pictures, PB203 and PB204 twins, PB607 bad labels.
    """
    places = list(walk(images))
    if not places:
        raise SourceError(problem("PB201", str(images), expected=".jpg, .jpeg or .png files", found="none"))
    of = _labels(protocol, labels or images / "labels.csv", places)
    pictures = [Picture(folder_id(place.name), of.get(place.name), place) for place in places]
    _raise_twins(pictures)
    if limit is not None:
        pictures.sort(key=lambda p: sha256(f"palette-bench/subset-v1|{p.id}".encode()))
    return pictures[:limit]


def folder_id(name: str) -> str:
    """Return the id of a picture of a folder: its relative path without suffix, in [A-Za-z0-9_-].

    Above 64 characters: the first 47, `-`, and 16 hexadecimal digits of SHA-256(path without suffix).
    """
    path = PurePosixPath(name).with_suffix("").as_posix()
    image_id = re.sub(r"[^A-Za-z0-9_-]", "_", path)
    return image_id if len(image_id) <= 64 else f"{image_id[:47]}-{sha256(path.encode())[:16]}"


def _raise_twins(pictures: list[Picture]) -> None:
    same = [i for i, count in Counter(p.id for p in pictures).items() if count > 1]
    alike = [i for i, count in Counter(i.casefold() for i in {p.id for p in pictures}).items() if count > 1]
    problems = []
    if same:
        problems.append(problem("PB203", "folder", fix="rename or remove all but one", ids=sorted(same)))
    if alike:
        problems.append(
            problem(
                "PB204",
                "folder",
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
