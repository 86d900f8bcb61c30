"""The files of one submission, a folder or a .zip, behind one small interface.

Nothing is followed, extracted or repaired: links, pipes and hostile names are listed with the reason,
and reading one raises it. Source: trust, sections 4.1 and 4.2.
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
    """What a submission holds; made by `open_submission`, closed by a `with` block or `close`.

    Attributes:
        names: POSIX relative names of all files, sorted; without journals, locks and known litter.
        refused: those of the names that are never read, with the reason.
    """

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
            PngError: PB201, there is none; PB307, larger than `limit`; PB801, unreadable; or the
                reason why it is refused.
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
    """Return where a sample lies: outputs/ID.png for the first, samples/1/ID.png for the second."""
    return f"outputs/{image_id}.png" if sample == 1 else f"samples/{sample - 1}/{image_id}.png"


def open_submission(path: Path, n_ids: int) -> Submission:
    """Open a folder or a .zip for reading.

    Args:
        path: the submission.
        n_ids: images of the set it answers; the caps of an archive follow from it.

    Raises:
        SubmissionError: PB801, nothing there or unreadable; PB103-PB105, not a folder or usable .zip.
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
        if fault.code == "PB102" or not is_litter(name)  # a hostile name is nobody's litter
    }
    found = Submission(_counted(archive.names), refused, archive.read, close=lambda: os.close(handle))
    return _unwrapped(found, path)


def _unwrapped(found: Submission, path: Path) -> Submission:
    """Return a submission whose every file lies in one folder of its own as that folder's content.

    File managers zip a folder with its name, and unpack an archive into a folder of its name.
    """
    names, prefix = found.names, ""
    while len(tops := {name.removeprefix(prefix).partition("/")[:2] for name in names}) == 1:
        top, slash = tops.pop()
        if not slash:
            break  # the only file
        prefix += top + slash
    if not prefix or f"{prefix}{CARD}" not in names or not all(map(is_safe, names)):
        return found
    log.info("the submission lies in %s of %s", prefix, path.name)
    return Submission(
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
    return Submission(names, refused, lambda name, limit: read_regular(root / name, limit), lambda: None)


def _walk(root: Path) -> Iterator[tuple[str, PngError | None]]:
    """Yield the name of every file below `root`, with the reason if it is not a regular one."""
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
    """Return the names that count, sorted: our own bookkeeping and known litter do not."""
    return tuple(sorted(n for n in names if not is_litter(n) and not ("/" not in n and is_ours(n))))


def _open_archive(path: Path) -> int:
    """Return an open handle of a regular file that begins like a .zip and is named so."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe must not make us wait
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        start = os.pread(handle, 4, 0) if regular else b""
    except OSError as error:
        raise SubmissionError(_unreadable(path, error)) from error
    if regular and path.suffix.lower() == ".zip" and start in (b"PK\x03\x04", b"PK\x05\x06"):
        return handle
    os.close(handle)
    raise SubmissionError(
        problem(
            "PB104" if regular else "PB105",
            path.name,
            expected="a folder or a .zip archive",
            found="another kind of file" if regular else "a pipe, socket or device",
            fix="give the folder that holds submission.toml, or zip that folder's content",
        )
    )


def _unreadable(path: Path, error: OSError) -> Problem:
    return problem(
        "PB801",
        str(path),
        expected="a submission: a folder or a .zip archive",
        found=error.strerror or str(error),
        fix="check the path and its permissions",
    )
