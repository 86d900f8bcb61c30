"""The files of a submission, which is a folder or a .zip archive, and their assignment to ids.

A folder may hold its outputs in tar or parquet files (`packed_outputs`).

Links are not followed, and archives are neither extracted nor repaired. Links, pipes and unsafe names are
listed as refused with a reason; an attempt to read one raises that reason. Source: trust, sections 4.1 and
4.2.

Ids match `[A-Za-z0-9_-]{1,64}`; files are named outputs/ID.png and samples/K/ID.png.
"""

from __future__ import annotations

import logging
import os
import re
import stat
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Self

from palette_bench.core.errors import SHOWN_IDS, Problem, SubmissionError, problem
from palette_bench.core.journal import is_ours
from palette_bench.core.png import MAX_BYTES, PngError, read_regular
from palette_bench.core.text import is_litter
from palette_bench.core.types import ImageId
from palette_bench.submission.card import CARD
from palette_bench.submission.packed_outputs import is_packed, open_packed

log = logging.getLogger(__name__)

_PLAIN = "a relative path of plain names with / between them"
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Submission:
    """An opened submission. `open_submission` makes it; a `with` block or `close` closes it.

    Attributes:
        path: the folder or archive.
        names: sorted POSIX relative names of all files, without journals, locks and known litter.
        refused: name -> reason, for the names that are never read.
        close: function that closes the submission.
    """

    path: Path
    names: tuple[str, ...]
    refused: dict[str, PngError]
    _fetch: Callable[[str, int], bytes]
    close: Callable[[], None]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def read(self, name: str, limit: int = MAX_BYTES) -> bytes:
        """Return the bytes of a file.

        Raises:
            PngError: PB201, the file does not exist; PB307, it is larger than `limit`; PB801, it is
                unreadable; or the reason why it is refused.
        """
        if name in self.refused:
            raise self.refused[name]
        try:
            return self._fetch(name, limit)
        except (KeyError, FileNotFoundError):
            raise PngError("PB201", "a file", "nothing") from None
        except OSError as error:
            raise PngError("PB801", "a readable file", error.strerror or str(error)) from error


def output_name(image_id: ImageId, sample: int = 1) -> str:
    """Return the relative path of an output: outputs/ID.png for sample 1, samples/1/ID.png for sample 2."""
    return f"outputs/{image_id}.png" if sample == 1 else f"samples/{sample - 1}/{image_id}.png"


def unsafe(name: str) -> str:
    """Return why a member's name is refused, or an empty string for a relative path of plain names."""
    parts = name.removesuffix("/").split("/")
    faults = {
        "a NUL": "\0" in name,
        "a backslash": "\\" in name,
        "an absolute path": name.startswith("/"),
        "a drive letter": bool(_DRIVE.match(name)),
        "a step to another folder": ".." in parts,
        "an empty step": "" in parts or "." in parts,
    }
    return next((fault for fault, present in faults.items() if present), "")


def open_submission(path: Path, n_ids: int) -> Submission:
    """Open a folder or a .zip archive for reading.

    Args:
        path: the submission.
        n_ids: number of images in its set; the caps on an archive follow from it.

    Raises:
        SubmissionError: PB801, the path does not exist or is unreadable; PB103-PB105, it is neither a folder
            nor a usable .zip archive.
    """
    if path.is_dir():
        try:
            files = dict(_walk(path))
        except OSError as error:
            raise _unreadable(path, error) from error
        return _open_folder(path, files, n_ids)
    from palette_bench.submission.archive import Archive  # noqa: PLC0415  # it builds on this file

    handle = _open_archive(path)
    try:
        archive = Archive(handle, path.name, n_ids)
    except BaseException:
        os.close(handle)
        raise
    refused = {
        name: fault
        for name, fault in archive.refused.items()
        if fault.code == "PB102" or not is_litter(name)  # an unsafe name is reported even if it is litter
    }
    found = Submission(path, _counted(archive.names), refused, archive.read, close=lambda: os.close(handle))
    return _unwrapped(found)


