"""`palette-bench study serve | release | export | import`: raters come, and their answers become votes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

if TYPE_CHECKING:
    from palette_bench.study.answers import Source
    from palette_bench.study.export import Platform

_STUDY = click.Path(exists=True, file_okay=False, path_type=Path)
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_LOOPBACK = ("127.0.0.1", "localhost")


@click.command("serve")
@click.argument("study", type=_STUDY, metavar="STUDY")
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
    _require("starlette", "uvicorn")
    _refuse_open_doors(host, join_token, public_url)
    from palette_bench.cli.terminal import say
    from palette_bench.core.journal import locked
    from palette_bench.study.desk import Desk, monitor_password
    from palette_bench.study.folder import StudyFolder
    from palette_bench.study.serve import run
    from palette_bench.study.store import STORE, Store

    folder = StudyFolder.open(study)
    folder.check_stimuli()

    def ready(address: str) -> None:
        click.echo(f"{address}/" + (f"?join={join_token}" if join_token else ""))
        say(f"monitor      {address}/monitor   any name, password {monitor_password(folder.secret)}")
        say(f"afterwards   palette-bench study import {study} --platform serve -o votes.csv")

    with locked(study / "private"):
        store = Store(study / STORE)
        try:
            run(Desk(folder, store, 60 * patience), (host, port), join_token, public_url, ready)
        finally:
            store.close()


@click.command("release", short_help="Free the places of raters who left; their answers are kept.")
@click.argument("study", metavar="STUDY", type=_STUDY)
@click.argument("exports", metavar="[EXPORT.csv...]", nargs=-1, type=_FILE)
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
    from palette_bench.study.importing import given_back
    from palette_bench.study.store import STORE, Store

    if not (exports or raters or unfinished):
        raise UsageError("say who: --rater ID, --unfinished, or Prolific's exports")
    folder = StudyFolder.open(study)
    if not (study / STORE).is_file():
        fix = "raters come with `study serve`; before that every place is free"
        raise StorageError(problem("PB801", str(study / STORE), found="no such file", fix=fix))
    store = Store(study / STORE)
    try:
        names = [*raters, *given_back(folder, exports), *(store.raters() if unfinished else ())]
        found = store.release(names, folder.study.trials)
    finally:
        store.close()
    for name in found:
        click.echo(name)
    say(f"{len(found):,} places are free; the answers given there are kept")


def _require(*packages: str) -> None:
    from palette_bench.core.errors import StackError, problem

    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        fix = "pip install 'palette-bench[study]'"
        raise StackError(*(problem("PB711", package, fix=fix) for package in missing))


def _refuse_open_doors(host: str, join_token: str, public_url: str) -> None:
    """Refuse addresses that let anybody in, or that no browser would send back."""
    if (host not in _LOOPBACK or public_url) and not join_token:
        raise click.UsageError("a study others can reach needs --join-token WORD, or anybody may vote")
    parts = urlsplit(public_url)
    if public_url and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path.strip("/")):
        raise click.UsageError(f"--public-url is https://HOST or https://HOST:PORT, not {public_url}")
    if host in ("0.0.0.0", "::") and not public_url:
        raise click.UsageError(f"{host} is every interface: name the address raters type with --public-url")


@click.command("export")
@click.argument("study", type=_STUDY, metavar="STUDY")
@click.option("--platform", required=True, type=click.Choice(["folder", "amt", "prolific"]))
@click.option("--url", default="", help="Where pages will lie (amt), or the server is reached (prolific).")
@click.option("--join-token", default="", help="The word given to `study serve` (prolific).")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), help="The folder to make.")
def export(study: Path, platform: Platform, url: str, join_token: str, out: Path) -> None:
    """Write a study for people who do not come to this machine.

    `folder` and `amt` are pages that need no server of ours and hold no truth; `prolific` is the address
    and the completion code to enter there.

    \b
    palette-bench study export STUDY --platform folder -o PAGES
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.cli.terminal import finish, progress
    from palette_bench.study.export import export as write
    from palette_bench.study.folder import StudyFolder

    write(StudyFolder.open(study), platform, out, url=url, join_token=join_token, progress=progress)
    finish(out, next_command=f"study import {study} FILE --platform {platform} -o votes.csv")


@click.command("import")
@click.argument("study", type=_STUDY, metavar="STUDY")
@click.argument(
    "files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE..."
)
@click.option("--platform", required=True, type=click.Choice(["serve", "folder", "amt", "prolific"]))
@click.option("-o", "--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="votes.csv")
def import_(study: Path, files: tuple[Path, ...], platform: Source, out: Path) -> None:
    """Turn what a platform hands back into votes.csv; bad rows are named by line and nothing is written.

    FILE: the answers raters sent (folder), the result file (amt), the list of participants (prolific);
    none for `serve`.

    \b
    palette-bench study import STUDY answers-1.csv answers-2.csv --platform folder -o votes.csv
    """  # noqa: D301  # click looks for the backspace character itself
    if bool(files) == (platform == "serve"):
        raise click.UsageError("serve keeps its own votes: no FILE" if files else f"{platform} needs FILE...")
    from palette_bench.cli.terminal import finish, say
    from palette_bench.study.folder import StudyFolder
    from palette_bench.study.importing import import_votes
    from palette_bench.study.votes import write_votes

    imported = import_votes(StudyFolder.open(study), platform, files)
    write_votes(out, imported.votes)
    raters = len({vote.rater for vote in imported.votes})
    say(f"votes        {len(imported.votes):,} of {raters:,} raters; {imported.left_out:,} raters left out")
    finish(out, next_command=f"study analyse {study} {out} -o DIR")
