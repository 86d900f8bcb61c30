"""`python -m palette_bench.baselines.trained`: the weights of a run, ready to be passed on."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from palette_bench.cli import exit_code
from palette_bench.cli.terminal import finish, say


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--out", "weights", metavar="FILE.safetensors", required=True, type=click.Path(path_type=Path)
)
@click.option("--data-name", metavar="TEXT", required=True, help="What the run was trained on.")
@click.option(
    "--licence", metavar="TEXT", required=True, help="Of the weights, and what the pictures ask for."
)
def command(run: Path, weights: Path, data_name: str, licence: str) -> None:
    """Write the averaged weights of RUN as float16 FILE.safetensors, and its card beside it."""
    from .packing import pack  # noqa: PLC0415  # --help stays light

    card = pack(run, weights, data_name, licence)
    say(f"{card.bytes / 1e6:.1f} MB, {card.parameters:,} parameters, {card.images_seen:,} images seen")
    finish(weights)


if __name__ == "__main__":
    sys.exit(exit_code(command))
