"""`palette-bench restore`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from palette_bench.cli.options import SHARD
from palette_bench.cli.terminal import finish, progress, say

if TYPE_CHECKING:
    from palette_bench.core.journal import Shard


@click.command("restore", short_help="Run a method on a set: its outputs become a submission.")
@click.argument("method")
@click.option("--set", "folder", required=True, type=click.Path(path_type=Path), help="The benchmark set.")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="Folder of the submission.")
@click.option("--batch", default=16, show_default=True, type=click.IntRange(1), help="Pictures per step.")
@SHARD
def command(method: str, folder: Path, out: Path, batch: int, shard: Shard) -> None:
    """Run METHOD (see `palette-bench ls baselines`) on a set; run again to resume."""
    from palette_bench.benchset.manifest import ContestantSet
    from palette_bench.submission.contestant import RestoreOptions, load_baseline
    from palette_bench.submission.restore import restore

    restorer = load_baseline(method).restorer(RestoreOptions())
    benchset = ContestantSet.open(folder)
    card = restore(restorer, benchset, out, batch_size=batch, shard=shard, progress=progress)
    if card is None:
        say("waiting for other shards; the card is written when the last one ends")
    finish(out, benchset.public.set_fingerprint, f"score {out} --set {folder} -o CARD.json")
