"""Which file answers which image: names of a submission against the ids of its set.

Nothing is opened here. Ids are `[A-Za-z0-9_-]{1,64}`, files outputs/ID.png and samples/K/ID.png.
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
    """A file where images belong: `sample` 1 is outputs/, 2 is samples/1/."""

    name: str
    sample: int
    stem: str
    suffix: str


@dataclass
class Layout:
    """What the names say.

    Attributes:
        answers: sample -> ids of the set answered by a well-named file, sorted.
        problems: PB106, PB201-PB204, PB206.
    """

    answers: dict[int, list[ImageId]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def is_image(name: str) -> bool:
    """Return whether a file is named as an image."""
    return PurePosixPath(name).suffix.lower() in _IMAGES


def arrange(
    names: Iterable[str], refused: Iterable[str], ids: Sequence[ImageId], samples: int | None
) -> Layout:
    """Sort the names of a submission into answers and problems.

    Args:
        names: relative names of all its files.
        refused: those reported elsewhere; they answer their id but are not called unexpected.
        ids: of the set.
        samples: images promised per id, or None if the card cannot be read.
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
    place = _PLACE.fullmatch(name)
    if not place:
        return None
    sample = int(place[2]) + 1 if place[2] else 1
    stem, dot, suffix = place[3].rpartition(".")
    if (dot + suffix).lower() not in _IMAGES or (samples and sample > samples):
        return None
    return _Image(name, sample, stem, dot + suffix)


def _arrange_sample(layout: Layout, sample: int, images: list[_Image], ids: set[ImageId]) -> None:
    """Add one folder of images to the layout."""
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
    """Return the names that some file system takes for one: equal under NFC and casefold."""
    groups: dict[str, list[str]] = defaultdict(list)
    for image in images:
        groups[unicodedata.normalize("NFC", image.stem).casefold()].append(image.name)
    return sorted(name for group in groups.values() if len(group) > 1 for name in group)


def of_files(
    code: str, names: Sequence[str], *, expected: str = "", found: str = "", fix: str = ""
) -> list[Problem]:
    """Return one problem about some files, or none if there are no files.

    `where` spells the first names out; `ids` are their image ids, or the names where there is no id.
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
