"""The scorecard report: one card as one HTML file, or as a folder that holds every picture.

Source: reports and studies, sections 3 and 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from palette_bench.board.album import Album, Amount
from palette_bench.board.folder import FolderReport
from palette_bench.board.pictures import Gallery, open_gallery, redistributable
from palette_bench.board.previews import Embedded, Previews, Size
from palette_bench.board.record import read_proven
from palette_bench.board.sheet import Frame, Sheet
from palette_bench.core import atomic
from palette_bench.core.errors import UsageError
from palette_bench.core.types import SILENT, Progress
from palette_bench.scoring.scorecard import Scorecard
from palette_bench.tasks.protocol import load

Format: TypeAlias = Literal["file", "dir"]
Images: TypeAlias = Literal["none", "thumbs", "full", "auto"]

MAX_BYTES = 8_000_000
MAX_CARDS = 96
MAX_CARDS_JPEG = 48  # previews that must not add artefacts of their own are three times as large

_ATTEMPTS: tuple[tuple[Amount, Size | None, str], ...] = (
    (Amount(), None, ""),
    (Amount(extremes=4), None, "4 pictures a list instead of 8"),
    (Amount(extremes=4, grid=12), None, "4 pictures a list instead of 8, and 12 in the grid instead of 24"),
    (Amount(extremes=4, grid=12), "thumbs", "4 pictures a list, 12 in the grid, all of them small"),
)


@dataclass(frozen=True)
class Options:
    """How a report is written.

    Attributes:
        format: one file, or a folder with a page for every 200 pictures.
        images: `auto` is `full` where the source's terms let pictures be passed on, else `none`.
        seed: of the uncurated grid; published pages use 0.
    """

    format: Format = "file"
    images: Images = "auto"
    seed: int = 0


@dataclass(frozen=True)
class Written:
    """A report on disk: its card, its first page, and the frame of its pictures."""

    card: Scorecard
    page: Path
    frame: Frame


_DEFAULT = Options()


def write_report(
    card: Path,
    out: Path,
    *,
    benchset: Path | None = None,
    submission: Path | None = None,
    against: Sequence[Path] = (),
    options: Options = _DEFAULT,
    progress: Progress = SILENT,
) -> Written:
    """Write a card as a page that asks nothing of the network; pictures need the set and the submission.

    Args:
        card: the scorecard's file.
        out: the page, or the folder.
        benchset: the set it was scored on.
        submission: what it was scored from.
        against: other cards of the set, whose paired differences the page tells.
        options: how it is written.
        progress: told of every picture.

    Raises:
        UsageError: one of the two folders is given without the other, or pictures are asked for
            without them.
        RecordError: PB407, PB408, the card or its table was edited.
        IncomparableError: PB602, the folders are not those the card was scored from; PB601-PB604, a card
            of `against` cannot share a table with this one.
        StorageError: PB809, the folder to write holds something else.
    """
    _refuse(benchset, submission, options)
    proven, table = read_proven(card)
    size = shown_size(proven, options.images)
    sheet = Sheet(proven, table, options.seed, [read_proven(path) for path in against])
    with _pictures(proven, benchset, submission, size, progress) as gallery:
        if options.format == "dir":
            report = FolderReport(sheet, gallery, size or "full")
            report.write(out, card, progress)
            return Written(proven, out / "index.html", report.frame)
        text, frame = page(sheet, gallery, size or "full")
        atomic.write_text(out, text)
    return Written(proven, out, frame)


def _refuse(benchset: Path | None, submission: Path | None, options: Options) -> None:
    if (benchset is None) != (submission is None):
        raise UsageError("pictures need both folders: give --set and --submission together, or neither")
    if benchset is None and options.images in {"thumbs", "full"}:
        raise UsageError(f"--images {options.images} needs the pictures: give --set and --submission")


def shown_size(card: Scorecard, images: Images) -> Size | None:
    """Return the previews' size, or None where the page holds no pictures."""
    if images == "auto":
        return "full" if redistributable(card) else None
    return None if images == "none" else images


@contextmanager
def _pictures(
    card: Scorecard, benchset: Path | None, submission: Path | None, size: Size | None, progress: Progress
) -> Iterator[Gallery | None]:
    if benchset is None or submission is None or size is None:
        yield None
        return
    with open_gallery(card, benchset, submission, progress) as gallery:
        yield gallery


def page(sheet: Sheet, gallery: Gallery | None, size: Size = "full") -> tuple[str, Frame]:
    """Return the report as one file's HTML, within the budget of section 6, and its frame.

    Too large, it shows fewer pictures, then smaller ones, and says so.
    """
    card, public = sheet.card, redistributable(sheet.card)
    full = Previews(gallery, Embedded(), size) if gallery else None
    album = Album(card, sheet.table, full, sheet.seed)
    for amount, smaller, fewer in _ATTEMPTS:
        previews = replace(full, size=smaller) if full and smaller else full
        album = Album(card, sheet.table, previews, sheet.seed) if smaller else album
        selection, frame = album.select(amount), Frame.of(previews, public=public)
        if previews and selection.size > _most_cards(card):
            continue  # never the last attempt: it has at most 40 cards
        text = sheet.page(selection, frame, note=_note(card, fewer))
        if len(text.encode()) <= MAX_BYTES:
            break
    return text, frame


def _most_cards(card: Scorecard) -> int:
    jpeg_task = load(card.protocol).task(card.task).degradation == "jpeg-v1"
    return MAX_CARDS_JPEG if jpeg_task else MAX_CARDS


def _note(card: Scorecard, fewer: str) -> str:
    limit = f"{_most_cards(card)} pictures and {MAX_BYTES // 1_000_000} MB"
    return f"One file holds at most {limit}; this page shows {fewer}." if fewer else ""
