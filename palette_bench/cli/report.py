"""`palette-bench report`."""

from __future__ import annotations

from pathlib import Path

import click

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_FOLDER = click.Path(exists=True, path_type=Path)


@click.command("report", short_help="Write a scorecard as an HTML page, or compare two.")
@click.argument("card", type=_FILE, metavar="CARD.json")
@click.argument("other", type=_FILE, metavar="[OTHER.json]", required=False)
@click.option("--set", "benchset", type=_FOLDER, help="The set the card was scored on, for the pictures.")
@click.option("--submission", type=_FOLDER, help="The submission it was scored from, for the pictures.")
@click.option(
    "-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The page to write."
)
@click.option(
    "--json",
    "twin",
    type=click.Path(dir_okay=False, path_type=Path),
    help="With OTHER.json: also the numbers.",
)
def command(
    card: Path,
    other: Path | None,
    benchset: Path | None,
    submission: Path | None,
    out: Path,
    twin: Path | None,
) -> None:
    """Write a scorecard as an HTML page, or two scorecards compared.

    One file that needs no network and no server. With --set and --submission it shows pictures: a grid
    chosen by rule, and the worst, middle and best by perceptual distance. With OTHER.json it holds the
    paired differences of two cards of one set, and the pictures where they part.
    """
    if other is not None:
        _compare(card, other, out, twin, pictures=bool(benchset or submission))
        return
    if twin is not None:
        raise click.UsageError("--json belongs to a comparison; the numbers of one card are its own file")
    from palette_bench.board.report import write_report
    from palette_bench.cli.terminal import finish, progress

    proven = write_report(card, out, benchset=benchset, submission=submission, progress=progress)
    finish(out, proven.content_sha256, f"board add {card} --record DIR")


def _compare(card: Path, other: Path, out: Path, twin: Path | None, *, pictures: bool) -> None:
    from palette_bench.board.compare_page import write_comparison
    from palette_bench.cli.terminal import finish

    if pictures:
        raise click.UsageError(
            "a comparison shows numbers and ids; --set and --submission belong to one card"
        )
    write_comparison(card, other, out, twin)
    finish(out)
