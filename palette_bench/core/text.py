"""Text and names of other programs: encodings, CSV tables, leftover files."""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator

_OTHERS = {
    b"PK\x03\x04": "a zip or an Excel workbook: save it as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: save it as CSV UTF-8",
    b"\x1f\x8b": "gzip: unpack it first",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
}


def decode_text(data: bytes) -> str:
    """Return the text of UTF-8 bytes, with or without byte order mark, or of UTF-16 bytes with one.

    Raises:
        ValueError: the bytes are neither; the message names their kind, or the first faulty line.
    """
    kind = next((words for start, words in _OTHERS.items() if data.startswith(start)), "")
    if kind:
        raise ValueError(kind)
    try:
        if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"no UTF-8 in line {line}: save it as UTF-8") from error


def composed(name: str) -> str:
    """Return a name in Unicode form NFC, because some systems store accents as separate characters."""
    return unicodedata.normalize("NFC", name)


def table_rows(data: bytes, *, comments: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV table with their line numbers, the header first.

    The delimiter is a comma, semicolon or tab: the one that occurs most often in the header. Empty rows,
    empty columns at the right, and a first line such as `sep=;`, all added by spreadsheets, are left out. If
    `comments`, lines that begin with # are left out, too.

    Raises:
        ValueError: the data are not text, or not a CSV table.
    """
    text, skipped = decode_text(data), 0
    first, _, rest = text.partition("\n")
    if first.strip().lower() in {"sep=,", "sep=;", "sep=\t"}:
        text, skipped = rest, 1
    if comments:
        text = re.sub(
            r"^#.*$", "", text, flags=re.MULTILINE
        )  # leaves empty lines, so that the line numbers stay right
    head = text.lstrip("\r\n").partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=max(",;\t", key=head.count))
    columns = 0
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = max(at for at, cell in enumerate(cells, 1) if cell.strip())
            while len(cells) > columns and not cells[-1].strip():
                cells.pop()
            yield reader.line_num + skipped, cells
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num + skipped}: {error}") from error


_LITTER = frozenset(
    {".DS_Store", ".localized", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "Icon\r"}
)
_LITTER_FOLDERS = frozenset(
    {"__MACOSX", ".ipynb_checkpoints", ".Trashes", ".Spotlight-V100", ".fseventsd", "@eaDir"}
)


def is_litter(name: str) -> bool:
    """Return whether a POSIX relative name, or a folder above it, is known litter.

    Litter is what file managers, network disks and notebooks leave behind.
    Names such as `._a.png` count: macOS writes such a twin beside `a.png` on disks of other systems.
    """
    *folders, last = name.rstrip("/").split("/")
    return (
        last in _LITTER
        or last in _LITTER_FOLDERS
        or last.startswith("._")
        or not _LITTER_FOLDERS.isdisjoint(folders)
    )


def duration(seconds: float) -> str:
    """Return a duration in readable units: 45 s, 12 min, 3 h 20 min, 5 d 2 h, 3 years."""
    minutes, hours, days = round(seconds / 60), int(seconds // 3600), int(seconds // 86400)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 90:
        return f"{minutes} min"
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{days} d {hours % 24} h" if days < 730 else f"{days // 365:,} years"
