"""`scorecard.json`, the scores of one method on one set, and its per-image table.

Source: reports and studies, sections 1.3 and 1.4.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
from pydantic import Field

from palette_bench.core import atomic
from palette_bench.core.errors import PaletteBenchError, Problem, RecordError, StorageError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.notebook import html_table
from palette_bench.core.records import Part, Record, Sha, Text, read_file
from palette_bench.core.types import AnyPath, Direction
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.tasks.protocol import UnderProtocol

FOOL_RATE = "fool_rate@"  # prefix of the keys of human studies; the display time follows
EXTERNAL = "external:"  # prefix of the keys of other programs' numbers; NAME@PROGRAM follows


class Score(Part):
    """One number: value, interval and origin. If the value is None, a note says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    se: float | None = None
    level: float = 0.95
    interval: str | None = None
    n: int
    direction: Direction
    unit: str
    extractor: str | None = None
    reference: Sha | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        return html_table(f"{self.n:,} images", _SCORE_HEADS, [_score_cells(self)])


_SCORE_HEADS = ("value", "low", "high", "unit", "network", "notes")


def _score_cells(score: Score) -> tuple[object, ...]:
    """Return a score as the cells of a table in a notebook, below `_SCORE_HEADS`."""
    shown = map(_short, (score.value, score.low, score.high))
    return *shown, score.unit, score.extractor, ", ".join(score.notes)


def against_originals(score: Score) -> bool:
    """Return whether a distance was measured against the set's own originals."""
    return score.params.get("reference") == "originals"


def took_originals_as_fixed(score: Score) -> bool:
    """Return whether a score's interval leaves out the spread of the originals, as in earlier versions."""
    return against_originals(score) and score.interval in ("influence-v1", "ustat-v1")


class Fingerprints(Part):
    """The fingerprints that decide whether two scorecards may share a table."""

    protocol: Sha
    set: Sha
    outputs: Sha
    references: dict[str, Sha]  # metric -> reference images and their extractor
    extractors: dict[str, Sha]


class TableLink(Part):
    """The per-image table of a scorecard; the digest covers the uncompressed bytes."""

    file: str
    sha256: Sha
    rows: int


class Scorecard(UnderProtocol, Record):
    """The scores of one method on one set."""

    kind: ClassVar[str] = "scorecard"
    added: ClassVar[Mapping[str, int]] = {"networks": 1}
    content_sha256: Sha
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    method: Method
    training: Training
    sampling: Sampling
    declared: Declared
    source: str
    task: str
    variant: str | None
    fingerprints: Fingerprints
    n_expected: int
    n_scored: int
    scores: dict[str, Score]
    per_image: TableLink
    problems: tuple[Problem, ...]
    environment: dict[str, str | bool | None]
    parents: tuple[Sha, ...] = ()
    networks: dict[str, Text] | None = None  # extractor -> licence and maker of its pinned weights

    @classmethod
    def read(cls, path: AnyPath) -> Scorecard:
        """Read a scorecard and check that it was not edited.

        Raises:
            RecordError: PB401-PB403, PB411, the file is not a valid scorecard; PB407, its content was
                changed; PB601, it carries the declaration of another protocol than it was scored under.
            StorageError: PB801, the file cannot be read.
        """
        path = Path(path)
        card = super().read(path)
        if card.digest() != card.content_sha256:
            expected, found = card.content_sha256[:12], card.digest()[:12]
            fix = "score the submission again; a card is never edited"
            raise RecordError.of("PB407", path.name, expected=expected, found=found, fix=fix)
        if card.declaration and card.declaration.fingerprint != card.fingerprints.protocol:
            expected, found = card.fingerprints.protocol[:12], card.declaration.fingerprint[:12]
            fix = "score the submission again; a card carries the declaration of its own set"
            raise RecordError.of("PB601", path.name, expected=expected, found=found, fix=fix)
        return card

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {_short(score.value)}" for name, score in self.scores.items())
        return f"<Scorecard {self._title}: {values}>"

    __str__ = __repr__  # what `print` shows, too; pydantic's would show every key

    def _repr_html_(self) -> str:
        rows = [(name, *_score_cells(score)) for name, score in self.scores.items()]
        return html_table(self._title, ("metric", *_SCORE_HEADS), rows)

    @property
    def _title(self) -> str:
        asked = "/".join(filter(None, (self.protocol, self.task, self.variant)))
        return f"{self.method.slug} {self.method.version} on {asked}, {self.n_scored:,} images"

    def signed(self) -> Scorecard:
        """Return the scorecard with its digest filled in."""
        return self.model_copy(update={"content_sha256": self.digest()})

    @property
    def fool_rates(self) -> tuple[str, ...]:
        """Return the keys of the fool rates, one per display time."""
        return tuple(sorted(key for key in self.scores if key.startswith(FOOL_RATE)))

    @property
    def external(self) -> tuple[str, ...]:
        """Return the keys of the numbers that other programs computed; they never rank."""
        return tuple(sorted(key for key in self.scores if key.startswith(EXTERNAL)))

    def supersedes(self, other: Scorecard) -> bool:
        """Return whether this scorecard is `other` with human studies or external columns added alone."""
        return (
            other.content_sha256 in self.parents
            and (self.method, self.fingerprints) == (other.method, other.fingerprints)
            and all(self.scores.get(key) == score for key, score in other.scores.items())
            and all(key in other.scores or key.startswith((FOOL_RATE, EXTERNAL)) for key in self.scores)
        )

    @property
    def watermarks(self) -> tuple[str, ...]:
        """Return the notes that bar scores of this scorecard from ranking, e.g. `random-weights`."""
        return tuple(sorted({note for s in self.scores.values() for note in s.notes if note in BARRING}))


