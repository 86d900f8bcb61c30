"""Numbers of other programs on a scorecard: a CSV with a value per image becomes a score that never ranks.

The card's other numbers stay, and it keeps the digest of the card that it extends, as after a human study.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palette_bench.core.errors import Problem, RecordError, UsageError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.intervals import mean_t
from palette_bench.core.records import read_file, today
from palette_bench.core.text import table_rows
from palette_bench.core.types import Direction, ImageId
from palette_bench.scoring.scorecard import (
    EXTERNAL,
    Score,
    Scorecard,
    read_scorecard,
    read_table,
    write_scorecard,
)

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+_-]{0,59}")


@dataclass(frozen=True)
class ExternalColumn:
    """What a column of another program is: its name, the program with its version, and the better side."""

    name: str
    source: str
    direction: Direction

    def __post_init__(self) -> None:
        """Raise if name or source cannot be part of a score's key."""
        if not _NAME.fullmatch(self.name):
            raise UsageError(f"name {self.name!r}: up to 40 of a-z, 0-9, _ and -")
        if not _SOURCE.fullmatch(self.source):
            raise UsageError(
                f"source {self.source!r}: program and version, up to 60 letters, digits, . + _ -"
            )

    @property
    def key(self) -> str:
        """Return the key of score and table column; numbers of two programs never share one."""
        return f"{EXTERNAL}{self.name}@{self.source}"


def add_column(card_path: Path, values_path: Path, column: ExternalColumn, out: Path) -> Scorecard:
    """Write a card anew with a column of another program and its mean, and return it.

    Args:
        card_path: the card; it is not changed.
        values_path: CSV with columns `image_id` and `value`; file names `ID.png` stand for ids.
        column: what the values are.
        out: the new card; its table lies beside it.

    Raises:
        RecordError: PB407, PB408, card or table was edited; PB404, the card has the column; PB401, PB510, the
            file is no such table; PB201-PB203, PB403, ids or values are wrong; lists all problems.
    """
    card = read_scorecard(card_path)
    table = read_table(card, card_path)
    if column.key in card.scores:
        fix = "give another --name or --source; a card is never edited"
        raise RecordError.of("PB404", card_path.name, expected="a new column", found=column.key, fix=fix)
    data = read_file(values_path)
    values = _read_values(data, values_path.name, [str(i) for i in table["image_id"]])
    spread = mean_t(values)
    score = Score(
        value=float(values.mean()),
        low=spread.low if spread else None,
        high=spread.high if spread else None,
        se=spread.se if spread else None,
        interval=spread.method if spread else None,
        n=len(values),
        direction=column.direction,
        unit="none",
        params={"source": column.source, "file_sha256": sha256(data)},
        notes=("external",) if spread else ("external", "n<2"),
    )
    fields = {
        "date": today(),
        "scores": card.scores | {column.key: score},
        "parents": (*card.parents, card.content_sha256),
    }
    return write_scorecard(card.model_copy(update=fields), table.assign(**{column.key: values}), out)


def _read_values(data: bytes, file: str, ids: list[ImageId]) -> NDArray[np.float64]:
    """Return the values of a CSV in the order of `ids`, (N,) float64."""
    try:
        (_, header), *lines = table_rows(data)
    except ValueError as error:
        raise RecordError.of("PB401", file, found=str(error)[:200], fix="save it as CSV") from error
    names = [name.strip() for name in header]
    if lacking := [name for name in ("image_id", "value") if names.count(name) != 1]:
        fix = "write a header with image_id and value, each once"
        raise RecordError.of("PB510", file, found=", ".join(names)[:200], fix=fix, ids=lacking)
    id_at, value_at = names.index("image_id"), names.index("value")
    found: dict[ImageId, float] = {}
    counts: Counter[ImageId] = Counter()
    bad = []
    for line, cells in lines:
        if len(cells) <= max(id_at, value_at):
            bad.append(f"line {line}")
            continue
        image_id = cells[id_at].strip().removesuffix(".png")
        counts[image_id] += 1
        found[image_id] = _number(cells[value_at])
        if not math.isfinite(found[image_id]):
            bad.append(f"line {line}")
    problems = [*_id_problems(counts, ids, file)]
    if bad:
        fix = "write one finite number per image"
        problems.append(problem("PB403", file, expected="finite numbers", found="others", fix=fix, ids=bad))
    if problems:
        raise RecordError(*problems)
    return np.array([found[image_id] for image_id in ids], np.float64)


def _id_problems(counts: Counter[ImageId], ids: list[ImageId], file: str) -> list[Problem]:
    """Return the problems of ids: the file must name exactly the card's images, each once."""
    faults = {
        "PB201": [i for i in ids if i not in counts],
        "PB202": sorted(counts.keys() - set(ids)),
        "PB203": sorted(i for i, count in counts.items() if count > 1),
    }
    expected = f"the {len(ids):,} images of the card, each once"
    fix = "compute the column on the outputs of this card's submission"
    return [
        problem(code, file, expected=expected, fix=fix, ids=found) for code, found in faults.items() if found
    ]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
