"""`python -m palette_bench.baselines.trained`: export the weights of a run for distribution."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from palette_bench.cli import exit_code
from palette_bench.cli.terminal import finish, say

if TYPE_CHECKING:
    from palette_bench.submission.card import SawTestImages


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--out", "weights", metavar="FILE.safetensors", required=True, type=click.Path(path_type=Path)
)
@click.option("--data-name", metavar="TEXT", required=True, help="What the run was trained on.")
@click.option(
    "--saw-test-images",
    required=True,
    type=click.Choice(["no", "yes", "unknown"]),
    help="Whether images of test sets are among it.",
)
@click.option("--licence", metavar="TEXT", required=True, help="Of the weights, and what the images ask for.")
@click.option("--started-from-note", metavar="TEXT", help="What the weights the run began with are.")
def command(
    run: Path,
    weights: Path,
    data_name: str,
    saw_test_images: SawTestImages,
    licence: str,
    started_from_note: str | None,
) -> None:
    """Write the averaged weights of RUN as float16 FILE.safetensors, and its card beside it."""
    from ..training.recipe import DataOptions  # noqa: PLC0415  # --help stays light
    from .packing import pack  # noqa: PLC0415

    data = DataOptions(name=data_name, saw_test_images=saw_test_images)
    card = pack(run, weights, data, licence, started_from_note)
    say(f"{card.bytes / 1e6:.1f} MB, {card.parameters:,} parameters, {card.images_seen:,} images seen")
    finish(weights)


if __name__ == "__main__":
    sys.exit(exit_code(command))
