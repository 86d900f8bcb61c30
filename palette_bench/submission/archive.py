"""Strict reader of untrusted zip archives: members are read in memory, never extracted, never repaired.

Python's `zipfile` is not used because it tolerates damage: it cuts names at NUL, skips bytes before the
first member, and drops data beyond a member's declared size. Source: trust, section 4.2; the format follows
PKWARE's APPNOTE.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from palette_bench.core.errors import SubmissionError
from palette_bench.core.png import MAX_BYTES, PngError
from palette_bench.core.text import is_litter
from palette_bench.submission.files import unsafe

SPARE_ENTRIES = 64  # entries allowed beside the images: the card, folders, journals and litter
MAX_SAMPLES = 10  # images per id in an archive; a folder has no such cap
MAX_RATIO = 100  # of unpacked to packed bytes, against zip bombs
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")

_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000  # member, strong, masked headers
_NARROW = 0xFFFFFFFF  # marks a 32-bit field whose value is stored in the 64-bit extra field
_ENTRY_BYTES = 512  # cap on the average size of a directory entry: twice what the longest id needs

_END = struct.Struct("<4s2H2H2LH")
_LOCATOR64 = struct.Struct("<4sLQL")
_END64 = struct.Struct("<4s20x4Q")
_CENTRAL = struct.Struct("<4s4x2H4x3L3H4x2L")
_LOCAL = struct.Struct("<4s2x2H16x2H")


@dataclass(frozen=True, slots=True)
class _Member:
    """One entry of the central directory; `size` and `packed` are the declared byte counts."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int  # POSIX file type and permissions; 0 if the archiver wrote none

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


class Archive:
    """An open zip archive.

    Attributes:
        names: sorted names of all files, and of every refused member.
        refused: name -> reason, for members that are never read.
    """

    def __init__(self, handle: int, label: str, n_ids: int) -> None:
        """Read and check the central directory.

        Args:
            handle: file descriptor of the archive; the caller closes it.
            label: name of the archive in problems.
            n_ids: number of images in the set; the caps on entries and bytes follow from it.

        Raises:
            SubmissionError: PB103, PB104; no member of the archive can be used.
        """
        self._handle = handle
        self._label = label
        count, offset, length = self._find_directory()
        most = n_ids * MAX_SAMPLES + SPARE_ENTRIES
        if count > 2 * most:  # macOS adds a twin to each file
            raise self._over_cap(f"at most {most:,} entries", f"{count:,} entries")
        if length > (count + SPARE_ENTRIES) * _ENTRY_BYTES:
            raise self._over_cap("names without long comments", f"a directory of {length:,} bytes")
        members = list(self._members(os.pread(handle, length, offset), count))
        self._check_totals(members, n_ids)
        self.refused = _refusals(members)
        self._places: dict[str, tuple[_Member, int]] = {}
        self._place(members, offset)
        self.names = tuple(sorted({m.name for m in members if not m.is_folder} | self.refused.keys()))

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of a member; at most its declared size is inflated.

        Raises:
            PngError: PB307, the member is larger than `limit`; PB305, its size or checksum differs from the
                directory.
        """
        member, start = self._places[name]
        if member.size > limit:
            raise PngError("PB307", f"at most {limit:,} bytes", f"{member.size:,} bytes")
        packed = os.pread(self._handle, member.packed, start)
        data = packed if member.method == _STORED else _inflate(packed, member.size)
        if len(data) != member.size or zlib.crc32(data) != member.crc:
            raise PngError("PB305", "the size and checksum that its archive declares", "others")
        return data

    def _damaged(self, found: str) -> SubmissionError:
        fix = "make it again with zip, or give the folder itself"
        return SubmissionError.of("PB104", self._label, expected="a whole .zip archive", found=found, fix=fix)

    def _over_cap(self, expected: str, found: str) -> SubmissionError:
        fix = "keep only submission.toml, outputs/ and samples/, or give the folder itself"
        return SubmissionError.of("PB103", self._label, expected=expected, found=found, fix=fix)

    def _find_directory(self) -> tuple[int, int, int]:
        """Return the number of entries, the offset and the length of the central directory.

        The end record must follow the directory directly and end the file.
        """
        size = os.fstat(self._handle).st_size
        base = max(0, size - _END.size - 0xFFFF)
        tail = os.pread(self._handle, size - base, base)
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or at + _END.size > len(tail):
            raise self._damaged("no end record: cut, or not a zip")
        _, disk, _, _, count, length, offset, comment = _END.unpack_from(tail, at)
        if disk or at + _END.size + comment != len(tail):
            raise self._damaged("an end record that does not end the file")
        end = base + at
        locator = os.pread(self._handle, _LOCATOR64.size, max(0, end - _LOCATOR64.size))
        if locator.startswith(b"PK\x06\x07") and len(locator) == _LOCATOR64.size:
            # Some archivers write 64-bit records although the 32-bit fields suffice, so the presence of the
            # locator decides, not the value of those fields.
            end = min(_LOCATOR64.unpack(locator)[2], end)
            record = os.pread(self._handle, _END64.size, end)
            if len(record) < _END64.size or not record.startswith(b"PK\x06\x06"):
                raise self._damaged("no 64-bit end record")
            _, _, count, length, offset = _END64.unpack(record)
        if offset + length != end:
            raise self._damaged("a directory that does not lie before the end record")
        return count, offset, length

    def _members(self, directory: bytes, count: int) -> Iterator[_Member]:
        at = 0
        for _ in range(count):
            if not directory.startswith(b"PK\x01\x02", at) or at + _CENTRAL.size > len(directory):
                raise self._damaged("a broken directory")
            fields = _CENTRAL.unpack_from(directory, at)
            _, flags, method, crc, packed, size, n_name, n_extra, n_comment, attributes, offset = fields
            at += _CENTRAL.size + n_name
            name = directory[at - n_name : at].decode("utf-8", "surrogateescape")
            size, packed, offset = _widen(directory[at : at + n_extra], size, packed, offset)
            yield _Member(name, flags, method, crc, packed, size, offset, attributes >> 16)
            at += n_extra + n_comment
        if at != len(directory):
            raise self._damaged("a broken directory")

    def _check_totals(self, members: list[_Member], n_ids: int) -> None:
        """Raise unless entries and unpacked bytes are within the caps.

        The caps of one sample are multiplied by the number of sample folders, at most `MAX_SAMPLES`.
        """
        samples = (re.search(r"(?:^|/)samples/(\d+)/.", m.name) for m in members if not is_litter(m.name))
        folders = {found[1] for found in samples if found}
        n_images = n_ids * min(1 + len(folders), MAX_SAMPLES)
        own = [member for member in members if not is_litter(member.name)]
        if len(own) > n_images + SPARE_ENTRIES:
            raise self._over_cap(f"at most {n_images + SPARE_ENTRIES:,} entries", f"{len(own):,} entries")
        total = sum(m.size for m in own)
        if total > n_images * MAX_BYTES:
            raise self._over_cap(f"at most {n_images * MAX_BYTES:,} bytes unpacked", f"{total:,} bytes")

    def _place(self, members: list[_Member], directory_at: int) -> None:
        """Locate the data of each member; refuse members that overlap or contradict the directory."""
        ordered = sorted(members, key=lambda m: m.offset)
        limits = [m.offset for m in ordered[1:]] + [directory_at]
        for member, limit in zip(ordered, limits, strict=False):  # an empty archive still has one limit
            start = self._data_start(member)
            if start is None:
                fault = PngError("PB103", "members as the directory declares them", "another local header")
            elif start + member.packed > limit:
                fault = PngError("PB103", "members one after the other", "members that overlap")
            else:
                self._places[member.name] = (member, start)
                continue
            self.refused.setdefault(member.name, fault)

    def _data_start(self, member: _Member) -> int | None:
        """Return the offset of a member's data, or None if its local header contradicts the directory."""
        name = member.name.encode("utf-8", "surrogateescape")
        if member.offset > os.fstat(self._handle).st_size:
            return None
        header = os.pread(self._handle, _LOCAL.size + len(name), member.offset)
        if len(header) < _LOCAL.size:
            return None
        signature, flags, method, n_name, n_extra = _LOCAL.unpack_from(header)
        found = (signature, flags & _ENCRYPTED, method, n_name, header[_LOCAL.size :])
        declared = (b"PK\x03\x04", member.flags & _ENCRYPTED, member.method, len(name), name)
        return member.offset + _LOCAL.size + n_name + n_extra if found == declared else None


