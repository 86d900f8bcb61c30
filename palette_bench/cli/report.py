"""`palette-bench report`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, path_type=Path)


@click.command("report", short_help="Write a scorecard as an HTML page.")
@click.argument("card", type=_FILE, metavar="CARD.json")
@click.option("--set", "benchset", type=_FOLDER, help="The set the card was scored on, for the pictures.")
@click.option("--submission", type=_FOLDER, help="The submission it was scored from, for the pictures.")
@click.option(
    "--against",
    multiple=True,
    type=_FILE,
    metavar="CARD.json",
    help="Another card of the set, e.g. an anchor or a baseline; repeat for more.",
)
@click.option(
    "--format",
    type=click.Choice(["file", "dir"]),
    default="file",
    show_default=True,
    help="One file, or a folder with every picture.",
)
@click.option(
    "--images",
    type=click.Choice(["none", "thumbs", "full", "auto"]),
    default="auto",
    show_default=True,
    help="auto: full where the source's terms let pictures be passed on, else none.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the uncurated grid.")
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path), help="The page or the folder to write."
)
def command(
    card: Path,
    benchset: Path | None,
    submission: Path | None,
    against: tuple[Path, ...],
    out: Path,
    **options: Any,
) -> None:
    """Write a scorecard as an HTML page.

    It needs no network and no server. With --set and --submission it shows pictures: a grid chosen by
    rule, and the worst, middle and best by each measure. One file stays under 8 MB; --format dir writes a
    folder with a page for every 200 pictures.
    """
    from palette_bench.board.report import Options, write_report
    from palette_bench.cli.terminal import finish, progress, say

    written = write_report(
        card,
        out,
        benchset=benchset,
        submission=submission,
        against=against,
        options=Options(**options),
        progress=progress,
    )
    if written.frame.private:
        say("contains images under dataset terms: do not publish")
    if written.frame.withheld and benchset and options["images"] == "auto":
        say("pictures left out: terms of the source limit passing them on; --images full shows them to you")
    finish(written.page, written.card.content_sha256, f"board add {card} --record DIR")
