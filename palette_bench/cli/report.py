"""`palette-bench report`: writes a scorecard, or a comparison of two, as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from palette_bench.cli.options import EXISTING, FILE, NEW_FILE, PATH


@click.command("report", short_help="Write a scorecard as an HTML page, or compare two.")
@click.argument("card", type=FILE, metavar="CARD.json")
@click.argument("other", type=FILE, metavar="[OTHER.json]", required=False)
@click.option("--set", "benchset", type=EXISTING, help="The set the card was scored on, for the images.")
@click.option(
    "--submission",
    "submissions",
    type=EXISTING,
    multiple=True,
    help="The submission it was scored from, for the images; with OTHER.json give two.",
)
@click.option(
    "--against",
    multiple=True,
    type=FILE,
    metavar="CARD.json",
    help="Another card of the set, e.g. an anchor or a baseline; repeat for more.",
)
@click.option(
    "--format",
    type=click.Choice(["file", "dir"]),
    default="file",
    show_default=True,
    help="One file, or a folder with every image.",
)
@click.option(
    "--images",
    type=click.Choice(["none", "thumbs", "full", "auto"]),
    default="auto",
    show_default=True,
    help="auto: full where the source's terms let images be passed on, else none.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the uncurated grid.")
@click.option("-o", "--out", required=True, type=PATH, help="The page or the folder to write.")
@click.option("--json", "twin", type=NEW_FILE, help="With OTHER.json: the numbers, too.")
def command(
    card: Path,
    other: Path | None,
    benchset: Path | None,
    submissions: tuple[Path, ...],
    against: tuple[Path, ...],
    out: Path,
    twin: Path | None,
    **options: Any,
) -> None:
    """Write a scorecard as an HTML page, or two scorecards compared.

    It needs no network and no server. With --set and --submission it shows images: a grid chosen by
    rule, and the worst, middle and best by each measure. One file stays under 8 MB; --format dir writes a
    folder with a page for every 200 images. With OTHER.json the page holds the paired differences of two
    cards of one set, and the images where they part.

    \b
    palette-bench report CARD.json --set SET --submission SUB -o report.html
    palette-bench report A.json B.json -o pair.html
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.board.compare_page import CardFolders, write_comparison
    from palette_bench.board.report import ReportOptions, write_report
    from palette_bench.cli.terminal import finish, progress, say

    if other is not None:
        if against:
            raise click.UsageError("two cards are compared with each other: leave out --against")
        if options["format"] != "file" or options["seed"]:
            raise click.UsageError(
                "a comparison is one file and shows no grid: leave out --format and --seed"
            )
        pictured = benchset is not None and len(submissions) == 2
        images = options["images"]
        if not pictured and (benchset or submissions or images not in {"auto", "none"}):
            raise click.UsageError("images of two cards need --set and --submission twice, in their order")
        folders = CardFolders(benchset, *submissions) if benchset and pictured else None
        write_comparison(card, other, out, json=twin, folders=folders, images=images, progress=progress)
        finish(out)
        return
    if len(submissions) > 1:
        raise click.UsageError("a single card has one submission: give two only with OTHER.json")
    if twin is not None:
        raise click.UsageError("--json needs OTHER.json: a single card is itself the file of its numbers")
    submission = submissions[0] if submissions else None
    written = write_report(
        card,
        out,
        benchset=benchset,
        submission=submission,
        against=against,
        options=ReportOptions(**options),
        progress=progress,
    )
    if written.frame.private:
        say("contains images under dataset terms: do not publish")
    if written.frame.withheld and benchset and options["images"] == "auto":
        say("images left out, as the source's terms limit redistribution; --images full shows them to you")
    finish(written.page, written.card.content_sha256, f"board add {card} --record DIR")
