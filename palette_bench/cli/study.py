"""`palette-bench study design | serve | release | export | import | simulate | analyse`: human studies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from palette_bench.cli.options import EXISTING, FILE, FOLDER, NEW_FILE, PATH

if TYPE_CHECKING:
    from palette_bench.study.platforms import Platform
    from palette_bench.study.votes import Source


_LOOPBACK = ("127.0.0.1", "localhost")


@click.command("serve")
@click.argument("study", type=FOLDER, metavar="STUDY")
@click.option("--host", default="127.0.0.1", show_default=True, help="Interface; others need --join-token.")
@click.option(
    "--port", default=8008, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
)
@click.option("--join-token", default="", help="A word that raters' addresses must carry: /?join=WORD.")
@click.option(
    "--patience",
    metavar="MINUTES",
    default=60.0,
    show_default=True,
    type=click.FloatRange(1),
    help="A place nobody was heard of for so long goes to the next rater, once no other is free.",
)
@click.option("--public-url", default="", help="What raters type, where a proxy stands before: https://HOST.")
def serve(study: Path, host: str, port: int, join_token: str, patience: float, public_url: str) -> None:
    """Serve a study to raters, and its monitor to maintainers, until Ctrl-C.

    Votes lie in STUDY/private/votes.sqlite and are on the disk before the next pair is sent; started
    again, the server goes on where it was. Answers of raters who leave are kept; `study release` frees their
    places at once.

    \b
    palette-bench study serve STUDY    # waits for raters
    """  # noqa: D301  # click looks for the backspace character itself
    # nobody without the join token may vote, and browsers must be able to use the public address
    if (host not in _LOOPBACK or public_url) and not join_token:
        raise click.UsageError("a study that others can reach needs --join-token WORD, or anybody may vote")
    parts = urlsplit(public_url)
    if public_url and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/")):
        raise click.UsageError(f"--public-url is https://HOST or https://HOST:PORT, not {public_url}")
    if host in ("0.0.0.0", "::") and not public_url:
        raise click.UsageError(f"{host} means every interface: give the raters' address as --public-url")
    from palette_bench.cli.terminal import say
    from palette_bench.core.journal import locked
    from palette_bench.study.folder import StudyFolder
    from palette_bench.study.server import run
    from palette_bench.study.session import VotingSession, monitor_password
    from palette_bench.study.store import STORE, VoteStore

    folder = StudyFolder.open(study)
    folder.check_stimuli()

    def ready(address: str) -> None:
        click.echo(f"{address}/" + (f"?join={join_token}" if join_token else ""))
        say(f"monitor      {address}/monitor   any name, password {monitor_password(folder.secret)}")
        say(f"afterwards   palette-bench study import {study} --platform serve -o votes.csv")

    with locked(study / "private"):
        store = VoteStore(study / STORE)
        try:
            run(VotingSession(folder, store, 60 * patience), (host, port), join_token, public_url, ready)
        finally:
            store.close()


@click.command("release", short_help="Free the places of raters who left; their answers are kept.")
@click.argument("study", metavar="STUDY", type=FOLDER)
@click.argument("exports", metavar="[EXPORT.csv...]", nargs=-1, type=FILE)
@click.option("--rater", "raters", metavar="ID", multiple=True, help="Pseudonym, as in votes.csv; repeat.")
@click.option("--unfinished", is_flag=True, help="Everybody who has not finished: nobody is at it any more.")
def release(study: Path, exports: tuple[Path, ...], raters: tuple[str, ...], unfinished: bool) -> None:
    """Free the places of raters who left, so that others take them; it works while the study is served.

    EXPORT.csv are Prolific's exports: whoever is RETURNED or TIMED-OUT there is released. One who comes back
    goes on if the place is still free.

    \b
    palette-bench study release STUDY --unfinished
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import say
    from palette_bench.core.errors import StorageError, UsageError, problem
    from palette_bench.study.folder import StudyFolder
    from palette_bench.study.platforms import given_back
    from palette_bench.study.store import STORE, VoteStore

    if not (exports or raters or unfinished):
        raise UsageError("say whom to release: --rater ID, --unfinished, or Prolific's exports")
    folder = StudyFolder.open(study)
    if not (study / STORE).is_file():
        fix = "no rater has joined yet: raters join while `study serve` runs"
        raise StorageError(problem("PB801", str(study / STORE), found="no such file", fix=fix))
    store = VoteStore(study / STORE)
    try:
        names = [*raters, *given_back(folder, exports), *(store.raters() if unfinished else ())]
        found = store.release(names, folder.study.trials)
    finally:
        store.close()
    for name in found:
        click.echo(name)
    say(f"{len(found):,} places are free; the answers of their raters are kept")


