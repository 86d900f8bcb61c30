"""`palette-bench status`: says how far a run is, over all its shards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from palette_bench.cli.options import PATH
from palette_bench.cli.terminal import aligned

if TYPE_CHECKING:
    from palette_bench.submission.run_status import RunStatus, ShardStatus

_HEADS = ("shard", "done", "of", "missing", "lost", "images/s", "left", "last")


@click.command("status", short_help="Say how far a run is, over all its shards.")
@click.argument("paths", metavar="SET|SUB|RUN|CARD.json...", nargs=-1, required=True, type=PATH)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
def command(paths: tuple[Path, ...], as_json: bool) -> None:
    """Say how far `generate`, `restore`, `score --shard` or `train` is: what is done, missing, and left.

    It reads journals and logs, so it works from any machine and disturbs nothing. `lost` counts items whose
    file is gone; the next run makes them again. CARD.json stands for its parts, CARD.parts.

    \b
    palette-bench status SET
    palette-bench status RUN --json
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.submission.run_status import run_status

    found = [one for path in paths for one in run_status(path)]
    if as_json:
        click.echo(json.dumps({"runs": [_as_json(one) for one in found]}, indent=1))
        return
    for number, one in enumerate(found):
        if number:
            click.echo()
        state = "closed" if one.closed else "complete, not closed" if not one.whole.missing else "open"
        click.echo(f"{one.kind}  {one.folder}  {state}, counted in {one.unit}")
        rows = [*one.shards, one.whole] if len(one.shards) > 1 else [one.whole]
        click.echo("\n".join(aligned([_HEADS, *map(_row, rows)])))


def _row(shard: ShardStatus) -> tuple[str, ...]:
    """Return the cells of a shard; what is unknown is a dash."""
    from palette_bench.core.text import duration

    rate, left, silent = shard.per_second, shard.seconds_left, shard.silent_s
    return (
        shard.name,
        *(f"{count:,}" for count in (shard.done, shard.total, shard.missing, shard.lost)),
        "-" if rate is None else f"{rate:.3g}",
        "-" if left is None else duration(left),
        "not begun"
        if silent is None and not shard.done
        else "-"
        if silent is None
        else f"{duration(silent)} ago",
    )


def _as_json(run: RunStatus) -> dict[str, Any]:
    def part(shard: ShardStatus) -> dict[str, Any]:
        return {**vars(shard), "missing": shard.missing}

    about = {"kind": run.kind, "folder": str(run.folder), "unit": run.unit, "closed": run.closed}
    return {**about, "all": part(run.whole), "shards": [part(shard) for shard in run.shards]}
