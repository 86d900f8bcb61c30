"""`palette-bench demo`: the whole chain on bundled photographs, offline."""

from __future__ import annotations

import os
from pathlib import Path

import click

from palette_bench.cli.terminal import finish, progress, say

PROTOCOL, EXTRACTOR = "palette-mini", "smoke-random"
METHODS = ("original", "copy-input")
SHOWN = ("inpainting.freeform-20-30", "copy-input")  # the set and method of the report page


@click.command("demo", short_help="Run the whole chain on bundled photographs, offline.")
@click.option(
    "-o", "--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Folder to fill."
)
def command(out: Path) -> None:
    """Generate palette-mini, restore, check, score, report and build a board, in a few minutes.

    Run again, it takes up what is there.
    """
    say("1/4  generate: four tasks, 13 sets of 256 pictures at 64x64")
    sets = _generate(out / "sets")
    say("2/4  restore and score: the ceiling (original) and the floor (copy-input) of every set")
    for name in sets:
        for method in METHODS:
            _restore_and_score(out, name, method)
    say("3/4  board: one per task and variant")
    _build_board(out)
    say("4/4  report: one scorecard as a page")
    page = _report(out)
    say("", f"board        {out / 'site' / 'index.html'}", "report       " + str(page))
    say("These scores come from random weights: they prove the machinery, not a model.")
    finish(page, next_command=f"restore METHOD --set {out / 'sets' / SHOWN[0]} -o SUB")


def _generate(out: Path) -> list[str]:
    from palette_bench.benchset.generate import generate
    from palette_bench.benchset.making import Options

    options = Options(workers=os.cpu_count() or 1)
    return [done.folder.name for done in generate(PROTOCOL, "all", out, options=options, progress=progress)]


def _restore_and_score(out: Path, name: str, method: str) -> None:
    from palette_bench.benchset.manifest import ContestantSet
    from palette_bench.scoring.run import score
    from palette_bench.submission.contestant import RestoreOptions, load_baseline
    from palette_bench.submission.restore import restore

    folder, submission = out / "sets" / name, out / "submissions" / method / name
    if _card(out, name, method).exists():
        return  # a card is never made twice: its day would differ
    say(f"     {name}: {method}")
    restore(load_baseline(method).restorer(RestoreOptions()), ContestantSet.open(folder), submission)
    score(submission, folder, _card(out, name, method), extractors=(EXTRACTOR,))


def _card(out: Path, name: str, method: str) -> Path:
    return out / "cards" / f"{name}.{method}.json"


def _build_board(out: Path) -> None:
    from palette_bench.board.record import add_card
    from palette_bench.board.site import build_site

    for path in sorted((out / "cards").glob("*.json")):
        add_card(path, out / "record")
    build_site(out / "record", out / "site")


def _report(out: Path) -> Path:
    from palette_bench.board.report import write_report

    name, method = SHOWN
    page = out / "report.html"
    write_report(
        _card(out, name, method),
        page,
        benchset=out / "sets" / name,
        submission=out / "submissions" / method / name,
    )
    return page
