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


@click.command("show", short_help="Print any record file in short.")
@click.argument("file", type=click.Path(path_type=Path))
def command(file: Path) -> None:
    """Print FILE (manifest, submission, scorecard, leaderboard, protocol) a key per line."""
    from palette_bench.core.errors import RecordError, problem
    from palette_bench.core.records import read_file

    data = read_file(file)
    try:
        value = tomllib.loads(data.decode()) if file.suffix == ".toml" else json.loads(data)
    except ValueError as error:
        raise RecordError(problem("PB401", str(file), found=str(error)[:200])) from error
    click.echo("\n".join(_lines(value)))
