"""The scorecard report: one card as one HTML file, or as a folder that contains every image.

Source: reports and studies, sections 3 and 6.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

from palette_bench.board.image_selection import ImageCounts, ImageSelection
from palette_bench.board.record import read_proven
from palette_bench.board.report_content import ImageContext, PageRange, ReportContent
from palette_bench.core import atomic
from palette_bench.core.errors import RecordError, StorageError, UsageError, problem
from palette_bench.core.text import is_litter
from palette_bench.core.types import SILENT, ImageId, Progress
from palette_bench.pages.images import (
    Gallery,
    PreviewFiles,
    Previews,
    Size,
    embedded_preview,
    open_gallery,
    redistributable,
)
from palette_bench.pages.render import render
from palette_bench.scoring.scorecard import Scorecard, read_scorecard, table_path

# --- the report as a folder ---

PER_PAGE = 200
CARD = "scorecard.json"


class FolderReport:
    """One card's report as a folder.

    Images are written page by page, so memory holds at most one page of 200 images.
    """

    def __init__(self, sheet: ReportContent, gallery: Gallery | None, size: Size) -> None:
        """Store the content and the images; `size` is the size of the previews."""
        self._sheet = sheet
        self._store = PreviewFiles()
        self._previews = Previews(gallery, self._store, size) if gallery else None
        self._album = ImageSelection(sheet.card, sheet.table, self._previews)
        self.frame = ImageContext.of(self._previews, public=redistributable(sheet.card), beside=True)

    def write(self, out: Path, card: Path, progress: Progress) -> None:
        """Write the folder completely or not at all. An earlier report at `out` is replaced.

        Args:
            out: the folder.
            card: the card's file; it is copied beside the page, with its table.
            progress: reports every image.

        Raises:
            StorageError: PB809, `out` exists and is not a report; PB802, writing failed.
        """
        if out.exists() and not (out.is_dir() and all(is_litter(p.name) for p in out.iterdir())):
            try:
                read_scorecard(out / CARD)
            except (RecordError, StorageError) as error:
                expected, fix = "an empty folder, or a report to replace", "name another folder"
                raise StorageError(
                    problem("PB809", str(out), expected=expected, found="something else", fix=fix)
                ) from error
        ids = sorted(map(str, self._sheet.table["image_id"]))
        parts = [ids[first : first + PER_PAGE] for first in range(0, len(ids), PER_PAGE)]
        leaves = []
        for at, part in enumerate(parts):
            numbers = f"{at * PER_PAGE + 1:,} to {at * PER_PAGE + len(part):,}"
            leaves.append(PageRange(f"pictures/{at + 1:03d}.html", numbers, part[0], part[-1]))
        with atomic.whole_folder(out) as folder:
            with progress("write pages", len(ids)) as advance:
                for at, part in enumerate(parts):
                    self._commit(folder, self._leaf_page(at, part, leaves))
                    advance(len(part))
            # the first page has lossless copies of its images
            exact = replace(self._previews, exact=True) if self._previews else None
            album = ImageSelection(self._sheet.card, self._sheet.table, exact, self._sheet.seed)
            index = self._sheet.page(album.select(ImageCounts()), self.frame, pages=leaves)
            self._commit(folder, {"index.html": index})
            atomic.write_bytes(folder / CARD, card.read_bytes())
            atomic.write_bytes(table_path(folder / CARD), table_path(card).read_bytes())
            if out.exists():
                atomic.remove_folder(out)

    def _leaf_page(self, at: int, ids: Sequence[ImageId], leaves: Sequence[PageRange]) -> dict[str, str]:
        """Return one page of images in id order, and that page's part of the search index, by path."""
        cards = tuple(self._album.cards(ids))
        page = render(
            "leaf.html.jinja",
            parts=("pictures",),
            beside=True,
            title=f"{self._sheet.card.method.name}: images {leaves[at].numbers}",
            leaf=leaves[at],
            root="../",
            card=self._sheet.card,
            cards=cards,
            frame=self.frame,
            before=leaves[at - 1] if at else None,
            after=leaves[at + 1] if at + 1 < len(leaves) else None,
        )
        # Part of the index for the finder, as a script: a script tag works for `file:` addresses. `fetch` and
        # modules do not.
        rows = [[card.image_id, card.label, card.value] for card in cards]
        index = json.dumps({"page": leaves[at].address, "rows": rows}, ensure_ascii=True)
        return {leaves[at].address: page, f"find/{at + 1:03d}.js": f"PB.load({index});\n"}

    def _commit(self, folder: Path, pages: dict[str, str]) -> None:
        """Write pages together with the images they show, then forget those images."""
        files = self._store.files | {name: text.encode() for name, text in pages.items()}
        for parent in {(folder / name).parent for name in files}:
            atomic.make_folder(parent)
        with atomic.FileBatch() as batch:
            for name, data in sorted(files.items()):
                batch.write(folder / name, data)
        self._store.files.clear()


