"""`python -m palette_bench.baselines.smoke_extractor`: pictures in class folders become weights and card."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path

import click

from palette_bench.cli import exit_code
from palette_bench.cli.terminal import finish, progress, say

_PLACE = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("more", metavar="", nargs=-1, type=_PLACE)  # of --data
@click.option(
    "--data",
    metavar="DIR",
    required=True,
    multiple=True,
    type=_PLACE,
    help="Training pictures, CLASS/PICTURE: a folder, a list (.txt) or a .tar shard; several may follow.",
)
@click.option(
    "--val",
    "validation",
    metavar="DIR",
    required=True,
    multiple=True,
    type=_PLACE,
    help="Validation pictures.",
)
@click.option("-o", "--out", "run", metavar="RUN", required=True, type=click.Path(path_type=Path))
@click.option("--recipe", metavar="FILE", type=_PLACE, help="A TOML file.  [default: the shipped one]")
@click.option("--epochs", type=click.IntRange(1), help="Of the whole run.  [default: the recipe's]")
@click.option("--minutes", type=click.FloatRange(0), help="Save and stop after so long; run again to go on.")
def command(
    more: tuple[Path, ...],
    data: tuple[Path, ...],
    validation: tuple[Path, ...],
    run: Path,
    recipe: Path | None,
    epochs: int | None,
    minutes: float | None,
) -> None:
    """Train the weights of the `smoke` extractor on a CPU; run the same command again to resume.

    RUN gets checkpoints, log.jsonl, and at the end smoke-v1.safetensors with its card, smoke-v1.toml: both
    belong into palette_bench/scoring/features.
    """
    from .recipe import read_recipe  # noqa: PLC0415  # --help stays light

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("palette_bench").setLevel(logging.INFO)
    chosen = read_recipe(recipe, epochs)
    from .making import make  # noqa: PLC0415  # torch, after what can be refused without it

    path = make(run, chosen, data + more, validation, math.inf if minutes is None else minutes, progress)
    if path:
        finish(path)
    else:
        say(f"stopped after {minutes:g} minutes; run the same command again to go on")


if __name__ == "__main__":
    sys.exit(exit_code(command))
