"""`palette-bench study design | serve | export | import | simulate | analyse`."""

from __future__ import annotations

from pathlib import Path

import click

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
    """
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