@click.command("export")
@click.argument("study", type=FOLDER, metavar="STUDY")
@click.option("--platform", required=True, type=click.Choice(["folder", "amt", "prolific"]))
@click.option("--url", default="", help="Where pages will lie (amt), or the server is reached (prolific).")
@click.option("--join-token", default="", help="The word given to `study serve` (prolific).")
@click.option("-o", "--out", required=True, type=PATH, help="The folder to make.")
def export(study: Path, platform: Platform, url: str, join_token: str, out: Path) -> None:
    """Write a study for people who do not come to this machine.

    `folder` and `amt` are pages that need no server of ours and hold no truth; `prolific` is the address
    and the completion code to enter there.

    \b
    palette-bench study export STUDY --platform folder -o PAGES
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import finish, progress
    from palette_bench.study.folder import StudyFolder
    from palette_bench.study.platforms import export as write

    write(StudyFolder.open(study), platform, out, url=url, join_token=join_token, progress=progress)
    finish(out, next_command=f"study import {study} FILE --platform {platform} -o votes.csv")


@click.command("import")
@click.argument("study", type=FOLDER, metavar="STUDY")
@click.argument("files", nargs=-1, type=FILE, metavar="FILE...")
@click.option("--platform", required=True, type=click.Choice(["serve", "folder", "amt", "prolific"]))
@click.option("-o", "--out", required=True, type=NEW_FILE, help="votes.csv")
def import_(study: Path, files: tuple[Path, ...], platform: Source, out: Path) -> None:
    """Turn what a platform hands back into votes.csv; bad rows are named by line and nothing is written.

    FILE: the answers raters sent (folder), the result file (amt), the list of participants (prolific);
    none for `serve`.

    \b
    palette-bench study import STUDY answers-1.csv answers-2.csv --platform folder -o votes.csv
    """  # noqa: D301  # click looks for the backspace character itself
    if bool(files) == (platform == "serve"):
        raise click.UsageError("serve stores votes: give no FILE" if files else f"{platform} needs FILE...")
    from palette_bench.cli.terminal import finish, say
    from palette_bench.study.folder import StudyFolder
    from palette_bench.study.platforms import import_votes
    from palette_bench.study.votes import write_votes

    imported = import_votes(StudyFolder.open(study), platform, files)
    write_votes(out, imported.votes)
    raters = len({vote.rater for vote in imported.votes})
    say(f"votes        {len(imported.votes):,} of {raters:,} raters; {imported.left_out:,} raters left out")
    finish(out, next_command=f"study analyse {study} {out} -o DIR")


@click.group("study", short_help="Measure the fool rate: design, run and analyse a human study.")
def command() -> None:
    """Measure the fool rate: design, run and analyse a human study.

    Raters see a method's output beside the original and guess which one is from a camera. The fool rate
    is the share of trials in which they pick the output; 50 % means that they cannot tell.
    """


@command.command("design")
@click.argument("plan", type=FILE, metavar="study.toml")
@click.option("--set", "benchset", required=True, type=FOLDER, help="The set whose images are shown.")
@click.option(
    "--submission",
    "submissions",
    required=True,
    multiple=True,
    type=EXISTING,
    help="A method under study; give it once per method.",
)
@click.option("-o", "--out", required=True, type=PATH, help="The study folder to make.")
def design(plan: Path, benchset: Path, submissions: tuple[Path, ...], out: Path) -> None:
    """Freeze a plan: choose images, deal balanced lists of trials, write the stimuli.

    Prints how wide the interval will be. Once made, a study never changes.

    \b
    palette-bench study design study.toml --set SET --submission SUB -o STUDY
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import finish, progress, say
    from palette_bench.study.assignment import reach
    from palette_bench.study.design import design as freeze

    study = freeze(plan, benchset, submissions, out, progress=progress)
    say(
        f"study        {study.id}",
        f"each rater   {study.practice} practice, {study.test_trials} test and {study.catch} catch trials",
        f"interval     {reach(study, len(study.methods))}",
    )
    finish(out, next_command=f"study serve {out}")


