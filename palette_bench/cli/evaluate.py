"""`palette-bench evaluate`: checks and scores a folder of outputs, and writes a report and a board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from palette_bench.cli.options import CREDITS, DEVICE, EXISTING, PATH, SET, WEIGHTS, WORKERS, credits_of
from palette_bench.cli.terminal import aligned, finish, progress, say, show_problems

if TYPE_CHECKING:
    from palette_bench.benchset.manifest import BenchSet
    from palette_bench.scoring.scorecard import Scorecard


@click.command("evaluate", short_help="Check, score, report and rank a folder of outputs, in one command.")
@click.argument("outputs", metavar="OUTPUTS", type=EXISTING)
@SET
@click.option("-o", "--out", metavar="DIR", required=True, type=PATH, help="Folder to fill.")
@CREDITS
@click.option("--template", metavar="NAME", help="Name of an output, with {id} in it.  [default: {id}.png]")
@click.option("--tool-size", metavar="SIDE", type=click.IntRange(16, 8192), help="Side the tool worked at.")
@click.option("--accept-lossy", is_flag=True, help="Take JPEG outputs; the card says so.")
@click.option(
    "--extractor", "extractors", metavar="ID", multiple=True, help="As of `score`; repeat for more."
)
@WEIGHTS
@DEVICE
@WORKERS
def command(outputs: Path, benchset: Path, out: Path, **given: Any) -> None:
    """Check and score OUTPUTS beside the anchors of SET, and write a report and a board into DIR.

    OUTPUTS is a submission, or a plain folder of images named ID.png: their `submission.toml` is then
    written. All problems are listed at once. Run again after the outputs changed, and the draft in DIR is
    made anew; outputs of another method join its board.

    \b
    palette-bench evaluate RESULTS --set SET -o out --extractor smoke-random --name "My Method"
    palette-bench evaluate SUB --set SET -o out --extractor smoke-random
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.benchset.manifest import BenchSet
    from palette_bench.board.comparability import ANCHORS
    from palette_bench.board.record import add_cards
    from palette_bench.board.report import write_report
    from palette_bench.board.site import INDEX, build_site
    from palette_bench.pages.text import interval_text, value_text
    from palette_bench.scoring.scorecard import read_scorecard
    from palette_bench.submission.check import check

    target = BenchSet.open(benchset)
    say("1/4  check")
    submission = _submission(outputs, target, out, given)
    found = check(submission, benchset, workers=given["workers"], progress=progress)
    show_problems(found.problems)
    if not found.ok or found.card is None:
        say("refused: correct the outputs and run the same command again")
        raise click.exceptions.Exit(3)
    slug = found.card.method.slug
    say("2/4  score, beside the ceiling (original) and the floor (copy-input)")
    path = out / "cards" / f"{slug}.json"
    card = _score(submission, target, path, given)
    anchors = [_anchor(name, target, out, card, given) for name in ANCHORS if name != slug]
    # the scores of the outputs, followed by those of the anchors
    others = [read_scorecard(path) for path in anchors]
    rows = [("", card.method.slug, "95 %", *(other.method.slug for other in others))]
    for name, score in card.scores.items():
        beside = [value_text(other.scores[name]) if name in other.scores else "" for other in others]
        rows.append((name, value_text(score), interval_text(score), *beside))
    say(*(f"     {line}" for line in aligned(rows)))
    say("3/4  report")
    page = out / "reports" / f"{slug}.html"
    write_report(path, page, benchset=benchset, submission=submission, against=anchors, progress=progress)
    say("4/4  board")
    add_cards([path, *anchors], out / "record", replace=True)
    build_site(out / "record", out / "site")
    say("", f"report       {page}", f"scores       {path}")
    finish(out / "site" / INDEX, card.content_sha256)


def _submission(outputs: Path, target: BenchSet, out: Path, given: Mapping[str, Any]) -> Path:
    """Return `outputs` if it is a submission, else write its images as a submission and return that.

    Raises:
        UsageError: `outputs` is a submission, but options for plain images are given; or `out` holds outputs
            of another set.
    """
    from palette_bench.core.errors import UsageError
    from palette_bench.submission.card import CARD
    from palette_bench.submission.importing import MethodCredits, clear_import, import_results, slug_of
    from palette_bench.submission.methods import ToolOptions

    credit: MethodCredits = credits_of(given)
    options = ToolOptions(None, given["template"], given["tool_size"], given["accept_lossy"])
    if outputs.is_file() or (outputs / CARD).exists():
        if credit != MethodCredits() or options != ToolOptions():
            raise UsageError(f"{outputs} is a submission: its {CARD} already states who made it, and how")
        return outputs
    name = credit.name or outputs.resolve().name
    slug = credit.slug or slug_of(name)
    submission = out / "submissions" / slug
    clear_import(submission, target)
    credit = MethodCredits(name, slug, credit.version, credit.authors, credit.license)
    import_results("adapter:folder", target, outputs, submission, options, credit, progress)
    return submission


def _score(submission: Path, target: BenchSet, card: Path, given: Mapping[str, Any]) -> Scorecard:
    from palette_bench.scoring.score import score

    options = {name: given[name] for name in ("extractors", "device", "workers")}
    return score(
        submission, target.folder, card, weights=dict(given["weights"]), progress=progress, **options
    )


def _anchor(name: str, target: BenchSet, out: Path, own: Scorecard, given: Mapping[str, Any]) -> Path:
    """Return the path of an anchor's card; a card with the same fingerprints as `own` is kept.

    The fingerprint of the outputs is not compared.
    """
    from palette_bench.core.errors import PaletteBenchError
    from palette_bench.scoring.scorecard import read_scorecard
    from palette_bench.submission.methods import RestoreOptions, load_baseline
    from palette_bench.submission.restore import restore

    path, submission = out / "cards" / f"{name}.json", out / "submissions" / name
    if path.exists():
        try:
            prints = read_scorecard(path).fingerprints
        except PaletteBenchError:
            prints = None  # a damaged card is made again
        if prints and prints == own.fingerprints.model_copy(update={"outputs": prints.outputs}):
            return path
    restore(load_baseline(name).restorer(RestoreOptions()), target, submission, progress=progress)
    _score(submission, target, path, given)
    return path
