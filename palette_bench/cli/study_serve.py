"""`palette-bench study serve | export | import`: raters come, and their answers become votes."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

_STUDY = click.Path(exists=True, file_okay=False, path_type=Path)
_LOOPBACK = ("127.0.0.1", "localhost")


@click.command("serve")
@click.argument("study", type=_STUDY, metavar="STUDY")
@click.option("--host", default="127.0.0.1", show_default=True, help="Interface; others need --join-token.")
@click.option(
    "--port", default=8008, show_default=True, type=click.IntRange(0, 65535), help="0: any free one."
)
@click.option("--join-token", default="", help="A word that raters' addresses must carry: /?join=WORD.")
@click.option("--public-url", default="", help="What raters type, where a proxy stands before: https://HOST.")
def serve(study: Path, host: str, port: int, join_token: str, public_url: str) -> None:
    """Serve a study to raters, and its monitor to maintainers, until Ctrl-C.

    Votes lie in STUDY/private/votes.sqlite and are on the disk before the next pair is sent; started
    again, the server goes on where it was.
    """
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
            run(Desk(folder, store), (host, port), join_token, public_url, ready)
        finally:
            store.close()


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
    if host in ("0.0.0.0", "::") and not public_url:
        raise click.UsageError(f"{host} is every interface: name the address raters type with --public-url")
