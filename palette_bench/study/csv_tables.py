"""CSV tables of typed rows. Every bad cell is reported with its line; unknown columns are ignored.

Empty cells are missing values. Source: reports and studies, section 7.3.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

from pydantic import ValidationError

from palette_bench.core.errors import Problem, RecordError, problem, suggest
from palette_bench.core.records import Part
from palette_bench.core.text import table_rows

P = TypeVar("P", bound=Part)

# (column, expected value) -> [(line, found value)]
Faults = dict[tuple[str, str], list[tuple[int, str]]]


def table_text(cls: type[P], rows: Iterable[P]) -> str:
    """Return rows as canonical CSV: columns in the order of the model's fields, LF, missing values empty."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(cls.model_fields)
    names = tuple(cls.model_fields)
    for row in rows:
        values = (getattr(row, name) for name in names)
        writer.writerow(
            "" if value is None else repr(value) if isinstance(value, float) else value for value in values
        )
    return file.getvalue()


def parse_table(cls: type[P], data: bytes, name: str) -> list[tuple[int, P]]:
    """Return the rows of a CSV table with their line numbers.

    Args:
        cls: the model of a row; its fields are the columns.
        data: the file's bytes, UTF-8.
        name: name of the file in error messages.

    Raises:
        RecordError: PB401, not UTF-8 or not CSV; PB510, columns are missing or repeated; PB501, bad cells,
            all of them.
    """
    (_, header), *lines = table_lines(data, name)
    _require_columns(cls, header, name)
    nullable = {name for name, field in cls.model_fields.items() if not field.is_required()}
    faults: Faults = defaultdict(list)
    rows: list[tuple[int, P]] = []
    for line, cells in lines:
        if len(cells) != len(header):
            faults["row", f"{len(header)} cells"].append((line, f"{len(cells)} cells"))
            continue
        known = {name: cell for name, cell in zip(header, cells, strict=True) if name in cls.model_fields}
        given = {name: cell for name, cell in known.items() if cell or name not in nullable}
        try:
            rows.append((line, cls.model_validate_strings(given)))
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                column = str(fault["loc"][0]) if fault["loc"] else "row"
                found = known.get(column, "") if fault["loc"] else ""
                faults[column, fault["msg"]].append((line, repr(found)[:80]))
    if faults:
        raise RecordError(*fault_problems("PB501", faults, name))
    return rows


def fault_problems(code: str, faults: Faults, name: str) -> list[Problem]:
    """Return one problem per column and expected value; its ids are the lines concerned."""
    return [
        problem(
            code,
            f"{name}: {column}",
            expected=expected,
            found=found[0][1],
            fix="correct or remove these lines",
            ids=[f"line {line}" for line, _ in found],
        )
        for (column, expected), found in faults.items()
    ]


def table_lines(data: bytes, name: str) -> list[tuple[int, list[str]]]:
    """Return the rows of a table with their line numbers, header first. An empty file gives one empty header.

    Raises:
        RecordError: PB401, the data is not a table.
    """
    try:
        return list(table_rows(data)) or [(1, [])]
    except ValueError as error:
        fix = "save the table as CSV UTF-8"
        raise RecordError(
            problem("PB401", name, expected="a CSV table", found=str(error), fix=fix)
        ) from error


def _require_columns(cls: type[Part], header: Sequence[str], name: str) -> None:
    problems, where = [], f"{name}: header"
    for column in cls.model_fields:
        if column not in header:
            fix = suggest(column, header)
            problems.append(problem("PB510", where, expected=f"a column {column}", fix=fix))
        elif header.count(column) > 1:
            problems.append(problem("PB510", where, expected=f"one column {column}", found="several"))
    if problems:
        raise RecordError(*problems)
