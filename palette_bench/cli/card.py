"""`palette-bench card add-column | export`: numbers of other programs, and formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from palette_bench.cli.options import FILE, NEW_FILE

if TYPE_CHECKING:
    from palette_bench.core.types import Direction


@click.group("card", short_help="Extend a scorecard, or export it for another program.")
def command() -> None:
    """Extend a scorecard, or export it for another program."""


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


@command.command("export")
@click.argument("card", type=FILE, metavar="CARD.json")
@click.option(
    "--format",
    "to",
    required=True,
    type=click.Choice(["every-eval-ever", "hub", "mlflow-json"]),
    help="The program that is to read it.",
)
@click.option("-o", "--out", required=True, type=NEW_FILE, help="The file to write.")
def export(card: Path, to: str, out: Path) -> None:
    """Write the scores of CARD.json with their intervals and digests as another program reads them.

    every-eval-ever is a JSON record of that schema, hub the model-index of a Hugging Face model card (YAML),
    mlflow-json the metrics, params and tags of MLflow's log_batch. Metrics left out are named.

    \b
    palette-bench card export CARD.json --format every-eval-ever -o record.json
    palette-bench card export CARD.json --format hub -o model-index.yaml
    palette-bench card export CARD.json --format mlflow-json -o batch.json
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import finish, say
    from palette_bench.core import atomic
    from palette_bench.pages.card_exports import export_card
    from palette_bench.scoring.scorecard import read_scorecard

    text, left_out = export_card(read_scorecard(card), to)
    atomic.write_text(out, text)
    say(*(f"left out     {key}: {reason}" for key, reason in left_out.items()))
    finish(out)
