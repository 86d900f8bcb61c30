"""The only module that opens files for writing.

A name either holds the old content or the whole new one: temporary file beside the target, flush,
fsync, replace, fsync of the folder. Source: trust, section 2.
"""

from __future__ import annotations

import errno
import gzip
import logging
import os
import re
import shutil
import socket
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

from palette_bench.core.errors import StorageError, problem

log = logging.getLogger(__name__)

# what file systems answer to a call they do not have: CIFS, FUSE, Lustre, NFS without a lock service
UNSUPPORTED = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOLCK}
)
_flush_warned = False

# pid, then 4 hex digits of the host and 4 random ones: a temporary is swept only on its own host
_TEMPORARY = re.compile(r"\..+\.pb-(\d+)-([0-9a-f]{4})[0-9a-f]{4}\.tmp")


def _host_tag() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()) & 0xFFFF:04x}"


def _temporary(path: Path) -> Path:
    own = os.fsdecode(os.fsencode(path.name)[:180])  # a name may have 255 bytes, this one too
    return path.with_name(f".{own}.pb-{os.getpid()}-{_host_tag()}{os.urandom(2).hex()}.tmp")


def cannot_write(path: Path, error: OSError) -> StorageError:
    """Return the error for a failed write, naming the path and the reason."""
    return StorageError(
        problem(
            "PB802",
            str(path),
            found=f"{error.strerror or error} (errno {error.errno})",
            fix="free space or change permissions, then run the same command again: it resumes",
        )
    )


def require_space(folder: Path, needed: int, fix: str = "free space, or give another folder") -> int:
    """Return the bytes free where `folder` is or will be.

    Raises:
        StorageError: PB804, they are fewer than `needed`.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        found = f"{in_bytes(free)} free"
        raise StorageError(problem("PB804", str(folder), expected=in_bytes(needed), found=found, fix=fix))
    return free


def in_bytes(count: float) -> str:
    """Return an amount of bytes as people say it: 1.5 GB, 640 MB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk, where its file system can: some refuse it for folders."""
    handle = os.open(path, os.O_RDONLY)
    try:
        _flush(handle, path)
    finally:
        os.close(handle)


def _flush(handle: int, path: Path) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        _warn_of_flush(path, error)


def _warn_of_flush(path: Path, error: OSError) -> None:
    """Say once that a power cut may cost what was written last."""
    global _flush_warned  # noqa: PLW0603  # once in the life of a process
    if not _flush_warned:
        text = "%s: this file system does not flush (%s); what is written last may be lost in a power cut"
        log.warning(text, path, error.strerror)
    _flush_warned = True


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # a disk about to be full takes a part, and says so only at the next call
        view = view[os.write(handle, view) :]


def _write_temporary(path: Path, data: bytes, mode: int) -> Path:
    """Write `data` beside `path`; return the temporary name, not yet synced."""
    temporary = _temporary(path)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        _write_all(handle, data)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return temporary


class FileBatch:
    """Files that share one fsync round; all appear when the block ends, none if it raises."""

    def __init__(self) -> None:
        """Start empty."""
        self._pending: list[tuple[Path, Path]] = []

    def __enter__(self) -> FileBatch:
        """Return the batch."""
        return self

    def write(self, path: Path, data: bytes, mode: int = 0o666) -> None:
        """Write `data` to a temporary beside `path`, with permissions `mode` as far as the umask lets.

        Raises:
            StorageError: PB802.
        """
        try:
            self._pending.append((path, _write_temporary(path, data, mode)))
        except OSError as error:
            raise cannot_write(path, error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give every file its final name, or remove every temporary."""
        try:
            if kind is None:
                self._commit()
        finally:
            for _, temporary in self._pending:
                temporary.unlink(missing_ok=True)

    def _commit(self) -> None:
        try:
            for _, temporary in self._pending:
                _sync(temporary)
            for path, temporary in self._pending:
                os.replace(temporary, path)
            for folder in {path.parent for path, _ in self._pending}:
                _sync(folder)
        except OSError as error:
            raise cannot_write(Path(error.filename2 or error.filename or "."), error) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, making its folder if needed.

    Raises:
        StorageError: PB802; the old file is intact.
    """
    make_folder(path.parent)
    with FileBatch() as batch:
        batch.write(path, data)


def write_private(path: Path, data: bytes) -> None:
    """Write a file only its owner may read, whole or not at all; its folder, if new, is private too."""
    make_folder(path.parent.parent)
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    with FileBatch() as batch:
        batch.write(path, data, 0o600)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole or not at all; line feeds stay as they are.

    Names that are no UTF-8 come escaped, as JSON reads them back.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_gzip(path: Path, data: bytes) -> None:
    """Write `data` gzipped, with no name and no time inside, so equal content is equal bytes."""
    write_bytes(path, gzip.compress(data, compresslevel=9, mtime=0))


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append whole lines to a journal and sync it; a crash can tear only the last line."""
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666)
        try:
            _write_all(handle, data)
            _flush(handle, path)
        finally:
            os.close(handle)
    except OSError as error:
        raise cannot_write(path, error) from error


def open_lock_file(path: Path) -> int:
    """Return a handle for locking `path`; the file is made if absent and keeps its content."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise cannot_write(path, error) from error


def claim(path: Path, data: bytes) -> None:
    """Make a file that must not exist yet: of several who try, one succeeds.

    Raises:
        FileExistsError: it exists.
        StorageError: PB802.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        try:
            _write_all(handle, data)
        finally:
            os.close(handle)
    except FileExistsError:
        raise
    except OSError as error:
        raise cannot_write(path, error) from error


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        StorageError: PB802.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder that takes the name `folder` when the block ends, and goes if it raises.

    Raises:
        StorageError: PB802; nothing of that name has appeared.
    """
    temporary = _temporary(folder)
    make_folder(temporary)
    try:
        yield temporary
        os.replace(temporary, folder)
        _sync(folder.parent)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_folder(folder: Path) -> None:
    """Remove a folder of ours; cut short, it leaves a temporary behind, never half a folder by that name."""
    temporary = _temporary(folder)
    try:
        os.replace(folder, temporary)
        shutil.rmtree(temporary)
    except OSError as error:
        raise cannot_write(folder, error) from error


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """Return whether a process has ended and waits to be reaped: in containers often nobody does it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False  # no such file system, or gone this moment: the next run sweeps
    return state == "Z"


def sweep(folder: Path) -> None:
    """Remove temporaries that dead runs of this host left in `folder`; nothing else is touched."""
    try:
        entries = list(os.scandir(folder)) if folder.is_dir() else []
    except OSError:
        return  # the folder may not be readable; a later write reports why it fails
    for entry in entries:
        match = _TEMPORARY.fullmatch(entry.name)
        if not match or match[2] != _host_tag() or is_alive(int(match[1])):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with suppress(OSError):  # on a read-only disk it stays, and does no harm
                Path(entry.path).unlink()


def is_temporary(name: str) -> bool:
    """Return whether `name` is a temporary of ours, finished or not."""
    return _TEMPORARY.fullmatch(name) is not None
