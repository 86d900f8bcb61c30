"""`palette-bench check`: reports all problems of a submission."""

from __future__ import annotations

from pathlib import Path

import click

from palette_bench.cli import terminal
from palette_bench.cli.options import NEW_FILE, PATH, WORKERS


@click.command("check", short_help="Check a submission against its set; list every problem at once.")
@click.argument("submission", metavar="SUB", type=PATH)
@click.option(
    "--set",
    "benchset",
    metavar="SET",
    required=True,
    type=PATH,
    help="The set it answers, or its public part.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--html", "page", type=NEW_FILE, help="Write the findings as a page, too.")
@click.option("--strict", is_flag=True, help="Count warnings as errors.")
@WORKERS
@click.pass_context
def command(
    ctx: click.Context,
    submission: Path,
    benchset: Path,
    as_json: bool,
    page: Path | None,
    strict: bool,
    workers: int,
) -> None:
    """Check a submission against its set; list every problem at once.

    SUB is a folder or a .zip that holds submission.toml and outputs/ID.png. Nothing of it is written,
    resized or repaired. Exit code 3 if there is an error.

    \b
    palette-bench check SUB --set SET
    palette-bench check SUB.zip --set PUBLIC --strict --html findings.html
    """  # noqa: D301  # click looks for the backspace character itself
    import json

    from palette_bench.submission.check import check

    report = check(submission, benchset, strict=strict, workers=workers, progress=terminal.progress)
    if page is not None:
        from palette_bench.board.check_page import write_check

        write_check(report, submission, page)
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2, sort_keys=True))
    else:
        terminal.show_problems(report.problems)
    counts = report.to_json()["counts"]
    verdict = "passed" if report.ok else "refused"
    terminal.say(
        f"{verdict}: {len(report.pixels):,} good outputs, {counts['error']} errors, "
        f"{counts['warning']} warnings, {counts['info']} notices"
    )
    if not report.ok:
        ctx.exit(3)
    if not as_json:
        next_command = f"score {submission} --set {benchset} -o CARD.json" if report.whole else ""
        terminal.finish(submission, report.outputs, next_command)
    if not report.whole:
        terminal.say("checked against the public part; whoever holds the originals can score it")
