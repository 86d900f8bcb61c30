"""`palette-bench show`."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import click

_LONGEST = 96


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 3:
        return f"{len(value):,} entries"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _lines(value: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += _lines(item, f"{prefix}{key}.")
        elif item is not None:
            lines.append(f"{prefix}{key:<{max(1, 34 - len(prefix))}} {_short(item)}")
    return lines


def _recipe(method: str, name: str) -> str:
    """Return a recipe of a method, every key of it.

    Raises:
        UsageError: there is none of that name.
    """
    from palette_bench.core.errors import UsageError, suggest
    from palette_bench.submission.contestant import load_baseline

    baseline = load_baseline(method)
    known = baseline.recipes() if hasattr(baseline, "recipes") else {}
    if name not in known:
        raise UsageError(f"{method} has no recipe {name!r}: {suggest(name, known)}")
    return str(baseline.recipe(name) if hasattr(baseline, "recipe") else known[name])


def _methods_with(name: str) -> list[str]:
    from palette_bench.submission.contestant import baselines

    return [m for m, point in sorted(baselines().items()) if name in getattr(point.load(), "recipes", dict)()]


@click.command("show", short_help="Print any record file in short, or a recipe to copy.")
@click.argument("words", metavar="FILE | METHOD RECIPE", nargs=-1, required=True)
def command(words: tuple[str, ...]) -> None:
    """Print FILE (manifest, submission, scorecard, leaderboard, protocol) a key per line.

    METHOD RECIPE prints a recipe with every key, to copy and change: `show palette mini-cpu > my.toml`.
    """
    from palette_bench.core.errors import RecordError, UsageError, problem
    from palette_bench.core.records import read_file

    file = Path(words[0])
    if len(words) > 2:
        raise UsageError("show takes one FILE, or METHOD RECIPE")
    if len(words) == 2:
        click.echo(_recipe(*words), nl=False)
        return
    if not file.exists() and (methods := _methods_with(words[0])):
        raise UsageError(f"recipe {words[0]}: {' or '.join(f'show {m} {words[0]}' for m in methods)}")
    data = read_file(file)
    try:
        value = tomllib.loads(data.decode()) if file.suffix == ".toml" else json.loads(data)
    except ValueError as error:
        raise RecordError(problem("PB401", str(file), found=str(error)[:200])) from error
    click.echo("\n".join(_lines(value)))