def _open_folder(path: Path, files: dict[str, PngError | None], n_ids: int) -> Submission:
    """Return a folder as a submission, in which a packed file stands for the outputs in it.

    Args:
        path: the folder.
        files: relative name -> fault of every file below it.
        n_ids: number of images in its set.

    Raises:
        SubmissionError: PB103, PB104, PB801, a packed file cannot be used.
    """
    names = _counted(files)
    packed = open_packed(path, [name for name in names if is_packed(name) and not files[name]], n_ids)

    def read(name: str, limit: int) -> bytes:
        return packed.read(name, limit) if name in packed else read_regular(path / name, limit)

    loose = [name for name in names if files[name] or not is_packed(name)]
    faults = {name: fault for name in loose if (fault := files[name])} | packed.refused
    twice = {name: PngError("PB203", "one file per id", "several") for name in loose if name in packed}
    strange = {name: PngError("PB102", _PLAIN, why) for name in packed.names if (why := unsafe(name))}
    found = tuple(sorted({*loose, *packed.names}))
    return _unwrapped(Submission(path, found, faults | twice | strange, read, lambda: None))


def _unwrapped(found: Submission) -> Submission:
    """Return the submission without the folders that enclose all its files, if a card lies below them.

    File managers zip a folder together with its name, and unpack an archive into a folder of its name.
    """
    names, prefix = found.names, ""
    while len(tops := {name.removeprefix(prefix).partition("/")[:2] for name in names}) == 1:
        top, slash = tops.pop()
        if not slash:
            break  # a single file, not a folder
        prefix += top + slash
    if not prefix or f"{prefix}{CARD}" not in names or any(map(unsafe, names)):
        return found
    log.info("the submission lies in %s of %s", prefix, found.path.name)
    return Submission(
        found.path,
        _counted(name.removeprefix(prefix) for name in names),
        {name.removeprefix(prefix): fault for name, fault in found.refused.items()},
        lambda name, limit: found._fetch(prefix + name, limit),
        found.close,
    )


def _walk(root: Path) -> Iterator[tuple[str, PngError | None]]:
    """Yield (name, fault) for every file below `root`; fault is None for a regular file."""
    pending = [""]
    while pending:
        prefix = pending.pop()
        with os.scandir(root / prefix) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    pending.append(f"{name}/")
                elif entry.is_file(follow_symlinks=False):
                    yield name, None
                else:
                    found = "a link" if entry.is_symlink() else "a pipe, socket or device"
                    yield name, PngError("PB105", "a regular file", found)


def _counted(names: Iterable[str]) -> tuple[str, ...]:
    """Return the sorted names without our own bookkeeping files and known litter."""
    return tuple(sorted(n for n in names if not is_litter(n) and not ("/" not in n and is_ours(n))))


def _open_archive(path: Path) -> int:
    """Return an open file descriptor of a regular file with suffix .zip and the signature of a zip archive.

    Raises:
        SubmissionError: PB104, another kind of file; PB105, not a regular file; PB801, unreadable.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # without O_NONBLOCK, a pipe would block
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        start = os.pread(handle, 4, 0) if regular else b""
    except OSError as error:
        raise _unreadable(path, error) from error
    if regular and path.suffix.lower() == ".zip" and start in (b"PK\x03\x04", b"PK\x05\x06"):
        return handle
    os.close(handle)
    raise SubmissionError.of(
        "PB104" if regular else "PB105",
        path.name,
        expected="a folder or a .zip archive",
        found="another kind of file" if regular else "a pipe, socket or device",
        fix="give the folder that holds submission.toml, or zip that folder's content",
    )


def _unreadable(path: Path, error: OSError) -> SubmissionError:
    expected = "a submission: a folder or a .zip archive"
    fix = "check the path and its permissions"
    return SubmissionError.of(
        "PB801", str(path), expected=expected, found=error.strerror or str(error), fix=fix
    )


# --- assignment of names to ids; no file is opened ---

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
    # Some file systems merge names that are equal after NFC and casefold.
    groups: dict[str, list[str]] = defaultdict(list)
    for image in images:
        groups[unicodedata.normalize("NFC", image.stem).casefold()].append(image.name)
    twins = sorted(name for group in groups.values() if len(group) > 1 for name in group)
    layout.problems += of_files("PB203", twins, expected="one file per id", found="twins")
    found = f"{len(ids) - len(missing):,}"
    expected = f"{len(ids):,} images"
    layout.problems += of_files("PB201" if sample == 1 else "PB206", missing, expected=expected, found=found)


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
    ids = []
    for name in names:
        place = _PLACE.fullmatch(name)
        stem = place[3].removesuffix(".png") if place else ""
        ids.append(stem if _ID.fullmatch(stem) and name.endswith(".png") else name)
    return [problem(code, where, expected=expected, found=found, fix=fix or _FIXES[code], ids=ids)]
