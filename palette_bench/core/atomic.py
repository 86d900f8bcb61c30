"""Atomic writing of files; no other module opens files for writing.

A file has either its old content or the whole new content. Each write makes a temporary file in the same
folder, flushes and syncs it, renames it, and syncs the folder. Source: trust, section 2.
"""

from __future__ import annotations

import errno
import gzip
import io
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
from typing import Any

from palette_bench.core.errors import StorageError

log = logging.getLogger(__name__)

# error numbers for calls that a file system does not support: CIFS, FUSE, Lustre, NFS without a lock service
UNSUPPORTED = frozenset(
    {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOLCK}
)
_flush_warned = False

# process id, then 4 hex digits of the host and 4 random ones; a temporary is removed only on its own host
_TEMPORARY = re.compile(r"\..+\.pb-(\d+)-([0-9a-f]{4})[0-9a-f]{4}\.tmp")


def _host_tag() -> str:
    return f"{zlib.crc32(socket.gethostname().encode()) & 0xFFFF:04x}"


def _temporary(path: Path) -> Path:
    own = os.fsdecode(os.fsencode(path.name)[:180])  # names have at most 255 bytes, with the parts added here
    return path.with_name(f".{own}.pb-{os.getpid()}-{_host_tag()}{os.urandom(2).hex()}.tmp")


def cannot_write(path: Path, error: OSError) -> StorageError:
    """Return the error for a failed write, naming the path and the reason."""
    found = f"{error.strerror or error} (errno {error.errno})"
    fix = "free space or change permissions, then run the same command again: it resumes"
    return StorageError.of("PB802", str(path), found=found, fix=fix)


def require_space(folder: Path, needed: int, fix: str = "free space, or give another folder") -> int:
    """Return the number of free bytes on the disk where `folder` is or will be.

    Raises:
        StorageError: PB804, fewer than `needed` bytes are free.
    """
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if needed > free:
        found = f"{in_bytes(free)} free"
        raise StorageError.of("PB804", str(folder), expected=in_bytes(needed), found=found, fix=fix)
    return free


def in_bytes(count: float) -> str:
    """Return a number of bytes in words: 1.5 GB, 640 MB."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.0f} MB"


@contextmanager
def _opened(path: Path, flags: int, mode: int = 0o666) -> Iterator[int]:
    """Yield a file descriptor that is closed when the block ends."""
    handle = os.open(path, flags, mode)
    try:
        yield handle
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    """Sync a file or folder to the disk, unless its file system does not support this call."""
    with _opened(path, os.O_RDONLY) as handle:
        _flush(handle, path)


def _flush(handle: int, path: Path) -> None:
    """Sync an open file; warn once per process if the file system cannot, so a power cut may lose data."""
    global _flush_warned  # noqa: PLW0603  # once in the life of a process
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        if not _flush_warned:
            text = "%s: this file system does not flush (%s); the last writes may be lost in a power cut"
            log.warning(text, path, error.strerror)
        _flush_warned = True


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:  # an almost full disk accepts a part; only the next call then reports the error
        view = view[os.write(handle, view) :]


def _write_temporary(path: Path, data: bytes, mode: int) -> Path:
    """Write `data` to a temporary file beside `path`, without syncing, and return its path."""
    temporary = _temporary(path)
    with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode) as handle:
        try:
            _write_all(handle, data)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    return temporary


class FileBatch:
    """Context manager for files that are synced together; they appear when the block ends without error."""

    def __init__(self) -> None:
        """Start empty."""
        self._pending: list[tuple[Path, Path]] = []

    def __enter__(self) -> FileBatch:
        """Return the batch."""
        return self

    def write(self, path: Path, data: bytes, mode: int = 0o666) -> None:
        """Write `data` to a temporary file beside `path`; it gets its name when the block ends.

        Args:
            path: the file.
            data: its content.
            mode: permissions, reduced by the umask.

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
        """Give all files their final names, or remove all temporary files after an error."""
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
    """Write a file atomically, and make its folder if needed.

    Raises:
        StorageError: PB802; the old file is intact.
    """
    make_folder(path.parent)
    with FileBatch() as batch:
        batch.write(path, data)


