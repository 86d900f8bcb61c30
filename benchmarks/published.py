"""The tables of docs/published-scores.md, written from the scorecards under reports/.

python benchmarks/published.py            write them
python benchmarks/published.py --check    write nothing; exit 1 if they are not up to date
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from palette_bench.board.exports import markdown_table
from palette_bench.board.leaderboard import assemble
from palette_bench.board.record import read_record
from palette_bench.board.rows import lines_of
from palette_bench.pages.text import source_words, task_words

ROOT = Path(__file__).resolve().parents[1]
PAGE, RECORD = ROOT / "docs" / "published-scores.md", ROOT / "reports"
BEGIN, END = "<!-- scores: written by benchmarks/published.py -->\n", "<!-- end of scores -->"


def tables() -> str:
    """Return every board of the record as a heading and a Markdown table, then their notes, each once."""
    boards = assemble(read_record(RECORD), "self-reported").boards
    texts = [markdown_table(lines_of(board)).strip().partition("\n\n") for board in boards]
    headings = (
        f"\n**{task_words(b.rules, b.task, b.variant)}**, {source_words(b.rules, b.source)}\n" for b in boards
    )
    shown = [f"{heading}\n{table}\n" for heading, (table, _, _) in zip(headings, texts, strict=True)]
    return "".join([*shown, *(f"\n{notes}\n" for notes in dict.fromkeys(notes for _, _, notes in texts))])


def written(page: str) -> str:
    """Return the page with the tables in their place."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}{tables()}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Write the tables, or compare them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    page = PAGE.read_text()
    new = written(page)
    if parser.parse_args().check:
        sys.exit(int(new != page))
    PAGE.write_text(new)


if __name__ == "__main__":
    main()
