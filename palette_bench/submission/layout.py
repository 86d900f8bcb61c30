"""Assignment of a submission's file names to the ids of its set; no file is opened.

Ids match `[A-Za-z0-9_-]{1,64}`; files are named outputs/ID.png and samples/K/ID.png.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import NamedTuple

from palette_bench.core.errors import SHOWN_IDS, Problem, problem
from palette_bench.core.types import ImageId
from palette_bench.submission.card import CARD
from palette_bench.submission.files import output_name

_PLACE = re.compile(r"(outputs|samples/([1-9][0-9]{0,3}))/([^/]+)")
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_IMAGES = frozenset([".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".eps", ".ppm"])

_FIXES = {
    "PB106": "keep only submission.toml, outputs/ID.png and samples/K/ID.png",
    "PB201": "write outputs/ID.png for every id of public.json",
    "PB202": "remove these files, or check against the set they answer",
    "PB203": "keep one file per id; names that differ in case alone are the same on some machines",
    "PB204": "name the files exactly ID.png, as the inputs are named, and save them as PNG",
    "PB206": "write samples/K/ID.png for every id, or lower target.samples_per_image in submission.toml",
}


class _Image(NamedTuple):
    """An image file in an expected folder; `sample` 1 stands for outputs/, 2 for samples/1/."""

    name: str
    sample: int
    stem: str
    suffix: str


@dataclass
class Layout:
    """Result of `arrange`.

    Attributes:
        answers: sample -> sorted ids of the set that have a correctly named file.
        problems: PB106, PB201-PB204, PB206.
    """

    answers: dict[int, list[ImageId]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def is_image(name: str) -> bool:
    """Return whether a file has the suffix of an image format."""
    return PurePosixPath(name).suffix.lower() in _IMAGES


def arrange(
    names: Iterable[str], refused: Iterable[str], ids: Sequence[ImageId], samples: int | None
) -> Layout:
    """Assign the file names of a submission to ids, and report all problems of the names.

    Args:
        names: relative names of all files.
        refused: names of refused files, which are reported elsewhere; they count for their id and are never
            reported as unexpected.
        ids: ids of the set.
        samples: images per id that the card promises, or None if the card cannot be read.
    """
    images = [p for name in names if (p := _image(name, samples))]
    unexpected = set(names) - {p.name for p in images} - set(refused) - {CARD}
    expected = "submission.toml and the promised images"
    layout = Layout()
    layout.problems += of_files("PB106", sorted(unexpected), expected=expected, found="other files")
    by_sample: dict[int, list[_Image]] = defaultdict(list)
    for image in images:
        by_sample[image.sample].append(image)
    for sample in sorted(by_sample.keys() | set(range(1, 1 + (samples or 1)))):
        _arrange_sample(layout, sample, by_sample[sample], set(ids))
    return layout


def _image(name: str, samples: int | None) -> _Image | None:
    # None: the name is not that of an expected image
    place = _PLACE.fullmatch(name)
    if not place:
        return None
    sample = int(place[2]) + 1 if place[2] else 1
    stem, dot, suffix = place[3].rpartition(".")
    if (dot + suffix).lower() not in _IMAGES or (samples and sample > samples):
        return None
    return _Image(name, sample, stem, dot + suffix)


def _arrange_sample(layout: Layout, sample: int, images: list[_Image], ids: set[ImageId]) -> None:
    """Add the images of one sample to the layout."""
    sound = [p for p in images if p.suffix == ".png" and _ID.fullmatch(p.stem)]
    malformed = sorted({p.name for p in images} - {p.name for p in sound})
    foreign = sorted(p.name for p in sound if p.stem not in ids)
    missing = [output_name(i, sample) for i in sorted(ids - {p.stem for p in images})]
    layout.answers[sample] = sorted(p.stem for p in sound if p.stem in ids)
    rule = "letters, digits, _ and -, at most 64, then .png"
    layout.problems += of_files("PB204", malformed, expected=rule, found="other names")
    layout.problems += of_files(
        "PB202", foreign, expected=f"the {len(ids):,} ids of the set", found="other ids"
    )
    layout.problems += of_files("PB203", _twins(images), expected="one file per id", found="twins")
    found = f"{len(ids) - len(missing):,}"
    expected = f"{len(ids):,} images"
    layout.problems += of_files("PB201" if sample == 1 else "PB206", missing, expected=expected, found=found)


def _twins(images: list[_Image]) -> list[str]:
    """Return the names whose stems are equal after NFC and casefold; some file systems merge such names."""
    groups: dict[str, list[str]] = defaultdict(list)
    for image in images:
        groups[unicodedata.normalize("NFC", image.stem).casefold()].append(image.name)
    return sorted(name for group in groups.values() if len(group) > 1 for name in group)


def of_files(
    code: str, names: Sequence[str], *, expected: str = "", found: str = "", fix: str = ""
) -> list[Problem]:
    """Return one problem about the files, or no problem if there are no files.

    The problem's `where` lists the first names. Its `ids` are the image ids; a file without id is listed by
    name.
    """
    if not names:
        return []
    where = ", ".join(names[:SHOWN_IDS]) + (", ..." if len(names) > SHOWN_IDS else "")
    ids = [_id_of(name) for name in names]
    return [problem(code, where, expected=expected, found=found, fix=fix or _FIXES[code], ids=ids)]


def _id_of(name: str) -> str:
    place = _PLACE.fullmatch(name)
    stem = place[3].removesuffix(".png") if place else ""
    return stem if _ID.fullmatch(stem) and name.endswith(".png") else name
