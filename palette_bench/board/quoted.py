"""The paper's own numbers, quoted beside a board. They are never ranked, tied, tested or averaged.

Source: protocol, section 11.
"""

from __future__ import annotations

import csv
from functools import cache

from palette_bench.core.records import Part
from palette_bench.core.resources import protocol_file, protocol_ids

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
    # table, split and method -> the lines that the paper prints there
    groups: dict[tuple[str, str, str], list[dict[str, str]]] = {}
    for line in _paper(protocol):
        if (
            line["task"] == task
            and line["dataset"] in (dataset, "unstated")
            and line["variant"] in (variant, "all")
            and line["metric"] not in _NO_METRICS
        ):
            groups.setdefault((line["table"], line["split"], line["method"]), []).append(line)
    rows = [
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
    shown: list[QuotedRow] = []
    for row in sorted(rows, key=lambda r: (r.tables[0] in _REPEATING, r.tables[0])):
        at = next((i for i, other in enumerate(shown) if _repeats(row, other)), None)
        if at is None:
            shown.append(row)
            continue
        kept = shown[at]
        alias = [f"printed as {row.method} in table {row.tables[0]}"] if row.method != kept.method else []
        merged = {
            "tables": tuple(sorted({*kept.tables, *row.tables})),
            "values": {**row.values, **kept.values},
            "notes": tuple(dict.fromkeys([*kept.notes, *row.notes, *alias])),
        }
        shown[at] = kept.model_copy(update=merged)
    return tuple(sorted(shown, key=lambda r: r.tables[0]))


def _repeats(row: QuotedRow, other: QuotedRow) -> bool:
    """Return whether two rows share at least two metrics and all values of their shared metrics are equal."""
    shared = row.values.keys() & other.values.keys()
    agree = all(row.values[key] == other.values[key] for key in shared)
    return row.split == other.split and len(shared) >= 2 and agree


@cache
def _paper(protocol: str) -> tuple[dict[str, str], ...]:
    """Return the rows of the protocol's paper; none if the protocol quotes no paper, or is not shipped."""
    if protocol not in protocol_ids():
        return ()
    try:
        data = protocol_file(protocol, FILE)
    except FileNotFoundError:
        return ()
    return tuple(csv.DictReader(data.decode("utf-8").splitlines()))