@command.command("simulate")
@click.argument("study", type=FOLDER)
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
@click.option("-o", "--out", required=True, type=PATH, help="The votes.csv to write.")
def simulate(study: Path, raters: int | None, rates: tuple[str, ...], out: Path, **model: Any) -> None:
    """Write votes of made-up raters, to try a study before people do. Cards made of them never rank.

    \b
    palette-bench study simulate STUDY -o votes.csv --rate .45
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import finish
    from palette_bench.study.folder import StudyFolder
    from palette_bench.study.simulate import SimulatedRaters, simulate
    from palette_bench.study.votes import write_votes

    folder = StudyFolder.open(study)
    given: dict[str, float] = {}
    for text in sorted(rates, key=lambda text: "=" in text):  # SLUG=NUMBER overrides a bare number, for all
        slug, _, number = text.rpartition("=")
        try:
            given |= dict.fromkeys([slug] if slug else folder.study.slugs, float(number))
        except ValueError:
            message = f"{text!r} is neither NUMBER nor SLUG=NUMBER"
            raise click.BadParameter(message, param_hint="--rate") from None
    crowd = SimulatedRaters(raters or folder.study.raters, given, **model)
    write_votes(out, simulate(folder, crowd))
    finish(out, next_command=f"study analyse {study} {out} -o DIR")


@command.command("analyse")
@click.argument("study", type=FOLDER)
@click.argument("votes", type=FILE, metavar="votes.csv")
@click.option(
    "--scorecard",
    "scorecards",
    multiple=True,
    type=FILE,
    help="A studied method's card; a new one with the fool rate is written.",
)
@click.option("--invited", type=click.IntRange(0), help="Raters invited, for the flow box.")
@click.option("--consented", type=click.IntRange(0), help="Raters who agreed, for the flow box.")
@click.option("--withdrawn", type=click.IntRange(0), help="Raters who withdrew, for the flow box.")
@click.option("--peek", is_flag=True, help="Look before the stop rule is met; everything is marked.")
@click.option("-o", "--out", required=True, type=PATH, help="The folder for results and cards.")
def analyse(
    study: Path, votes: Path, scorecards: tuple[Path, ...], peek: bool, out: Path, **counts: Any
) -> None:
    """Turn votes into fool rates with intervals for which raters and images are both random.

    Writes analysis.json, a page, a table of images, a data sheet, and new scorecards; old cards stay.

    \b
    palette-bench study simulate STUDY -o votes.csv
    palette-bench study analyse STUDY votes.csv --scorecard CARD.json -o RESULT
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import finish, say, show_problems
    from palette_bench.study.analysis_report import lines, write_analysis
    from palette_bench.study.exclusions import PlatformCounts

    head = PlatformCounts(**counts)
    analysis = write_analysis(study, votes, out, cards=scorecards, head=head, peek=peek)
    show_problems(analysis.problems)
    say(*lines(analysis))
    finish(out / "analysis.json", analysis.content_sha256, f"board add {out}/SLUG.json --record DIR")


for verb in (serve, release, export, import_):
    command.add_command(verb)
