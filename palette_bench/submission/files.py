"""Common interface to the files of a submission, which is a folder or a .zip archive.

Links are not followed, and archives are neither extracted nor repaired. Links, pipes and unsafe names are
listed as refused with a reason; an attempt to read one raises that reason. Source: trust, sections 4.1 and
4.2.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from palette_bench.core.errors import Problem, SubmissionError, problem
from palette_bench.core.journal import is_ours
from palette_bench.core.litter import is_litter
from palette_bench.core.png import MAX_BYTES, PngError, read_regular
from palette_bench.core.types import ImageId
from palette_bench.submission.archive import Archive, is_safe
from palette_bench.submission.card import CARD

log = logging.getLogger(__name__)


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
        return _unwrapped(_folder(path), path)
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
    return _unwrapped(found, path)


def _unwrapped(found: Submission, path: Path) -> Submission:
    """Return the submission without the folders that enclose all its files, if a card lies below them.

    File managers zip a folder together with its name, and unpack an archive into a folder of its name.
    """
    names, prefix = found.names, ""
    while len(tops := {name.removeprefix(prefix).partition("/")[:2] for name in names}) == 1:
        top, slash = tops.pop()
        if not slash:
            break  # a single file, not a folder
        prefix += top + slash
    if not prefix or f"{prefix}{CARD}" not in names or not all(map(is_safe, names)):
        return found
    log.info("the submission lies in %s of %s", prefix, path.name)
    return Submission(
        path,
        _counted(name.removeprefix(prefix) for name in names),
        {name.removeprefix(prefix): fault for name, fault in found.refused.items()},
        lambda name, limit: found._fetch(prefix + name, limit),
        found.close,
    )


def _folder(root: Path) -> Submission:
    try:
        found = dict(_walk(root))
    except OSError as error:
        raise SubmissionError(_unreadable(root, error)) from error
    names = _counted(found)
    refused = {name: fault for name in names if (fault := found[name])}
    return Submission(
        root, names, refused, lambda name, limit: read_regular(root / name, limit), lambda: None
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
        raise SubmissionError(_unreadable(path, error)) from error
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


def _unreadable(path: Path, error: OSError) -> Problem:
    return problem(
        "PB801",
        str(path),
        expected="a submission: a folder or a .zip archive",
        found=error.strerror or str(error),
        fix="check the path and its permissions",
    )
