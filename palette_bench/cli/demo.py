"""`palette-bench demo`: the whole chain on bundled photographs, with trained models, offline."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from palette_bench.cli.terminal import finish, progress, say

if TYPE_CHECKING:
    from palette_bench.scoring.scorecard import Scorecard
    from palette_bench.submission.contestant import Restorer

PROTOCOL, EXTRACTOR = "palette-mini", "efficientnet-lite0"
SETS = ("colorization", "inpainting.center32", "uncropping.right", "jpeg.qf5")
ANCHORS = ("original", "copy-input")
SHOWN = ("inpainting.center32", "palette-mini-v1")  # the set and method of the report page
ORDERED_BY = "perceptual_distance"


@click.command("demo", short_help="Run the whole chain on bundled photographs, offline.")
@click.option(
    "-o", "--out", default="demo", show_default=True, type=click.Path(path_type=Path), help="Folder to fill."
)
def command(out: Path) -> None:
    """Generate four sets of palette-mini, restore, check, score, report and build a board, in minutes.

    Run again, it takes up what is there.

    \b
    palette-bench demo -o demo    # takes minutes
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.submission.runs import trained_models

    say("1/4  generate: four tasks, a set of 256 pictures at 64x64 each")
    for name in SETS:
        _generate(out, name)
    say("2/4  restore and score: the ceiling (original), the floor (copy-input) and the trained models")
    methods = (*ANCHORS, *trained_models())
    for name in SETS:
        cards = [_restore_and_score(out, name, method) for method in methods]
        _show_order(name, cards)
    say("3/4  board: one per task and variant")
    _build_board(out)
    say("4/4  report: one scorecard as a page")
    page = _report(out)
    say("", f"board        {out / 'site' / 'index.html'}", f"report       {page}")
    say("The features come from a small network trained at 64x64: a demonstration, nothing for a paper.")
    finish(page, next_command=f"restore METHOD --set {out / 'sets' / SHOWN[0]} -o SUB")


def _generate(out: Path, name: str) -> None:
    from palette_bench.benchset.generate import generate
    from palette_bench.benchset.making import Options

    options = Options(workers=os.cpu_count() or 1)
    generate(PROTOCOL, name.replace(".", "/"), out / "sets" / name, options=options, progress=progress)


def _restore_and_score(out: Path, name: str, method: str) -> Scorecard:
    from palette_bench.benchset.manifest import ContestantSet
    from palette_bench.scoring.run import score
    from palette_bench.scoring.scorecard import Scorecard
    from palette_bench.submission.restore import restore

    path = _card(out, name, method)
    if path.exists():
        return Scorecard.read(path)  # a card is never made twice: its day would differ
    say(f"     {name}: {method}")
    folder, submission = out / "sets" / name, out / "submissions" / method / name
    restore(_restorer(method), ContestantSet.open(folder), submission, progress=progress)
    return score(submission, folder, path, extractors=(EXTRACTOR,))


def _restorer(method: str) -> Restorer:
    """Return an anchor, or a trained model that came along."""
    from palette_bench.submission.contestant import RestoreOptions, load_baseline
    from palette_bench.submission.runs import method_of, trained_models

    run = trained_models().get(method)
    if run is None:
        return load_baseline(method).restorer(RestoreOptions())
    return load_baseline(method_of(run)).restorer(RestoreOptions(run=run))


def _show_order(name: str, cards: list[Scorecard]) -> None:
    """Print the methods of a set, the nearest to the originals first, with 95 % intervals."""
    say(f"     {name}: perceptual distance, lower is better")
    scores = {card.method.slug: card.scores[ORDERED_BY] for card in cards}
    for slug, score in sorted(scores.items(), key=lambda item: item[1].value or 0.0):
        say(f"         {slug:20}{score.value:8.2f}  ({score.low:.2f} to {score.high:.2f})")


def _card(out: Path, name: str, method: str) -> Path:
    return out / "cards" / f"{name}.{method}.json"


def _build_board(out: Path) -> None:
    from palette_bench.board.record import add_cards
    from palette_bench.board.site import build_site

    add_cards(sorted((out / "cards").glob("*.json")), out / "record")
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
