"""`palette-bench demo`: runs the whole chain offline, on bundled photographs with bundled trained models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from palette_bench.cli.options import PATH
from palette_bench.cli.terminal import Overall, aligned, finish, say

if TYPE_CHECKING:
    from palette_bench.board.leaderboard import Board, Row

PROTOCOL = "palette-mini"
IMAGES = 128  # of the 256 of each set: enough to rank the trained models, and the demo takes only minutes
SETS = ("colorization", "inpainting.center32", "uncropping.right", "jpeg.qf5")
ANCHORS = ("original", "copy-input")
SHOWN = ("inpainting.center32", "palette-mini-v1")  # the set and method of the report page
ORDERED_BY = "perceptual_distance"


@click.command("demo", short_help="Run the whole chain on bundled photographs, offline.")
@click.option("-o", "--out", default="demo", show_default=True, type=PATH, help="Folder to fill.")
@click.pass_context
def command(ctx: click.Context, out: Path) -> None:
    """Generate four sets of palette-mini, restore, check, score, report and build a board, in minutes.

    Run again, it takes up what is there.

    \b
    palette-bench demo -o demo    # takes minutes
    """  # noqa: D301  # click looks for the backspace character itself
    say(
        f"Four tasks, {IMAGES} photographs of 64 x 64 pixels each: the ceiling (original), the floor "
        "(copy-input) and three trained models, scored by EfficientNet-Lite0."
    )
    import logging
    from functools import partial

    from palette_bench.benchset.generate import generate
    from palette_bench.benchset.making import GenerateOptions
    from palette_bench.benchset.manifest import ContestantSet
    from palette_bench.benchset.sources import Request
    from palette_bench.board.leaderboard import Leaderboard
    from palette_bench.board.record import add_cards
    from palette_bench.board.report import write_report
    from palette_bench.board.site import JSON, build_site
    from palette_bench.scoring.score import score
    from palette_bench.submission.methods import RestoreOptions, load_baseline
    from palette_bench.submission.restore import restore
    from palette_bench.submission.training_runs import method_of, trained_models

    log = logging.getLogger("palette_bench.benchset")
    ctx.call_on_close(partial(log.setLevel, log.level))
    log.setLevel(logging.WARNING)  # `overall` shows the progress
    request, options = Request("photos-64", limit=IMAGES), GenerateOptions(workers=1)
    methods = (*ANCHORS, *trained_models())
    overall = Overall(len(SETS) * (1 + len(methods)) + 1)
    for name in SETS:
        overall.step(f"{name}: generate")
        generate(PROTOCOL, name.replace(".", "/"), out / "sets" / name, request=request, options=options)
        for method in methods:
            overall.step(f"{name}: {method}")
            path, submission = _card(out, name, method), out / "submissions" / method / name
            if path.exists():
                continue  # a card is never made again, because its date would differ
            run = trained_models().get(method)  # None for an anchor
            restorer = load_baseline(method_of(run) if run else method).restorer(RestoreOptions(run=run))
            benchset = ContestantSet.open(out / "sets" / name)
            restore(restorer, benchset, submission, progress=overall.part(0.6))
            score(submission, out / "sets" / name, path, progress=overall.part(0.2))
    overall.step("board and report")
    add_cards(sorted((out / "cards").glob("*.json")), out / "record")
    build_site(out / "record", out / "site")
    boards = Leaderboard.read(out / "site" / JSON).boards
    name, method = SHOWN
    page, submission = out / "report.html", out / "submissions" / method / name
    write_report(_card(out, name, method), page, benchset=out / "sets" / name, submission=submission)
    overall.end()
    _show_ranks(boards)
    say("", f"board        {out / 'site' / 'index.html'}", f"report       {page}")
    finish(page, next_command=f"restore METHOD --set {out / 'sets' / SHOWN[0]} -o SUB")


def _card(out: Path, name: str, method: str) -> Path:
    return out / "cards" / f"{name}.{method}.json"


def _show_ranks(boards: tuple[Board, ...]) -> None:
    """Print the ranks and distances of each task, and the models that score worse than the floor."""
    from palette_bench.board.board_page import floor_words
    from palette_bench.board.comparability import ANCHORS as ROLES
    from palette_bench.board.ranking import rank_text
    from palette_bench.pages.text import value_text

    def cell(row: Row) -> str:
        rank = row.rank.get(ORDERED_BY)
        place = rank_text(rank) if rank else ROLES.get(row.slug, "-")
        return f"{place:>7}  {value_text(row.scores[ORDERED_BY]):>6}"

    by_slug = [{row.slug: row for row in (*board.anchors, *board.rows)} for board in boards]
    table = [("rank and perceptual distance", *(board.task for board in boards))]
    for slug in dict.fromkeys(slug for of in by_slug for slug in of):
        table.append((slug, *(cell(of[slug]) if slug in of else "" for of in by_slug)))
    say("", *aligned(table), "", "Lower is better. Tests do not tell apart systems whose ranks overlap.")
    say(*(f"{board.task}: {text}" for board in boards for text in floor_words(board)))
