"""`palette-bench export`: writes sets as a dataset for other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from palette_bench.cli.options import EXISTING, PATH
from palette_bench.cli.terminal import finish, progress, say


@click.command("export", short_help="Write sets as a dataset that other libraries and hubs read.")
@click.argument("sets", metavar="SET...", nargs=-1, required=True, type=EXISTING)
@click.option(
    "--format",
    "container",
    required=True,
    type=click.Choice(["parquet", "folder", "webdataset", "none"]),
    help="How images are stored; none: descriptions and digests alone.",
)
@click.option("-o", "--out", required=True, type=PATH, help="Folder of the dataset.")
@click.option("--references", is_flag=True, help="Export the originals and manifests, too.")
@click.option("--name", default="", help="Of the dataset.  [default: protocol and source]")
@click.option("--license", default="", help="SPDX identifier, of the images.  [default: CC0-1.0 if bundled]")
@click.option("--author", "authors", multiple=True, help="Who publishes it; repeat for more.")
@click.option("--url", default="", help="Address of the dataset.")
@click.option("--synthetic", is_flag=True, help="The source images are computer-made.")
def command(sets: tuple[Path, ...], out: Path, container: Any, **given: Any) -> None:
    """Write SETs of one protocol and source as a dataset: images, card, Croissant, citation, licence.

    Originals are left out unless --references asks for them. Sources whose terms forbid copies are refused
    (PB614); `--format none` describes them without images.

    \b
    palette-bench export SET --format parquet --license CC-BY-4.0 --author "A. Person" -o DATASET
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.benchset.set_export import ExportOptions, export_sets

    options = ExportOptions(container=None if container == "none" else container, **given)
    dataset = export_sets(sets, out, options, progress)
    for one in dataset.configurations:
        files = sum(file.size for file in one.files)
        size = f", {files / 1e6:,.1f} MB" if files and container != "folder" else ""
        say(f"{one.name:<28} {one.record.set_fingerprint[:12]}  {len(one.record.items):,} images{size}")
    finish(out, next_command=f"import {out} -o SET" if dataset.container else "")
