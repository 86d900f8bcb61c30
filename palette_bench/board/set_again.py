"""How to regenerate the set of a board: the `generate` command, and the ids of sets from a user's folder."""

from __future__ import annotations

from pathlib import PurePosixPath

from palette_bench.board.leaderboard import Board
from palette_bench.board.paired_tests import images_of
from palette_bench.board.record import PublishedRecord
from palette_bench.board.rows import all_rows
from palette_bench.core.types import ImageId
from palette_bench.tasks.protocol import PhotoSource

# suffixes of files beside a board's page
IDS = "ids.txt"
DECLARATION = "protocol.json"


def is_of_a_folder(board: Board) -> bool:
    """Return whether the set was made from a user's own image folder, which no protocol lists."""
    return board.source not in board.rules.sources


def set_ids(board: Board, published: PublishedRecord) -> tuple[ImageId, ...]:
    """Return the ids of a board's set, from the table of a card that scored all of it; () if none did."""
    rows = {row.card for row in all_rows(board)}
    whole = [c.content_sha256 for c in published.cards if c.n_scored == c.n_expected]
    return images_of(published.tables[card] for card in whole if card in rows & published.tables.keys())


def set_command(board: Board, ids_file: str) -> str:
    """Return the shell command that generates the board's set and fails if the fingerprint differs.

    Args:
        board: the board.
        ids_file: name of the file of ids; "" if the source determines the ids, or the ids are unknown.
    """
    pair = board.task if board.variant in (None, "default") else f"{board.task}/{board.variant}"
    protocol = f"./{PurePosixPath(board.page).stem}.{DECLARATION}" if board.declaration else board.protocol
    words = ["palette-bench generate", protocol, pair, f"--source {board.source}"]
    photos = board.rules.sources.get(board.source)
    if not isinstance(photos, PhotoSource):
        words.append("--images DIR")
    elif (count := max(row.n for row in all_rows(board))) < photos.count:
        words.append(f"--limit {count}")
    if ids_file:
        words.append(f"\\\n    --ids {ids_file}")
    return " ".join([*words, f"--expect {board.fingerprints['set'][:12]}", "-o SET"])
