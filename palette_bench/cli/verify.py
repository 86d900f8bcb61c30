"""`palette-bench verify`: recomputes a set and reports changed, missing and foreign files."""

from __future__ import annotations

from pathlib import Path

import click

from palette_bench.cli.options import PATH, WORKERS
from palette_bench.cli.terminal import finish, progress


@click.command("verify", short_help="Recompute a set and name every changed, missing or foreign file.")
@click.argument("folder", metavar="SET", type=PATH)
@WORKERS
def command(folder: Path, workers: int) -> None:
    """Recompute SET from its references and name every changed, missing or foreign file.

    \b
    palette-bench verify SET
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.benchset.manifest import BenchSet
    from palette_bench.benchset.verify import verify
    from palette_bench.core.errors import BenchSetError

    problems = verify(folder, workers=workers, progress=progress)
    if problems:
        raise BenchSetError(*problems)
    finish(folder, BenchSet.open(folder).manifest.set_fingerprint, f"restore METHOD --set {folder} -o SUB")
