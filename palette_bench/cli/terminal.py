"""What verbs say to people (stderr) and to machines (stdout)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from palette_bench.core.errors import Problem


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], Any]]:
    """Show a bar with time left; without a terminal, a line per 5 %."""
    if _quiet():
        yield lambda count: None
    elif sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=label, unit="picture", dynamic_ncols=True) as bar:
            yield bar.update
    else:
        yield _line_per_twentieth(label, total)


def _line_per_twentieth(label: str, total: int) -> Callable[[int], Any]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        before, done = done * 20 // max(total, 1), done + count
        if done * 20 // max(total, 1) > before:
            click.echo(f"{label}: {done:,} of {total:,}", err=True)

    return advance


def _quiet() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.find_root().obj and context.find_root().obj["quiet"])


def say(*lines: str) -> None:
    """Tell the person something, unless they asked for quiet."""
    for line in () if _quiet() else lines:
        click.echo(line, err=True)


def show_problems(problems: Iterable[Problem]) -> None:
    """Print findings, each as its lines."""
    for finding in problems:
        colour = {"error": "red", "warning": "yellow", "info": "cyan"}[finding.severity]
        head, _, rest = str(finding).partition("\n")
        click.echo(click.style(head, fg=colour, bold=True), err=True)
        if rest:
            click.echo(rest, err=True)


def finish(path: Path, fingerprint: str = "", next_command: str = "") -> None:
    """End a verb: the path on stdout; fingerprint and likely next command for the person."""
    click.echo(str(path))
    if fingerprint:
        say(f"fingerprint  {fingerprint[:12]}")
    if next_command:
        say(f"next         palette-bench {next_command}")
