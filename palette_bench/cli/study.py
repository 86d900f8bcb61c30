"""`palette-bench study design | serve | release | export | import | simulate | analyse`."""

from __future__ import annotations

from pathlib import Path

import click

from palette_bench.cli.study_serve import export, import_, release, serve

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_STUDY = click.Path(exists=True, file_okay=False, path_type=Path)
_PATH = click.Path(exists=True, path_type=Path)
_NEW = click.Path(path_type=Path)


@click.group("study", short_help="Measure the fool rate: design, run and analyse a human study.")
def command() -> None:
    """Measure the fool rate: design, run and analyse a human study.

    Raters see a method's output beside the original and guess which one is from a camera. The fool rate
    is the share of trials in which they pick the output; 50 % means that they cannot tell.
    """


@command.command("design")
@click.argument("plan", type=_FILE, metavar="study.toml")
@click.option("--set", "benchset", required=True, type=_STUDY, help="The set whose pictures are shown.")
@click.option(
    "--submission",
    "submissions",
    required=True,
    multiple=True,
    type=_PATH,
    help="A method under study; give it once per method.",
)
@click.option("-o", "--out", required=True, type=_NEW, help="The study folder to make.")
def design(plan: Path, benchset: Path, submissions: tuple[Path, ...], out: Path) -> None:
    """Freeze a plan: choose images, deal balanced lists of trials, write the stimuli.

    Prints how wide the interval will be. Once made, a study never changes.

    \b
    palette-bench study design study.toml --set SET --submission SUB -o STUDY
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import finish, progress, say
    from palette_bench.study.design import design as freeze
    from palette_bench.study.planning import reach

    study = freeze(plan, benchset, submissions, out, progress=progress)
    say(
        f"study        {study.id}",
        f"each rater   {study.practice} practice, {study.test_trials} test and {study.catch} catch trials",
        f"interval     {reach(study, len(study.methods))}",
    )
    finish(out, next_command=f"study serve {out}")


@command.command("simulate")
@click.argument("study", type=_STUDY)
@click.option("--raters", type=click.IntRange(1), help="As many as the plan says, unless given.")
@click.option(
    "--rate",
    "rates",
    multiple=True,
    default=("0.45",),
    show_default=True,
    help="Long-run fool rate: a number for all methods, or SLUG=NUMBER.",
)
@click.option("--image-sd", type=click.FloatRange(0), default=0.8, show_default=True, help="Logits.")
@click.option("--rater-sd", type=click.FloatRange(0), default=0.5, show_default=True, help="Logits.")
@click.option(
    "--lapse",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.02,
    show_default=True,
    help="Share of trials answered by a coin.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Equal seeds give equal votes.")
@click.option("-o", "--out", required=True, type=_NEW, help="The votes.csv to write.")
def simulate(
    study: Path,
    raters: int | None,
    rates: tuple[str, ...],
    image_sd: float,
    rater_sd: float,
    lapse: float,
    seed: int,
    out: Path,
) -> None:
    """Write votes of made-up raters, to try a study before people do. Cards made of them never rank.

    \b
    palette-bench study simulate STUDY -o votes.csv --rate .45
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import finish
    from palette_bench.study.folder import StudyFolder
    from palette_bench.study.simulate import Crowd, simulate
    from palette_bench.study.votes import write_votes

    folder = StudyFolder.open(study)
    given = _rates(rates, folder.study.slugs)
    crowd = Crowd(raters or folder.study.raters, given, image_sd, rater_sd, lapse, seed)
    write_votes(out, simulate(folder, crowd))
    finish(out, next_command=f"study analyse {study} {out} -o DIR")


def _rates(texts: tuple[str, ...], slugs: tuple[str, ...]) -> dict[str, float]:
    """Return slug -> rate; a bare number is for every method, and a named one overrides it."""
    found: dict[str, float] = {}
    for text in sorted(texts, key=lambda text: "=" in text):
        slug, _, number = text.rpartition("=")
        try:
            found |= dict.fromkeys([slug] if slug else slugs, float(number))
        except ValueError:
            raise click.BadParameter(
                f"{text!r} is neither NUMBER nor SLUG=NUMBER", param_hint="--rate"
            ) from None
    return found


@command.command("analyse")
@click.argument("study", type=_STUDY)
@click.argument("votes", type=_FILE, metavar="votes.csv")
@click.option(
    "--scorecard",
    "scorecards",
    multiple=True,
    type=_FILE,
    help="A studied method's card; a new one with the fool rate is written.",
)
@click.option("--invited", type=click.IntRange(0), help="Raters invited, for the flow box.")
@click.option("--consented", type=click.IntRange(0), help="Raters who agreed, for the flow box.")
@click.option("--withdrawn", type=click.IntRange(0), help="Raters who withdrew, for the flow box.")
@click.option("--peek", is_flag=True, help="Look before the stop rule is met; everything is marked.")
@click.option("-o", "--out", required=True, type=_NEW, help="The folder for results and cards.")
def analyse(
    study: Path,
    votes: Path,
    scorecards: tuple[Path, ...],
    invited: int | None,
    consented: int | None,
    withdrawn: int | None,
    peek: bool,
    out: Path,
) -> None:
    """Turn votes into fool rates with intervals for which raters and images are both random.

    Writes analysis.json, a page, a table of images, a data sheet, and new scorecards; old cards stay.

    \b
    palette-bench study simulate STUDY -o votes.csv
    palette-bench study analyse STUDY votes.csv --scorecard CARD.json -o RESULT
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import finish, say, show_problems
    from palette_bench.study.exclusions import Head
    from palette_bench.study.output import lines, write_analysis

    head = Head(invited, consented, withdrawn)
    analysis = write_analysis(study, votes, out, cards=scorecards, head=head, peek=peek)
    show_problems(analysis.problems)
    say(*lines(analysis))
    finish(out / "analysis.json", analysis.content_sha256, f"board add {out}/SLUG.json --record DIR")


for verb in (serve, release, export, import_):
    command.add_command(verb)
