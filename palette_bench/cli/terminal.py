"""What verbs say to people (stderr) and to machines (stdout)."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from palette_bench.core.errors import Problem

_PATIENCE = 2.0  # seconds before progress is worth a word
_BETWEEN = 5.0  # seconds between the lines of a long run without a terminal


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], Any]]:
    """Show a bar with the time left; without a terminal, a line per 5 %. Nothing within two seconds."""
    if _quiet():
        yield lambda count: None
    elif sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=label, unit="picture", dynamic_ncols=True, delay=_PATIENCE) as bar:
            yield bar.update
    else:
        yield _line_per_twentieth(label, total)


def _line_per_twentieth(label: str, total: int) -> Callable[[int], Any]:
    done, start = 0, time.monotonic()

    def advance(count: int) -> None:
        nonlocal done
        before, done = done * 20 // total, done + count
        spent = time.monotonic() - start
        if done * 20 // total > before and spent >= _PATIENCE:
            left = spent * (total - done) / done
            click.echo(f"{label}: {done:,} of {total:,}, about {left:.0f} s left", err=True)

    return advance


class Overall:
    """One line for a run of many steps: updated in place; without a terminal, a line every 5 seconds."""

    def __init__(self, steps: int) -> None:
        """Begin a run of so many steps."""
        self._steps, self._done, self._within = steps, -1.0, 0.0
        self._name = ""
        self._start = self._told = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty() and not _quiet():
            from tqdm import tqdm

            form = "{percentage:3.0f} % |{bar:24}| {elapsed}, about {remaining} left  {desc}"
            self._bar = tqdm(total=steps, bar_format=form, dynamic_ncols=True)

    def step(self, name: str) -> None:
        """Begin the next step."""
        self._done, self._within, self._name = self._done + 1, 0.0, name
        self._show()

    def part(self, share: float) -> Any:
        """Return progress, as functions of the package take it, that fills a share of the step."""

        @contextmanager
        def progress(label: str, total: int) -> Iterator[Callable[[int], Any]]:
            def advance(count: int) -> None:
                self._within = min(1.0, self._within + share * count / max(total, 1))
                self._show()

            yield advance

        return progress

    def end(self) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        done, now = self._done + self._within, time.monotonic()
        if self._bar is not None:
            self._bar.set_description_str(self._name, refresh=False)
            self._bar.update(done - self._bar.n)
        elif now - self._told >= _BETWEEN:
            self._told = now
            left = (now - self._start) * (self._steps - done) / done if done > 0 else 0
            say(f"{done / self._steps:4.0%}, about {left:.0f} s left: {self._name}")


def _quiet() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.find_root().obj and context.find_root().obj["quiet"])


def say(*lines: str) -> None:
    """Tell the person something, unless they asked for quiet."""
    for line in () if _quiet() else lines:
        click.echo(line, err=True)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines with their columns under each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


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
        say_next(next_command)


def say_next(command: str) -> None:
    """Name the likely next command."""
    say(f"next         palette-bench {command}")