def write_private(path: Path, data: bytes) -> None:
    """Write a file atomically that only its owner may read; a folder made for it is private, too."""
    make_folder(path.parent.parent)
    with suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    with FileBatch() as batch:
        batch.write(path, data, 0o600)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically, without conversion of line feeds.

    Names that are not UTF-8 are escaped, in the form that JSON reads.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_gzip(path: Path, data: bytes) -> None:
    """Write gzipped data atomically; without name and time inside, equal content gives equal bytes."""
    write_bytes(path, gzip.compress(data, compresslevel=9, mtime=0))


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Append lines to a journal and sync it; a crash can leave only the last line incomplete."""
    data = "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace")
    try:
        with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW) as handle:
            _write_all(handle, data)
            _flush(handle, path)
    except OSError as error:
        raise cannot_write(path, error) from error


class _Sink(io.RawIOBase):
    """A file object that writes to a file descriptor, for libraries that write piece by piece."""

    def __init__(self, handle: int) -> None:
        self._handle = handle

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        _write_all(self._handle, data)
        return memoryview(data).nbytes


@contextmanager
def stream(path: Path) -> Iterator[io.RawIOBase]:
    """Yield a file to write piece by piece; it gets its name when the block ends without error.

    Raises:
        StorageError: PB802.
    """
    make_folder(path.parent)
    temporary = _temporary(path)
    try:
        with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW) as handle:
            yield _Sink(handle)
            _flush(handle, temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def growing(path: Path) -> Path:
    """Return where a file lies until it has all its content and its own name."""
    return path.with_name(f".{path.name}.part")


def write_from(path: Path, offset: int, data: bytes) -> None:
    """Write `data` at an offset of a file, cut the file after it, and sync; the file is created if absent.

    For files that grow under the name `growing` until `rename` gives them their final one. A crash leaves the
    first `offset` bytes as they were.

    Raises:
        StorageError: PB802.
    """
    try:
        with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW) as handle:
            os.ftruncate(handle, offset)
            os.lseek(handle, offset, os.SEEK_SET)
            _write_all(handle, data)
            _flush(handle, path)
    except OSError as error:
        raise cannot_write(path, error) from error


def rename(path: Path, final: Path) -> None:
    """Give a file another name in the same folder, at once and lastingly; a file of that name is replaced.

    Raises:
        StorageError: PB802.
    """
    try:
        os.replace(path, final)
        _sync(final.parent)
    except OSError as error:
        raise cannot_write(final, error) from error


def open_lock_file(path: Path) -> int:
    """Return a file descriptor to lock `path` with; the file is created if absent and keeps its content."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise cannot_write(path, error) from error


def claim(path: Path, data: bytes) -> None:
    """Create a file that must not exist yet; if several processes try, exactly one succeeds.

    Raises:
        FileExistsError: the file exists.
        StorageError: PB802.
    """
    try:
        with _opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW) as handle:
            _write_all(handle, data)
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
    """Yield a temporary folder that is renamed to `folder` when the block ends, or removed after an error.

    Raises:
        StorageError: PB802; `folder` was not created.
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
    """Remove a folder; an interruption leaves a temporary folder, never a part of `folder` itself."""
    temporary = _temporary(folder)
    try:
        os.replace(folder, temporary)
        shutil.rmtree(temporary)
    except OSError as error:
        raise cannot_write(folder, error) from error


def is_alive(pid: int) -> bool:
    """Return whether a process of this machine is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a process that ended but was not reaped is a zombie; containers often have no process that reaps
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return True  # there is no /proc, or the process just ended; the next run will sweep


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders in `folder` whose process, on this host, has ended."""
    try:
        entries = list(os.scandir(folder)) if folder.is_dir() else []
    except OSError:
        return  # an unreadable folder is no error here; a later write reports the reason
    for entry in entries:
        match = _TEMPORARY.fullmatch(entry.name)
        if not match or match[2] != _host_tag() or is_alive(int(match[1])):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with suppress(OSError):  # on a read-only disk the file stays, which does no harm
                Path(entry.path).unlink()


def is_temporary(name: str) -> bool:
    """Return whether `name` is that of a temporary file or folder of this module."""
    return _TEMPORARY.fullmatch(name) is not None


def is_growing(name: str) -> bool:
    """Return whether `name` is one that `growing` gives."""
    return name.startswith(".") and name.endswith(".part")
