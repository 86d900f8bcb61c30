"""The leaderboard site of a record: an index, a page per board and method, badges, and data files.

Pages depend only on the record and contain no build time, so equal records give equal bytes.
"""

from __future__ import annotations

import re
from pathlib import Path

from palette_bench.board.board_page import TWINS, board_files, index_page
from palette_bench.board.exports import badge_files, badge_name, csv_text, parquet_bytes
from palette_bench.board.leaderboard import Leaderboard, assemble
from palette_bench.board.method_page import method_files, method_page_name
from palette_bench.board.record import Tier, read_record
from palette_bench.board.rows import rows_of_cards
from palette_bench.board.set_again import is_of_a_folder, set_ids
from palette_bench.core import atomic
from palette_bench.core.errors import InputError, RecordError

INDEX = "index.html"
JSON = "leaderboard.json"
CSV = "leaderboard.csv"
PARQUET = "leaderboard.parquet"
_OUR_FILE = re.compile(r"(boards|methods|badges)/[A-Za-z0-9._-]+")


def site_files(record: Path, min_tier: Tier = "self-reported", license_url: str = "") -> dict[str, bytes]:
    """Return every file of a record's site, by path inside the site. See `build_site` for the arguments.

    Raises:
        RecordError: a card of the record was edited, has a damaged table, or is in the wrong folder. The
            error lists all such cards.
    """
    published = read_record(record)
    leaderboard = assemble(published, min_tier)
    files = {
        JSON: leaderboard.to_json(),
        CSV: csv_text(leaderboard.boards),
        INDEX: index_page(leaderboard),
        **method_files(leaderboard, published),
    }
    for board in leaderboard.boards:
        ids = set_ids(board, published) if is_of_a_folder(board) else ()
        shown = {row.card for row in rows_of_cards(board)}
        authors = {a for c in published.cards if c.content_sha256 in shown for a in c.method.authors}
        files |= board_files(board, ids, sorted(authors), license_url) | badge_files(board)
    return {name: text.encode() for name, text in files.items()}


def build_site(
    record: Path,
    site: Path,
    min_tier: Tier = "self-reported",
    *,
    license_url: str = "",
    parquet: bool = False,
) -> None:
    """Write a record's site, and remove files of an earlier build that the new site does not contain.

    Args:
        record: the folder of cards.
        site: the folder of the site. Files that no build wrote stay.
        min_tier: see `assemble`.
        license_url: licence of the scores, which pages tell search engines; "" tells them none.
        parquet: whether to write the scores as Parquet, too. `check_site` ignores this file.

    Raises:
        RecordError: a card of the record was edited, has a damaged table, or is in the wrong folder;
            nothing is written.
        StackError: PB711, `parquet` is set and pyarrow is not installed; nothing is written.
    """
    files = site_files(record, min_tier, license_url)
    if parquet:
        files[PARQUET] = parquet_bytes(files[CSV])
    for folder in {(site / name).parent for name in files}:
        atomic.sweep(folder)
    for name in _earlier(site) - files.keys():
        (site / name).unlink(missing_ok=True)
    for name, data in sorted(files.items()):
        atomic.write_bytes(site / name, data)


def _earlier(site: Path) -> set[str]:
    """Return the page, table and badge files that belong to the site's present `leaderboard.json`."""
    try:
        leaderboard = Leaderboard.parse((site / JSON).read_bytes(), JSON)
    except (OSError, RecordError):
        return set()  # no site here, or a site of a version whose file names are unknown
    names: set[str] = set()
    for board in leaderboard.boards:
        names |= {board.page.removesuffix("html") + kind for kind in TWINS}
        for row in rows_of_cards(board):
            page = method_page_name(row.slug)
            names |= {page, page.removesuffix("html") + "json", badge_name(board.page, row)}
    # the file may have been edited: never return a path outside the three folders of a site
    return {name for name in names if _OUR_FILE.fullmatch(name)}


def check_site(record: Path, site: Path, min_tier: Tier = "self-reported", *, license_url: str = "") -> None:
    """Raise unless a site equals what its record builds to. Nothing is written.

    Raises:
        InputError: lists every file that is missing, differs, or is left over from an earlier build.
    """
    files = site_files(record, min_tier, license_url)
    stale = [
        name
        for name, data in sorted(files.items())
        if not (site / name).is_file() or (site / name).read_bytes() != data
    ]
    left = sorted(name for name in _earlier(site) - files.keys() if (site / name).exists())
    if stale or left:
        names = "\n".join(f"  differs   {name}" for name in [*stale, *left])
        raise InputError(f"the site differs from its record\n{names}\n  fix       run board build again")
