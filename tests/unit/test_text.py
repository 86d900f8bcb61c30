"""Text and tables as other programs save them."""

from __future__ import annotations

import pytest

from palette_bench.core.text import decode_text, is_litter, table_rows

ROWS = [(1, ["file", "label"]), (2, ["a.png", "3"]), (3, ["b, c.png", "4"])]


@pytest.mark.trust("archives: spreadsheets")
@pytest.mark.parametrize(
    "text",
    [
        'file,label\na.png,3\n"b, c.png",4\n',
        "file;label\na.png;3\nb, c.png;4\n",
        "file\tlabel\r\na.png\t3\r\nb, c.png\t4\r\n",
        "file;label;\na.png;3;\nb, c.png;4;\n;;\n;;\n",
        '"file";"label"\n"a.png";"3"\n"b, c.png";"4"',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_is_read_as_any_spreadsheet_saves_it(text: str, encoding: str) -> None:
    assert list(table_rows(text.encode(encoding))) == ROWS


@pytest.mark.trust("archives: spreadsheets")
def test_the_line_that_excel_puts_first_is_passed_over_and_lines_keep_their_numbers() -> None:
    assert list(table_rows(b"sep=;\nfile;label\n\na.png;3\n")) == [
        (2, ["file", "label"]),
        (4, ["a.png", "3"]),
    ]
    assert list(table_rows(b"")) == []


@pytest.mark.trust("archives: spreadsheets")
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PK\x03\x04rest", "an Excel workbook: save it as CSV"),
        (b"\xd0\xcf\x11\xe0rest", "an old Excel workbook"),
        (b"\x1f\x8brest", "gzip"),
        (b"file,label\n\xe9.png,1\n", "no UTF-8 in line 2"),
        (b'file,label\n"a.png,1\n', "line 2"),
    ],
)
def test_what_is_no_table_is_told(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        list(table_rows(data))


def test_text_of_an_odd_number_of_bytes_is_no_utf16() -> None:
    with pytest.raises(ValueError, match="save it as UTF-8"):
        decode_text("ab".encode("utf-16") + b"x")


@pytest.mark.trust("archives: litter")
def test_litter_is_known_by_its_name_and_its_folder() -> None:
    litter = (".DS_Store", "input/Thumbs.db", "._a.png", "__MACOSX/a/b.png", "x/.ipynb_checkpoints/a.png")
    assert all(map(is_litter, litter))
    assert not any(map(is_litter, ("a.png", "_.png", "ipynb_checkpoints/a.png", ".a.png", "DS_Store")))
