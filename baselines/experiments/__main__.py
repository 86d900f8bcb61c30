"""`python -m palette_bench.baselines.experiments`: make a study of the paper at small scale."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import click

from palette_bench.cli import exit_code
from palette_bench.cli.options import WeightsType
from palette_bench.cli.terminal import finish, progress

from . import NAMES

_PLACE = click.Path(exists=True, path_type=Path)


@click.command()
@click.argument("name", type=click.Choice(NAMES))
@click.argument("more", metavar="", nargs=-1, type=_PLACE)  # further values of --data
@click.option(
    "--data",
    metavar="DIR",
    multiple=True,
    type=_PLACE,
    help="Images: a folder of any depth, a list (.txt), a .tar shard or a .safetensors pack; several may "
    "follow. The miniature of l1-l2 draws its own.",
)
@click.option("-o", "--out", metavar="OUT", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--size", type=click.Choice(["quick", "full"]), default="quick", show_default=True)
@click.option("--cpu", is_flag=True, help="The miniature for a machine without a GPU, in place of --size.")
@click.option(
    "--scale",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Multiplies images to train on and images to judge by.",
)
@click.option("--device", help="cpu, cuda or cuda:1.  [default: cpu with --cpu, else cuda]")
@click.option("--seeds", type=click.IntRange(1), help="Training runs per system.  [default: the size's]")
@click.option(
    "--extractor",
    "extractors",
    metavar="ID",
    multiple=True,
    help="Network of the feature metrics; repeat for more.  [default: efficientnet-lite0]",
)
@click.option("--weights", type=WeightsType(), multiple=True, help="Weights of a network, as `score` takes.")
def command(
    name: str,
    more: tuple[Path, ...],
    data: tuple[Path, ...],
    out: Path,
    size: str,
    cpu: bool,
    scale: float,
    device: str | None,
    seeds: int | None,
    extractors: tuple[str, ...],
    weights: tuple[tuple[str, str], ...],
) -> None:
    """Train, restore, score and compare the systems of study NAME; run again to go on where it stopped.

    OUT gets runs, sets, submissions, scorecards, a record with its site, experiment.json and index.html.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("palette_bench").setLevel(logging.INFO)
    data += more
    # torch is imported only after the checks that do not need it
    if cpu and name == "l1-l2":
        if data or extractors or weights:
            raise click.UsageError("l1-l2 --cpu draws its own images and needs no features of networks")
        from .miniature import MiniatureRun  # noqa: PLC0415

        finish(MiniatureRun(out, scale, seeds or 1, device or "cpu", progress).make())
        return
    if not data:
        raise click.UsageError(f"{name} needs --data DIR")
    from .making import StudyRequest, make  # noqa: PLC0415

    order = StudyRequest(
        study=name,
        size="cpu" if cpu else size,
        data=data,
        out=out,
        scale=scale,
        seeds=seeds,
        device=device or ("cpu" if cpu else "cuda"),
        extractors=extractors,
        weights=dict(weights),
    )
    finish(make(order, progress))


if __name__ == "__main__":
    sys.exit(exit_code(command))
