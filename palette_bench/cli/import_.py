"""`palette-bench import`: makes sets from an exported dataset."""

from __future__ import annotations

from pathlib import Path

import click

from palette_bench.cli.options import FOLDER, PATH
from palette_bench.cli.terminal import finish, progress, say


@click.command("import", short_help="Make sets from a dataset that export wrote.")
@click.argument("dataset", type=FOLDER)
@click.option("-o", "--out", required=True, type=PATH, help="Folder of the set or sets.")
def command(dataset: Path, out: Path) -> None:
    """Make the sets of DATASET, a folder that `export` wrote or a hub's client fetched.

    Every image is compared with the digest in the record. Nothing is written if one differs.

    \b
    palette-bench export SET --format folder --license CC-BY-4.0 --author "A. Person" -o DATASET
    palette-bench import DATASET -o COPY
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.benchset.set_import import import_sets

    finished = import_sets(dataset, out, progress)
    for folder, fingerprint in finished.items():
        say(f"{folder.name:<28} {fingerprint[:12]}")
    finish(out, next_command=f"restore METHOD --set {next(iter(finished))} -o SUB")
