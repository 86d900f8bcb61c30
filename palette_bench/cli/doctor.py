"""`palette-bench doctor`: can this machine be trusted?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from palette_bench.cli import terminal

if TYPE_CHECKING:
    from palette_bench.scoring.doctor import Row

_SIGNS = {"ok": ("green", "ok"), "warning": ("yellow", "warn"), "error": ("red", "WRONG")}


@click.command("doctor", short_help="Say whether this machine can be trusted to generate and score.")
@click.option(
    "--folder",
    default=".",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where sets and outputs will lie.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.pass_context
def command(ctx: click.Context, folder: Path, as_json: bool) -> None:
    """Try what every digest and score rests on, and say how to mend what is wrong.

    Versions, codecs, integer arithmetic, the published sets of `smoke`, disks, devices, a network's
    features, and the weights here. Exit code 0: every set and score made here is what it would be
    elsewhere; warnings cost metrics, speed or space, never trust. 3, 4 or 5: something differs.

    \b
    palette-bench doctor --folder DIR
    """  # noqa: D301  # click looks for the backspace character itself
    import json
    import logging
    from functools import partial

    from palette_bench.scoring.doctor import examine, exit_code, to_json

    log = logging.getLogger("palette_bench")
    ctx.call_on_close(partial(log.setLevel, log.level))
    log.setLevel(logging.ERROR)  # the rows say it all
    rows = []
    for row in examine(folder):
        rows.append(row)
        if not as_json:
            _show(row)
    if as_json:
        click.echo(json.dumps(to_json(rows), indent=2, sort_keys=True, ensure_ascii=False))
    code = exit_code(rows)
    warnings = sum(row.state == "warning" for row in rows)
    terminal.say(f"{'not trusted' if code else 'trusted'}: {len(rows)} things tried, {warnings} warnings")
    ctx.exit(code)


def _show(row: Row) -> None:
    """Print a row; below it how to mend a warning, and all that is known of an error."""
    colour, sign = _SIGNS[row.state]
    click.echo(f"{click.style(f'{sign:<6}', fg=colour)} {row.area:<8} {row.what:<27} {row.found}")
    for finding in row.problems:
        lines = str(finding).splitlines() if row.state == "error" else [f"{finding.code}  {finding.fix}"]
        click.echo("\n".join(f"       {line}" for line in lines))