# --- the report as one file, and the entry point ---


Format: TypeAlias = Literal["file", "dir"]
Images: TypeAlias = Literal["none", "thumbs", "full", "auto"]

MAX_BYTES = 8_000_000
MAX_CARDS = 96
MAX_CARDS_JPEG = 48  # high-quality previews, which add no artefacts of their own, are three times as large

# tried in order until the page fits: (image counts, smaller previews, words for the note on the page)
_ATTEMPTS: tuple[tuple[ImageCounts, Size | None, str], ...] = (
    (ImageCounts(), None, ""),
    (ImageCounts(extremes=4), None, "4 images per list instead of 8"),
    (
        ImageCounts(extremes=4, grid=12),
        None,
        "4 images per list instead of 8, and 12 in the grid instead of 24",
    ),
    (ImageCounts(extremes=4, grid=12), "thumbs", "4 images per list and 12 in the grid, all of them small"),
)


@dataclass(frozen=True)
class ReportOptions:
    """How a report is written.

    Attributes:
        format: "file" for one file, "dir" for a folder with a page for every 200 images.
        images: "auto" means "full" if the source's terms allow redistribution, else "none".
        seed: seed of the uncurated grid; published pages use 0.
    """

    format: Format = "file"
    images: Images = "auto"
    seed: int = 0


@dataclass(frozen=True)
class WrittenReport:
    """A report on disk: its card, its first page, and the context of its images."""

    card: Scorecard
    page: Path
    frame: ImageContext


_DEFAULT = ReportOptions()


def write_report(
    card: Path,
    out: Path,
    *,
    benchset: Path | None = None,
    submission: Path | None = None,
    against: Sequence[Path] = (),
    options: ReportOptions = _DEFAULT,
    progress: Progress = SILENT,
) -> WrittenReport:
    """Write a card as a page that needs no network access. Images need both the set and the submission.

    Args:
        card: the scorecard's file.
        out: the page, or the folder.
        benchset: the set on which the card was scored.
        submission: the submission that was scored.
        against: other cards of the set; the page shows paired differences to them.
        options: how the report is written.
        progress: reports every image.

    Raises:
        UsageError: only one of the two folders is given, or images are requested without the folders.
        RecordError: PB407, PB408, the card or its table was edited.
        IncomparableError: PB602, the folders are not the ones from which the card was scored; PB601-PB604, a
            card of `against` cannot be compared with this card.
        StorageError: PB809, `out` is a folder with other content.
    """
    if (benchset is None) != (submission is None):
        raise UsageError("images need both folders: give --set and --submission together, or neither")
    if benchset is None and options.images in {"thumbs", "full"}:
        raise UsageError(f"--images {options.images} needs the images: give --set and --submission")
    proven, table = read_proven(card)
    size = shown_size(proven, options.images)
    sheet = ReportContent(proven, table, options.seed, [read_proven(path) for path in against])
    with (
        open_gallery(proven, benchset, submission, progress)
        if benchset and submission and size
        else nullcontext()
    ) as gallery:
        if options.format == "dir":
            report = FolderReport(sheet, gallery, size or "full")
            report.write(out, card, progress)
            return WrittenReport(proven, out / "index.html", report.frame)
        text, frame = page(sheet, gallery, size or "full")
        atomic.write_text(out, text)
    return WrittenReport(proven, out, frame)


def shown_size(card: Scorecard, images: Images) -> Size | None:
    """Return the size of the previews, or None if the page has no images."""
    if images == "auto":
        return "full" if redistributable(card) else None
    return None if images == "none" else images


def page(sheet: ReportContent, gallery: Gallery | None, size: Size = "full") -> tuple[str, ImageContext]:
    """Return the report as one HTML file within the size limit of section 6, and the context of its images.

    If the page is too large, it shows fewer images, then smaller images, and says so.
    """
    card, public = sheet.card, redistributable(sheet.card)
    full = Previews(gallery, embedded_preview, size) if gallery else None
    album = ImageSelection(card, sheet.table, full, sheet.seed)
    jpeg_task = card.rules.task(card.task).degradation == "jpeg-v1"
    most = MAX_CARDS_JPEG if jpeg_task else MAX_CARDS
    for amount, smaller, fewer in _ATTEMPTS:
        previews = replace(full, size=smaller) if full and smaller else full
        album = ImageSelection(card, sheet.table, previews, sheet.seed) if smaller else album
        selection, frame = album.select(amount), ImageContext.of(previews, public=public)
        if previews and selection.size > most:
            continue  # never at the last attempt, which has at most 40 cards
        limit = f"{most} images and {MAX_BYTES // 1_000_000} MB"
        note = f"One file holds at most {limit}; this page shows {fewer}." if fewer else ""
        text = sheet.page(selection, frame, note=note)
        if len(text.encode()) <= MAX_BYTES:
            break
    return text, frame
