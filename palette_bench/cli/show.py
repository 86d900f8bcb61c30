"""`palette-bench show`: prints a record file in short, or a recipe."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import click

from palette_bench.cli.terminal import aligned

_LONGEST = 96  # characters of a value before it is cut


def _lines(value: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += _lines(item, f"{prefix}{key}.")
        elif item is not None:
            text = json.dumps(item, ensure_ascii=False)
            if isinstance(item, list) and len(item) > 3:
                text = f"{len(item):,} entries"
            elif len(text) > _LONGEST:
                text = f"{text[: _LONGEST - 3]}..."
            lines.append(f"{prefix}{key:<{max(1, 34 - len(prefix))}} {text}")
    return lines


def _scorecard(file: Path) -> list[str]:
    """Return a scorecard as lines: method, set, counts and warnings, then a table of scores."""
    from palette_bench.pages.text import place, score_rows
    from palette_bench.scoring.scorecard import read_scorecard

    card = read_scorecard(file)
    about = {
        "method": f"{card.method.name} {card.method.version} ({card.method.slug})",
        "set": f"{card.protocol} {place(card.task, card.variant)} on {card.source}, "
        f"{card.fingerprints.set[:12]}",
        "images": f"{card.n_scored:,} of {card.n_expected:,}",
        "card": f"{card.content_sha256[:12]}, {card.date}",
        "warnings": ", ".join(p.code for p in card.problems if p.severity == "warning") or "none",
    }
    return [*(f"{name:<12} {text}" for name, text in about.items()), "", *aligned(score_rows(card.scores))]


def _recipe(method: str, name: str) -> str:
    """Return the TOML text of a method's recipe, with all its keys.

    Raises:
        UsageError: the method has no recipe of that name.
    """
    from palette_bench.core.errors import UsageError, suggest
    from palette_bench.submission.methods import load_baseline

    baseline = load_baseline(method)
    known = baseline.recipes() if hasattr(baseline, "recipes") else {}
    if name not in known:
        others = suggest(name, known) if known else "it has none"
        raise UsageError(f"{method} has no recipe {name!r}: {others}")
    return str(baseline.recipe(name) if hasattr(baseline, "recipe") else known[name])


@click.command("show", short_help="Print any record file in short, or a recipe to copy.")
@click.argument("words", metavar="FILE | METHOD RECIPE", nargs=-1, required=True)
def command(words: tuple[str, ...]) -> None:
    """Print FILE (manifest, submission, leaderboard, protocol) a key per line, a scorecard as a table.

    METHOD RECIPE prints a recipe with every key, to copy and change.

    \b
    palette-bench show CARD.json
    palette-bench show SET/manifest.json
    palette-bench show palette mini-cpu
    """  # noqa: D301  # click looks for the backspace character itself
    from palette_bench.core.errors import RecordError, UsageError, problem
    from palette_bench.core.records import read_file
    from palette_bench.core.text import decode_text
    from palette_bench.submission.methods import baselines

    file = Path(words[0])
    if len(words) > 2:
        raise UsageError("show takes one FILE, or METHOD RECIPE")
    if len(words) == 2:
        click.echo(_recipe(*words), nl=False)
        return
    if not file.exists():
        name, points = words[0], baselines()
        if name in points:
            raise UsageError(f"show {name} RECIPE prints one of its recipes: palette-bench ls recipes")
        loaded = ((method, point.load()) for method, point in sorted(points.items()))
        if methods := [method for method, found in loaded if name in getattr(found, "recipes", dict)()]:
            raise UsageError(f"recipe {name}: {' or '.join(f'show {m} {name}' for m in methods)}")
    data = read_file(file)
    try:
        text = decode_text(data)
        value = tomllib.loads(text) if file.suffix == ".toml" else json.loads(text)
    except ValueError as error:
        raise RecordError(problem("PB401", str(file), found=str(error)[:200])) from error
    if not isinstance(value, dict):
        found = type(value).__name__
        raise RecordError(problem("PB401", str(file), expected="a table of keys", found=found))
    kind = str(value.get("schema", "")).split("/")
    click.echo("\n".join(_scorecard(file) if kind[1:2] == ["scorecard"] else _lines(value)))