UNPINNED = "unpinned-weights"  # the weights are a user's own file, known only by its digest

# notes that bar a score from ranking (metrics, section 6)
BARRING = {
    "rank-deficient",
    "low-coverage",
    "preview",
    "audit",
    "random-weights",
    "partial",
    "imported-reference",
    "partial-reference",
    "simulated-votes",
    "peeked",
}


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


_LARGEST_TABLE = 1 << 26  # unpacked bytes: 50,000 images with 1 kB of numbers each


def table_path(card: Path) -> Path:
    """Return the path of a scorecard's per-image table: CARD.images.csv.gz beside the scorecard."""
    return card.with_name(f"{card.name.removesuffix('.json')}.images.csv.gz")


def write_scorecard(
    card: Scorecard, table: pd.DataFrame, path: Path, *, keep_equal: bool = False
) -> Scorecard:
    """Write the per-image table, then the scorecard; return it with table link and digest filled in.

    With `keep_equal`, a card at `path` that differs only in its day and machine is kept and returned.
    """
    # canonical CSV: sorted by id, floats by repr, line ends LF
    data = table.sort_values("image_id").to_csv(index=False, lineterminator="\n").encode()
    link = TableLink(file=table_path(path).name, sha256=sha256(data), rows=len(table))
    finished = card.model_copy(update={"per_image": link}).signed()
    atomic.make_folder(path.parent)
    atomic.sweep(path.parent)
    if keep_equal and (there := _equal_card(finished, path)):
        return there
    atomic.write_gzip(table_path(path), data)
    finished.write(path)
    return finished


def _equal_card(card: Scorecard, path: Path) -> Scorecard | None:
    """Return the card at `path` if it and its table hold what `card` and its table hold, else None."""
    try:
        there = Scorecard.read(path)
        read_table(there, path)
    except PaletteBenchError:
        return None
    same = ("date", "environment", "content_sha256")
    copied = card.model_copy(update={name: getattr(there, name) for name in same})
    return there if copied == there else None


def read_scorecard(path: Path) -> Scorecard:
    """Read a scorecard and check that it was not edited; see `Scorecard.read`."""
    return Scorecard.read(path)


def read_table(card: Scorecard, path: Path) -> pd.DataFrame:
    """Return the per-image table beside the scorecard at `path`.

    Raises:
        RecordError: PB408, the table is absent or is not the one that was written with the scorecard.
    """
    file = table_path(path)  # not the name inside the scorecard, which may come from anyone
    try:
        data = _inflate(read_file(file))
    except (zlib.error, StorageError) as error:
        reason, fix = _without_table(file)
        finding = problem("PB408", file.name, expected="the card's table", found=reason, fix=fix)
        raise RecordError(finding) from error
    if sha256(data) != card.per_image.sha256:
        fix = "use the table that `score` wrote; saving it in a spreadsheet changes it"
        expected, found = card.per_image.sha256[:12], sha256(data)[:12]
        raise RecordError.of("PB408", file.name, expected=expected, found=found, fix=fix)
    return pd.read_csv(io.BytesIO(data), dtype={"image_id": str})


def _without_table(file: Path) -> tuple[str, str]:
    """Return what was found in place of a table, and the fix; browsers and file managers unpack tables."""
    plain = file.with_suffix("")
    if not file.is_file():
        if plain.is_file():
            return f"unpacked, {plain.name}", f"gzip {plain}"
        return "no such file", "put the table that `score` wrote beside its card"
    if not read_file(file).startswith(b"\x1f\x8b"):
        return "no gzip file: unpacked under its old name?", f"mv {file} {plain} && gzip {plain}"
    return "a gzip file that ends early or is damaged", "copy it again from where `score` wrote it"


def _inflate(packed: bytes) -> bytes:
    """Return gunzipped bytes, at most as many as a table may have: a small file can unpack to gigabytes."""
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS)
    data = inflate.decompress(packed, _LARGEST_TABLE)
    if not inflate.eof or inflate.unused_data:
        raise zlib.error("ends early, or does not end")
    return data
