"""Checks that an encoded JPEG or PNG is complete, so that no decoded pixel is made up.

Decoders fill in what a damaged file lacks: libjpeg with gray, readers based on libpng with black. Sources:
ISO/IEC 10918-1, annex B (markers) and G.1 (progressive scans); the PNG specification, sections 5 (chunks) and
8.2 (interlacing).
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
# any marker except a stuffed byte or a restart marker
_SCAN_END = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]", re.DOTALL)
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # PNG colour type -> samples per pixel
# Adam7 interlacing, per pass: first column, first row, column step, row step
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_PIECE = 1 << 20  # bytes inflated at a time
_FILLED = 128  # level that libjpeg gives every channel of a block without data
# start-of-frame markers
_PROGRESSIVE, _FRAMES = 0xC2, {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}

_Pixels: TypeAlias = NDArray[np.uint8]

_KINDS = (
    (b"RIFF", "a WebP image"),
    (b"BM", "a BMP image"),
    (b"GIF8", "a GIF image"),
    (b"II*\0", "a TIFF image"),
    (b"MM\0*", "a TIFF image"),
    (b"P6", "a PPM image"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip file"),
    (b"version https://git-lfs", "a pointer of Git LFS: fetch the files with `git lfs pull`"),
    (b"<!doctype", "a web page"),
    (b"<html", "a web page"),
    (b"<?xml", "an XML text"),
)


def kind_of(data: bytes) -> str:
    """Return a description of data that holds neither a JPEG nor a PNG."""
    if not data:
        return "an empty file"
    if not data.strip(b"\0"):
        return "only zero bytes: a failed download?"
    if data[4:8] == b"ftyp":
        return "a HEIC or AVIF image, or a video"
    start = data[:64].lstrip()
    found = next((words for head, words in _KINDS if start[: len(head)].lower() == head.lower()), "")
    return f"{found}: convert it to PNG" if found.endswith("image") else found or "not a JPEG or PNG inside"


def fault_of(data: bytes, *, decoding: bool = True, pixels: _Pixels | None = None) -> str:
    """Return why an encoded JPEG or PNG is incomplete or damaged, or an empty string if it is whole.

    Data after the end of the image is ignored. Data of another format yields its description.

    Args:
        data: content of the file.
        decoding: whether to also decode a JPEG three times, the only way to tell whether its last scan was
            cut.
        pixels: the pixels of a JPEG in its own mode, if it was decoded before; spares one of the three.
    """
    if data.startswith(_PNG):
        return _png_fault(data)
    return _jpeg_fault(data, pixels, decoding=decoding) if data.startswith(_JPEG) else kind_of(data)


def has_end(data: bytes) -> bool:
    """Return whether a JPEG or PNG has its end marker; the last 4096 bytes are searched first."""
    if data.startswith(_PNG):
        return b"IEND" in data[-4096:] or not _png_fault(data, pixels=False)
    return b"\xff\xd9" in data[-4096:] or _jpeg_layout(data) is not None


# --- PNG ---


def _png_fault(data: bytes, *, pixels: bool = True) -> str:
    at, kind, header, body = len(_PNG), b"", b"", []
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, at) if at + 12 <= len(data) else (len(data), b"")
        if length > len(data) - at - 12:
            return "truncated: the end marker is missing"
        content = data[at + 8 : at + 8 + length]
        if struct.unpack_from(">I", data, at + 8 + length)[0] != zlib.crc32(kind + content):
            return f"damaged: the checksum of {kind.decode('ascii', 'replace')} is wrong"
        header = content if kind == b"IHDR" else header
        body += [content] if kind == b"IDAT" else []
        at += 12 + length
    return _png_stream_fault(header, b"".join(body)) if pixels else ""


def _png_stream_fault(header: bytes, body: bytes) -> str:
    """Return what is wrong with the compressed pixels, or an empty string; they must inflate to all rows."""
    if len(header) != 13:
        return "damaged: no header"
    width, height, depth, colour, _, _, interlaced = struct.unpack(">2L5B", header)
    bits = depth * _SAMPLES.get(colour, 0)
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    sizes = [(-(-(width - x) // dx), -(-(height - y) // dy)) for x, y, dx, dy in passes]
    expected = sum(
        rows * (1 + (columns * bits + 7) // 8) for columns, rows in sizes if min(rows, columns) > 0
    )
    inflate, found = zlib.decompressobj(), 0
    try:
        # piece by piece, so that a decompression bomb is never held in memory
        while found < expected and (piece := inflate.decompress(body, _PIECE)):
            found, body = found + len(piece), inflate.unconsumed_tail
    except zlib.error:
        return "damaged: its pixel data cannot be decompressed"
    return f"truncated: {found:,} of {expected:,} bytes of pixels" if found < expected else ""


# --- JPEG ---


@dataclass
class _JpegLayout:
    """The end of a JPEG and the content of its scans.

    Attributes:
        end: offset of the end marker.
        progressive: whether the coefficients are spread over several scans.
        components: component identifiers of the frame.
        precise: component -> coefficients whose last bit has been sent.
    """

    end: int = 0
    progressive: bool = False
    components: tuple[int, ...] = ()
    precise: dict[int, set[int]] = field(default_factory=dict)


def _jpeg_layout(data: bytes) -> _JpegLayout | None:
    """Return the layout that a JPEG's markers describe, or None if the end marker is missing."""
    at, found = 2, _JpegLayout()
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:  # fill bytes
            at += 1
            continue
        if marker == 0xD9:
            found.end = at
            return found
        if marker in range(0xD0, 0xD9) or marker == 1:  # markers without content
            at += 2
            continue
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        content = data[at + 4 : at + 2 + length]
        at += 2 + length
        if marker in _FRAMES:
            found.progressive = marker == _PROGRESSIVE
            found.components = tuple(content[6 + 3 * i] for i in range((len(content) - 6) // 3))
        elif marker == 0xDA:
            _note_scan(found, content)
            end = _SCAN_END.search(data, at)
            if end is None:
                return None
            at = end.end() - 2
    if data[at : at + 2] == b"\xff\xd9":
        found.end = at
        return found
    return None


def _note_scan(layout: _JpegLayout, content: bytes) -> None:
    """Record which coefficients a scan completes to their last bit."""
    n = content[0] if content else 0
    if len(content) < 4 + 2 * n:
        return
    first, last, bits = content[1 + 2 * n : 4 + 2 * n]
    for i in range(n):
        if bits & 15 == 0:  # successive approximation: no lower bits follow
            layout.precise.setdefault(content[1 + 2 * i], set()).update(range(first, last + 1))


def _jpeg_fault(data: bytes, pixels: _Pixels | None, *, decoding: bool) -> str:
    layout = _jpeg_layout(data)
    if layout is None:
        return "truncated: the end marker is missing"
    if layout.progressive and any(len(layout.precise.get(c, ())) < 64 for c in layout.components):
        return "truncated: the last scans are missing"
    if not decoding:
        return ""
    # Insert extra bytes before the end marker and decode again. A complete scan has ended by then, and the
    # decoder skips the bytes; a cut scan reads them as its own data, and pixels change. Both patterns begin
    # with a bit that libjpeg would not pad with, and no code of the usual tables reads the same in both.
    pixels = _decoded(data) if pixels is None else pixels
    for more in (b"\xaa", b"\xe3"):
        if not np.array_equal(pixels, _decoded(data[: layout.end] + 64 * more + data[layout.end :])):
            return "truncated: its pixels end before the image does"
    return ""


def ends_filled(last: _Pixels) -> bool:
    """Return whether the last pixel of a JPEG, in the file's own mode, has libjpeg's fill level."""
    return bool((np.abs(np.asarray(last, np.int16) - _FILLED) <= 1).all())


def _decoded(data: bytes) -> _Pixels:
    """Return the pixels of a JPEG in its own mode."""
    with PillowImage.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return np.asarray(image)
