"""The paper's own numbers, quoted beside a board. They are never ranked, tied, tested or averaged.

Source: protocol, section 11.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from functools import cache

from palette_bench.core.records import Part
from palette_bench.core.resources import protocol_file

FILE = "paper_scores.csv"
_DATASETS = {"imagenet-ctest10k": "imagenet", "places10k-r1": "places2", "places10k-release": "places2"}
_SAME_IMAGES = {"imagenet-ctest10k": "ctest10k", "places10k-release": "places10k"}  # source -> paper's split
_REPEATING = frozenset({2, 7})  # tables that repeat numbers of tables 4, 8 and 9
_NO_METRICS = frozenset({"parameters"})


class QuotedRow(Part):
    """One method of the paper.

    Attributes:
        tables: numbers of the paper's tables that print the values.
        other_images: whether the paper's images differ from the board's.
        values: metric -> value as printed.
    """

    method: str
    tables: tuple[int, ...]
    split: str
    other_images: bool
    values: dict[str, str]  # metric -> value as printed
    notes: tuple[str, ...]


def quoted_rows(protocol: str, task: str, variant: str, source: str) -> tuple[QuotedRow, ...]:
    """Return the paper's rows for one board, in the paper's order; none if the images are a user's folder.

    Rows must have the board's task, variant and dataset. A row without a stated dataset counts for every
    dataset; a row without a stated variant counts for none. Repeated numbers are shown once.
    """
    dataset = _DATASETS.get(source)
    if dataset is None:
        return ()
    lines = [
        line
        for line in _paper(protocol)
        if line["task"] == task
        and line["dataset"] in (dataset, "unstated")
        and line["variant"] in (variant, "all")
        and line["metric"] not in _NO_METRICS
    ]
    return tuple(_folded(_by_method(lines, source)))


@cache
def _paper(protocol: str) -> tuple[dict[str, str], ...]:
    """Return the rows of the protocol's paper; none if the protocol quotes no paper."""
    try:
        data = protocol_file(protocol, FILE)
    except FileNotFoundError:
        return ()
    return tuple(csv.DictReader(data.decode("utf-8").splitlines()))


def _by_method(lines: list[dict[str, str]], source: str) -> list[QuotedRow]:
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for line in lines:
        groups.setdefault((line["table"], line["split"], line["method"]), []).append(line)
    return [
        QuotedRow(
            method=method,
            tables=(int(table),),
            split=split,
            other_images=_SAME_IMAGES.get(source) != split,
            values={line["metric"]: line["value"] for line in group},
            notes=tuple(dict.fromkeys(line["note"] for line in group if line["note"])),
        )
        for (table, split, method), group in groups.items()
    ]


def _folded(rows: list[QuotedRow]) -> Iterable[QuotedRow]:
    """Merge rows that print the same numbers: at least two shared metrics, all shared values equal."""
    shown: list[QuotedRow] = []
    for row in sorted(rows, key=lambda r: (r.tables[0] in _REPEATING, r.tables[0])):
        at = next((i for i, other in enumerate(shown) if _repeats(row, other)), None)
        if at is None:
            shown.append(row)
        else:
            shown[at] = _merged(shown[at], row)
    return sorted(shown, key=lambda r: r.tables[0])


def _repeats(row: QuotedRow, other: QuotedRow) -> bool:
    shared = row.values.keys() & other.values.keys()
    agree = all(row.values[key] == other.values[key] for key in shared)
    return row.split == other.split and len(shared) >= 2 and agree


def _merged(kept: QuotedRow, repeated: QuotedRow) -> QuotedRow:
    same = repeated.method == kept.method
    alias = [] if same else [f"printed as {repeated.method} in table {repeated.tables[0]}"]
    return kept.model_copy(
        update={
            "tables": tuple(sorted({*kept.tables, *repeated.tables})),
            "values": {**repeated.values, **kept.values},
            "notes": tuple(dict.fromkeys([*kept.notes, *repeated.notes, *alias])),
        }
    )
