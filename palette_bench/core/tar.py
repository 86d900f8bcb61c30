"""Tar files: members whose bytes depend only on name and content, and a strict index of an untrusted file.

Python's `tarfile` writes and parses the headers. Its reader is not used because it tolerates damage: a broken
header after the first reads as the end of the file. The format is POSIX.1-1988 (ustar).
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from palette_bench.core.png import PngError

BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)  # two empty blocks end a tar
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE)
_EXTENSIONS = (tarfile.XHDTYPE, tarfile.XGLTYPE)
_EXTENSION_BYTES = 1 << 16  # pax records beyond this size are refused


class TarError(Exception):
    """A tar that cannot be read; the text says what was found."""


@dataclass(frozen=True, slots=True)
class TarMember:
    """A file in a tar.

    Attributes:
        name: as stored, without a leading `./`.
        offset: of its content, bytes.
        size: bytes.
        fault: why it is refused, or None.
    """

    name: str
    offset: int
    size: int
    fault: PngError | None = None

    @property
    def end(self) -> int:
        """Return the offset of the next header."""
        return self.offset + -(-self.size // BLOCK) * BLOCK


def member(name: str, data: bytes) -> bytes:
    """Return a file as a tar member, of time 0 and mode 0644: header, content, and zeros up to a full block.

    Args:
        name: at most 100 bytes.
        data: its content.
    """
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK)


def members(file: BinaryIO, *, ended: bool = True) -> Iterator[TarMember]:
    """Yield the files of an uncompressed tar, from its headers alone; folders are left out.

    Links, devices and members whose header extension changes their name or size are yielded with a fault.

    Args:
        file: the tar, seekable.
        ended: whether the tar must be whole. If not, the members before the first damage are yielded, as in a
            tar that is still being written.

    Raises:
        TarError: the tar is damaged, cut, or holds data after its end; only if `ended`.
    """
    try:
        yield from _members(file)
    except TarError:
        if ended:
            raise


def _members(file: BinaryIO) -> Iterator[TarMember]:
    length = file.seek(0, 2)
    at, extended = 0, False
    while True:
        file.seek(at)
        header = file.read(BLOCK)
        if header == bytes(BLOCK):
            break
        try:
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.TarError as error:
            raise TarError(f"a broken header at byte {at:,}: {error}") from error
        found = TarMember(info.name.removeprefix("./"), at + BLOCK, info.size)
        if info.size < 0 or found.end > length:
            raise TarError(f"a member at byte {at:,} that is longer than the file")
        at = found.end
        if info.type in _EXTENSIONS:
            extended |= _renames(file, info.size)
        elif info.type != tarfile.DIRTYPE:
            yield _judged(found, info.type, extended)
            extended = False
    while block := file.read(1 << 16):  # the first empty block is read
        if block.count(0) != len(block):
            raise TarError("data after the end")
    if length - at < len(END):
        raise TarError("one empty block at the end instead of two")


def _renames(file: BinaryIO, size: int) -> bool:
    """Return whether a pax extension changes what the next header says of name, size or kind."""
    if size > _EXTENSION_BYTES:
        raise TarError(f"a header extension of {size:,} bytes")
    keys = {line.partition(b" ")[2].partition(b"=")[0] for line in file.read(size).splitlines()}
    return any(key in (b"path", b"size", b"linkpath") or key.startswith(b"GNU.") for key in keys)


def _judged(found: TarMember, kind: bytes, extended: bool) -> TarMember:
    fault = None
    if kind not in _FILES:
        fault = PngError("PB105", "a regular file", "a link or special member")
    elif extended:
        fault = PngError("PB102", "a name of at most 100 bytes in the header itself", "a header extension")
    return TarMember(found.name, found.offset, found.size, fault)