def _widen(extra: bytes, *values: int) -> list[int]:
    """Return size, packed size and offset; values that do not fit 32 bits come from the 64-bit field."""
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        body = extra[at + 4 : at + 4 + length]
        if kind == 1:
            wide = (int.from_bytes(body[i : i + 8], "little") for i in range(0, len(body), 8))
            return [next(wide, value) if value == _NARROW else value for value in values]
        at += 4 + length
    return list(values)


def _refusals(members: list[_Member]) -> dict[str, PngError]:
    """Return the names that are refused because of their directory entry, each with the first reason."""
    copies = Counter(m.name for m in members)
    refused: dict[str, PngError] = {}
    for member in members:
        if copies[member.name] > 1:
            refused[member.name] = PngError("PB102", "each name once", f"{copies[member.name]} members")
        for fault in _faults(member):
            refused.setdefault(member.name, fault)
    return refused


def _faults(member: _Member) -> Iterator[PngError]:
    if found := unsafe(member.name):
        yield PngError("PB102", "a relative path of plain names with / between them", found)
    if member.is_folder:
        return
    if stat.S_IFMT(member.mode) not in (0, stat.S_IFREG):
        yield PngError("PB105", "a regular file", "a link or special file")
    if member.flags & _ENCRYPTED:
        yield PngError("PB103", "a readable member", "an encrypted one")
    if member.method not in (_STORED, _DEFLATED):
        yield PngError("PB103", "stored or deflated members", f"compression method {member.method}")
    if max(member.size, member.packed) > MAX_BYTES:
        yield PngError("PB103", f"at most {MAX_BYTES:,} bytes per member", f"{member.size:,} bytes")
    if member.size > MAX_RATIO * member.packed:
        yield PngError("PB103", f"a compression ratio of at most {MAX_RATIO}", "a higher one")
    if member.name.lower().endswith(ARCHIVES):
        yield PngError("PB103", "no archive inside the archive", "one")


def _inflate(packed: bytes, size: int) -> bytes:
    """Return the inflated bytes of raw deflate data.

    At most `size` + 1 bytes are inflated, which is enough to detect data that are too long.

    Raises:
        PngError: PB305, the data are damaged, cut, or longer than `size`.
    """
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        data = inflate.decompress(packed, size + 1)
    except zlib.error as error:
        raise PngError("PB305", "a deflated member", "damaged data") from error
    if not inflate.eof or inflate.unused_data:
        raise PngError("PB305", "the size and checksum that its archive declares", "others")
    return data
