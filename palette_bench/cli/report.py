"""`palette-bench report`."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, path_type=Path)


@click.command("report", short_help="Write a scorecard as an HTML page.")
@click.argument("card", type=_FILE, metavar="CARD.json")
@click.option("--set", "benchset", type=_FOLDER, help="The set the card was scored on, for the pictures.")
@click.option("--submission", type=_FOLDER, help="The submission it was scored from, for the pictures.")
@click.option(
    "-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The page to write."
)
def command(card: Path, benchset: Path | None, submission: Path | None, out: Path) -> None:
    """Write a scorecard as an HTML page.

    One file that needs no network and no server. With --set and --submission it shows pictures: a grid
    chosen by rule, and the worst, middle and best by perceptual distance.
    """
    from palette_bench.board.report import write_report
    from palette_bench.cli.terminal import finish, progress

    proven = write_report(card, out, benchset=benchset, submission=submission, progress=progress)
    finish(out, proven.content_sha256, f"board add {card} --record DIR")
