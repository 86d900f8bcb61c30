"""Splits of ImageNet and Places2 validation, rebuilt by rule from the label files.

Source: protocol, sections 3.1, 3.2 and 3.5.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from palette_bench.core.errors import Problem, SourceError, StorageError, problem
from palette_bench.core.fingerprint import lines_digest
from palette_bench.core.records import read_file
from palette_bench.core.text import decode_text
from palette_bench.tasks.protocol import ImageNetSource, PlacesSource

CLASSES = 1000
IMAGENET_COUNT = 50_000
_NUMBER = re.compile(r"ILSVRC2012_val_(\d{8})")
_DECIMAL = re.compile(r"[0-9]{1,9}")
_WNID = re.compile(r"n\d{8}")


def imagenet_id(number: int) -> str:
    """Return the id of ImageNet validation image `number`, 1..50,000."""
    return f"ILSVRC2012_val_{number:08d}"


def imagenet_number(name: str) -> int | None:
    """Return the image number in a file name or path of ImageNet validation, or None."""
    match = _NUMBER.search(name)
    return int(match[1]) if match else None


def is_wnid(name: str) -> bool:
    """Return whether `name` has the form of a WordNet id (wnid): n and eight digits."""
    return _WNID.fullmatch(name) is not None


def class_by_class(labels: Mapping[int, int]) -> list[int]:
    """Return all image numbers: the first image of each class, then the second of each, and so on."""
    of_class: dict[int, list[int]] = defaultdict(list)
    for number in sorted(labels):
        of_class[labels[number]].append(number)
    rounds = max(map(len, of_class.values()), default=0)
    return [of_class[c][r] for r in range(rounds) for c in sorted(of_class) if r < len(of_class[c])]


def ctest10k(labels: Mapping[int, int], spec: ImageNetSource, dropped: Iterable[int]) -> dict[int, int]:
    """Return number -> label of the 10,000 images of ctest10k, in the order of the published list.

    Args:
        labels: number -> label, of all 50,000 images or of exactly the 10,000.
        spec: the source, with its digests.
        dropped: numbers that the rule leaves out.

    Raises:
        SourceError: PB607, the labels or the chosen names do not have the listed digests.
    """
    if len(labels) != IMAGENET_COUNT:
        found = lines_digest(sorted(f"{imagenet_id(n)} {label}" for n, label in labels.items()))
        if found != spec.subset_labels_sha256:
            raise SourceError.of(
                "PB607",
                "ImageNet labels",
                expected=f"all {IMAGENET_COUNT:,} labels, or those of exactly the images of the split",
                found=f"{len(labels):,} labels of another set",
                fix="give the label file with --labels FILE, or a complete copy",
            )
        return dict(sorted(labels.items()))
    found = lines_digest(str(labels[number]) for number in sorted(labels))
    if found != spec.labels_sha256:
        raise SourceError(_wrong("the 50,000 labels", spec.labels_sha256, found))
    left_out = set(dropped)
    chosen = [n for n in class_by_class(labels)[spec.skip :] if n not in left_out]
    names = lines_digest(sorted(f"{imagenet_id(number)}.JPEG" for number in chosen))
    if names != spec.names_sha256:
        raise SourceError(_wrong("the chosen names", spec.names_sha256, names))
    return {number: labels[number] for number in chosen}


def _wrong(what: str, expected: str, found: str) -> Problem:
    fix = "labels are 0..999 in the order of the sorted wnids; check the label file"
    return problem("PB607", what, expected=expected[:12], found=found[:12], fix=fix)


def read_imagenet_labels(path: Path) -> dict[int, int]:
    """Return number -> label from a label file in any of the common forms.

    Forms: 50,000 lines, each a decimal label; lines `name label`, with a number or a wnid as label; the CSV
    with header `ImageId,PredictionString`; the ground truth of the development kit (ids 1..1000), with
    `meta.mat` in the same folder.

    Raises:
        SourceError: PB607, the file has none of these forms.
    """
    try:
        text = decode_text(read_file(path))
    except ValueError as error:
        raise _no_label(str(error), path) from error
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if lines and lines[0].lower().startswith("imageid,"):
        wnids = {}
        for line in lines[1:]:  # NAME,WNID X Y X Y ...
            name, _, boxes = line.partition(",")
            wnids[name] = boxes.partition(" ")[0]
            if not is_wnid(wnids[name]):
                raise _no_label(line, path)
        return labels_of_wnids(wnids)
    pairs = [line.rsplit(maxsplit=1) for line in lines]
    if pairs and all(len(pair) == 2 for pair in pairs):
        named = dict(pairs)
        if all(is_wnid(label) for label in named.values()):
            return labels_of_wnids(named)
        return _numbered({name: _label(label, path) for name, label in named.items()}, path)
    values = [_label(line, path) for line in lines]
    if values and min(values) == 1 and max(values) == CLASSES:
        index = _development_kit_labels(path.with_name("meta.mat"))
        values = [index[value] for value in values]
    return dict(enumerate(values, start=1))


def _label(text: str, path: Path) -> int:
    if not _DECIMAL.fullmatch(text):
        raise _no_label(text, path)
    return int(text)


def _no_label(found: str, path: Path) -> SourceError:
    expected = "one label per line, `name label` lines, or the ImageId CSV"
    fix = "give another file with --labels"
    return SourceError.of("PB607", str(path), expected=expected, found=found[:60], fix=fix)


def _numbered(named: Mapping[str, int], path: Path) -> dict[int, int]:
    numbers = {name: imagenet_number(name) for name in named}
    strangers = [name for name, number in numbers.items() if number is None]
    if strangers:
        raise SourceError.of(
            "PB607", str(path), expected="names like ILSVRC2012_val_00000001.JPEG", ids=strangers
        )
    return {number: named[name] for name, number in numbers.items() if number is not None}


def labels_of_wnids(wnids: Mapping[str, str]) -> dict[int, int]:
    """Return number -> label from file name -> wnid; a label is the index of the wnid in sorted order.

    Raises:
        SourceError: PB607, there are not exactly 1,000 wnids, so the indices cannot be determined.
    """
    known = sorted(set(wnids.values()))
    if len(known) != CLASSES:
        expected, found = f"{CLASSES:,} wnids", f"{len(known):,}"
        fix = "give the labels with --labels FILE"
        raise SourceError.of("PB607", "ImageNet class folders", expected=expected, found=found, fix=fix)
    index = {wnid: label for label, wnid in enumerate(known)}
    return _numbered({name: index[wnid] for name, wnid in wnids.items()}, Path("class folders"))


def _development_kit_labels(table: Path) -> dict[int, int]:
    """Return development-kit id (1..1000) -> label from the kit's `meta.mat`.

    Raises:
        SourceError: PB607, the file is missing, damaged or incomplete.
    """
    from scipy.io import loadmat  # noqa: PLC0415  # slow to import, and only this form needs it

    try:
        data = read_file(table)
        synsets = loadmat(io.BytesIO(data), squeeze_me=True)["synsets"]
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
    except StorageError as error:
        raise _no_kit(
            table, "no such file beside the ground truth, which cannot be read without it"
        ) from error
    except Exception as error:  # scipy's reader raises whatever its parts raise on damaged files
        raise _no_kit(table, f"a damaged file: {error}"[:200]) from error
    if not set(range(1, CLASSES + 1)) <= wnids.keys():
        raise _no_kit(table, f"{len(wnids):,} classes")
    leaves = {kit_id: wnid for kit_id, wnid in wnids.items() if kit_id <= CLASSES}
    index = {wnid: label for label, wnid in enumerate(sorted(leaves.values()))}
    return {kit_id: index[wnid] for kit_id, wnid in leaves.items()}


def _no_kit(table: Path, found: str) -> SourceError:
    expected = "meta.mat of ImageNet's development kit, with its 1,000 classes"
    fix = "put ILSVRC2012_devkit_t12/data/meta.mat beside the ground truth, or give labels of another form"
    return SourceError.of("PB607", str(table), expected=expected, found=found, fix=fix)


def places10k(path: Path, spec: PlacesSource) -> dict[str, int]:
    """Return file name -> label of the first `per_class` images of each class, in name order.

    Raises:
        SourceError: PB607, the MD5 of the list is not that of Places365-Standard's `places365_val.txt`.
    """
    data = read_file(path)
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != spec.list_md5:
        expected = f"places365_val.txt of Places365-Standard, MD5 {spec.list_md5}"
        fix = "take the list from the Places365-Standard file lists"
        raise SourceError.of("PB607", str(path), expected=expected, found=f"MD5 {found}", fix=fix)
    taken: dict[int, int] = defaultdict(int)
    chosen = {}
    for name, text in sorted(line.split() for line in data.decode("ascii").splitlines()):
        label = int(text)
        taken[label] += 1
        if taken[label] <= spec.per_class:
            chosen[name] = label
    return chosen
