"""Text that other programs wrote: byte order marks, UTF-16, and tables as spreadsheets save them."""

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
    """Return text of UTF-8, with or without its mark, or of UTF-16 with one.

    Raises:
        ValueError: it is neither; says what it is, or where it goes wrong.
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
    """Return a name with accents composed (NFC): some machines store them apart, and it looks the same."""
    return unicodedata.normalize("NFC", name)


def table_rows(data: bytes, *, comments: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV table with their line numbers, the header first.

    Columns are parted by commas, semicolons or tabs, whichever the header holds most of. Spreadsheets add
    rows and columns of empty cells, and a first line `sep=;`: they are left out, and so are lines that begin
    with #, if `comments`.

    Raises:
        ValueError: no text, or no table.
    """
    text, skipped = decode_text(data), 0
    first, _, rest = text.partition("\n")
    if first.strip().lower() in {"sep=,", "sep=;", "sep=\t"}:
        text, skipped = rest, 1
    if comments:
        text = re.sub(
            r"^#.*$", "", text, flags=re.MULTILINE
        )  # the empty lines keep the numbers of the others
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
