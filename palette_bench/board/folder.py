"""The report as a folder: a first page, a page for every 200 pictures, and an index to find one.

Source: reports and studies, section 6.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from palette_bench.board.album import Album, Amount, Card
from palette_bench.board.pages import render
from palette_bench.board.pictures import Gallery, redistributable
from palette_bench.board.previews import Beside, Previews, Size
from palette_bench.board.sheet import Frame, Leaf, Sheet
from palette_bench.core import atomic
from palette_bench.core.errors import RecordError, StorageError, problem
from palette_bench.core.litter import is_litter
from palette_bench.core.types import ImageId, Progress
from palette_bench.scoring.scorecard import read_scorecard, table_path

PER_PAGE = 200
CARD = "scorecard.json"


class FolderReport:
    """One card's report as a folder; pictures reach the disk page by page, so memory holds 200 of them."""

    def __init__(self, sheet: Sheet, gallery: Gallery | None, size: Size) -> None:
        """Take the content and the pictures; `size` is that of the previews."""
        self._sheet = sheet
        self._store = Beside()
        self._previews = Previews(gallery, self._store, size) if gallery else None
        self._album = Album(sheet.card, sheet.table, self._previews)
        self.frame = Frame.of(self._previews, public=redistributable(sheet.card), beside=True)

    def write(self, out: Path, card: Path, progress: Progress) -> None:
        """Write the folder whole or not at all; an earlier report there is replaced.

        Args:
            out: the folder.
            card: the card's file, copied beside the page with its table.
            progress: told of every picture.

        Raises:
            StorageError: PB809, `out` exists and is no report; PB802.
        """
        _refuse_foreign(out)
        ids = sorted(map(str, self._sheet.table["image_id"]))
        parts = [ids[at : at + PER_PAGE] for at in range(0, len(ids), PER_PAGE)]
        leaves = [_leaf(at, part) for at, part in enumerate(parts)]
        with atomic.whole_folder(out) as folder:
            with progress("write pages", len(ids)) as advance:
                for at, part in enumerate(parts):
                    self._commit(folder, self._leaf_page(at, part, leaves))
                    advance(len(part))
            self._commit(folder, {"index.html": self._first_page(leaves)})
            atomic.write_bytes(folder / CARD, card.read_bytes())
            atomic.write_bytes(table_path(folder / CARD), table_path(card).read_bytes())
            if out.exists():
                atomic.remove_folder(out)

    def _first_page(self, leaves: Sequence[Leaf]) -> str:
        """Return the report itself; its pictures have lossless twins."""
        exact = replace(self._previews, exact=True) if self._previews else None
        album = Album(self._sheet.card, self._sheet.table, exact, self._sheet.seed)
        return self._sheet.page(album.select(Amount()), self.frame, pages=leaves)

    def _leaf_page(self, at: int, ids: Sequence[ImageId], leaves: Sequence[Leaf]) -> dict[str, str]:
        """Return one page of pictures in the order of their ids, and its shard of the index."""
        cards = tuple(self._album.cards(ids))
        page = render(
            "leaf.html.jinja",
            parts=("pictures",),
            beside=True,
            title=f"{self._sheet.card.method.name}: pictures {leaves[at].numbers}",
            leaf=leaves[at],
            root="../",
            card=self._sheet.card,
            cards=cards,
            frame=self.frame,
            before=leaves[at - 1] if at else None,
            after=leaves[at + 1] if at + 1 < len(leaves) else None,
        )
        return {leaves[at].address: page, f"find/{at + 1:03d}.js": _shard(leaves[at], cards)}

    def _commit(self, folder: Path, pages: dict[str, str]) -> None:
        """Write pages together with the pictures they show."""
        files = self._store.files | {name: text.encode() for name, text in pages.items()}
        for parent in {(folder / name).parent for name in files}:
            atomic.make_folder(parent)
        with atomic.Batch() as batch:
            for name, data in sorted(files.items()):
                batch.write(folder / name, data)
        self._store.files.clear()


def _leaf(at: int, ids: Sequence[ImageId]) -> Leaf:
    first = at * PER_PAGE + 1
    numbers = f"{first:,} to {first + len(ids) - 1:,}"
    return Leaf(f"pictures/{at + 1:03d}.html", numbers, ids[0], ids[-1])


def _shard(leaf: Leaf, cards: Sequence[Card]) -> str:
    """Return a classic script that hands the index of one page to the finder.

    `fetch` and modules fail over `file:`; a script tag does not.
    """
    rows = [[card.image_id, card.label, card.value] for card in cards]
    return f"PB.load({json.dumps({'page': leaf.address, 'rows': rows}, ensure_ascii=True)});\n"


def _refuse_foreign(out: Path) -> None:
    if not out.exists() or (out.is_dir() and all(is_litter(p.name) for p in out.iterdir())):
        return
    try:
        read_scorecard(out / CARD)
    except (RecordError, StorageError) as error:
        raise StorageError(
            problem(
                "PB809",
                str(out),
                expected="an empty folder, or a report to replace",
                found="something else",
                fix="name another folder",
            )
        ) from error
