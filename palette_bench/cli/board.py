"""`palette-bench board add | build | diff`: collects scorecards and builds the leaderboard site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from palette_bench.cli.options import FILE, FOLDER, NEW_FOLDER

if TYPE_CHECKING:
    from palette_bench.board.record import Tier


@click.group("board", short_help="Collect scorecards and build the leaderboard site.")
def command() -> None:
    """Collect scorecards and build the leaderboard site."""


@command.command("add")
@click.argument("cards", type=FILE, metavar="CARD.json...", nargs=-1, required=True)
@click.option("--record", required=True, type=NEW_FOLDER, help="The folder that collects scorecards.")
def add(cards: tuple[Path, ...], record: Path) -> None:
    """Copy scorecards and their per-image tables into a record, once all are proven unedited.

    \b
    palette-bench board add CARD.json --record reports
    palette-bench board add A.json B.json --record reports
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.board.record import add_cards
    from palette_bench.cli.terminal import say, say_next

    added = add_cards(cards, record)
    for path, new in added:
        if not new:
            say(f"already in the record: {path.name}")
        click.echo(str(path))
    say_next(f"board build {record} -o SITE")


@command.command("build")
@click.argument("record", type=FOLDER)
@click.option("-o", "--out", "site", required=True, type=NEW_FOLDER, help="The folder of the site.")
@click.option(
    "--min-tier",
    type=click.Choice(["self-reported", "verified", "reproduced"]),
    default="self-reported",
    show_default=True,
    help="Cards nobody vouched for that far are listed without rank.",
)
@click.option(
    "--license",
    "license_url",
    metavar="URL",
    default="",
    help="Licence of the scores; board pages tell search engines.",
)
@click.option(
    "--check", is_flag=True, help="Write nothing; exit 3 if the site is not what the record builds to."
)
@click.option(
    "--parquet", is_flag=True, help="Also write leaderboard.parquet; needs pyarrow. --check passes it over."
)
def build(record: Path, site: Path, min_tier: Tier, license_url: str, check: bool, parquet: bool) -> None:
    """Build the leaderboard site of a record: HTML, JSON, CSV, Markdown, LaTeX and badges.

    \b
    palette-bench board add CARD.json --record reports
    palette-bench board build reports -o site
    palette-bench board build reports -o site --check
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.board.site import INDEX, build_site, check_site
    from palette_bench.cli.terminal import finish

    if license_url and not license_url.startswith("https://"):
        raise click.BadParameter(f"{license_url!r} is no https:// address", param_hint="--license")
    if check:
        check_site(record, site, min_tier, license_url=license_url)
    else:
        build_site(record, site, min_tier, license_url=license_url, parquet=parquet)
    finish(site / INDEX)


@command.command("diff")
@click.argument("old", type=FILE, metavar="OLD.json")
@click.argument("new", type=FILE, metavar="NEW.json")
def diff(old: Path, new: Path) -> None:
    """Name what moved between two leaderboard.json: new, gone, value, rank, tier.

    \b
    palette-bench board diff OLD/leaderboard.json NEW/leaderboard.json
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.board.diff import changes
    from palette_bench.board.leaderboard import Leaderboard
    from palette_bench.cli.terminal import say

    found = changes(Leaderboard.read(old), Leaderboard.read(new))
    for change in found:
        click.echo(str(change))
    if not found:
        say("nothing changed")
