"""`palette-bench card add-column`: extends a scorecard by numbers of another program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from palette_bench.cli.options import FILE, NEW_FILE

if TYPE_CHECKING:
    from palette_bench.core.types import Direction


@click.group("card", short_help="Extend a scorecard by numbers of another program.")
def command() -> None:
    """Extend a scorecard by numbers of another program."""


@command.command("add-column")
@click.argument("card", type=FILE, metavar="CARD.json")
@click.argument("values", type=FILE, metavar="VALUES.csv")
@click.option("--name", required=True, help="Of the column: a-z, 0-9, _, -.")
@click.option("--source", required=True, help="The program that computed it, with its version.")
@click.option(
    "--direction", required=True, type=click.Choice(["lower", "higher", "none"]), help="Better side."
)
@click.option("-o", "--out", required=True, type=NEW_FILE, help="The card to write anew.")
def add_column(card: Path, values: Path, name: str, source: str, direction: Direction, out: Path) -> None:
    """Write CARD.json anew with a number per image that another program computed; it is shown, never ranked.

    VALUES.csv has the columns image_id and value, and a row for every image of the card.

    \b
    palette-bench card add-column CARD.json VALUES.csv --name musiq --source "pyiqa 0.1.13" \\
      --direction higher -o WIDER.json
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import finish
    from palette_bench.scoring.external import ExternalColumn, add_column

    written = add_column(card, values, ExternalColumn(name, source, direction), out)
    finish(out, written.content_sha256, f"report {out} -o report.html")
