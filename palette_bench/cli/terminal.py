"""Terminal output of the verbs: progress and messages on stderr, results on stdout."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click

from palette_bench.core.errors import Problem

_PATIENCE = 2.0  # seconds before any progress is shown
_BETWEEN = 5.0  # seconds between the lines of `Overall` without a terminal


@contextmanager
def progress(label: str, total: int) -> Iterator[Callable[[int], Any]]:
    """Yield a function advance(count) that updates a progress bar, shown after two seconds.

    Without a terminal, it prints a line per 5 % instead. The bar and the lines state the remaining time.

    Args:
        label: text of the bar.
        total: number of items.
    """
    if _quiet():
        yield lambda count: None
    elif sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=label, unit="image", delay=_PATIENCE, **_bar_size()) as bar:
            yield bar.update
    else:
        done, start = 0, time.monotonic()

        def advance(count: int) -> None:
            nonlocal done
            before, done = done * 20 // total, done + count
            spent = time.monotonic() - start
            if done * 20 // total > before and spent >= _PATIENCE:
                left = spent * (total - done) / done
                click.echo(f"{label}: {done:,} of {total:,}, about {left:.0f} s left", err=True)

        yield advance


class Overall:
    """Progress of a run of many steps: one bar, or without a terminal, a line every 5 seconds."""

    def __init__(self, steps: int) -> None:
        """Start a run with this number of steps."""
        self._steps, self._done, self._within = steps, -1.0, 0.0
        self._name = ""
        self._start = self._shown_at = time.monotonic()
        self._bar: Any = None
        if sys.stderr.isatty() and not _quiet():
            from tqdm import tqdm

            form = "{percentage:3.0f} % |{bar:24}| {elapsed}, about {remaining} left  {desc}"
            self._bar = tqdm(total=steps, bar_format=form, **_bar_size())

    def step(self, name: str) -> None:
        """Start the next step and show its name."""
        self._done, self._within, self._name = self._done + 1, 0.0, name
        self._show()

    def part(self, share: float) -> Any:
        """Return a progress callback that fills this share, in [0, 1], of the current step."""

        @contextmanager
        def progress(label: str, total: int) -> Iterator[Callable[[int], Any]]:
            def advance(count: int) -> None:
                self._within = min(1.0, self._within + share * count / max(total, 1))
                self._show()

            yield advance

        return progress

    def end(self) -> None:
        """Close the bar."""
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        done, now = self._done + self._within, time.monotonic()
        if self._bar is not None:
            self._bar.set_description_str(self._name, refresh=False)
            self._bar.update(done - self._bar.n)
        elif now - self._shown_at >= _BETWEEN:
            self._shown_at = now
            left = (now - self._start) * (self._steps - done) / done if done > 0 else 0
            say(f"{done / self._steps:4.0%}, about {left:.0f} s left: {self._name}")


def _bar_size() -> dict[str, Any]:
    """Return tqdm's options for the size of the terminal.

    A terminal that reports 0 rows, such as one of `docker exec -t`, would hide the bar.
    """
    with suppress(OSError):  # a stream that calls itself a terminal and is no file
        if os.get_terminal_size(sys.stderr.fileno()).lines:
            return {"dynamic_ncols": True}
    return {"ncols": 79, "nrows": 24}


def _quiet() -> bool:
    context = click.get_current_context(silent=True)
    return bool(context and context.find_root().obj and context.find_root().obj["quiet"])


def say(*lines: str) -> None:
    """Print lines on stderr, unless --quiet is given."""
    for line in () if _quiet() else lines:
        click.echo(line, err=True)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines of text with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]


def show_problems(problems: Iterable[Problem]) -> None:
    """Print problems on stderr, with a colour for their severity."""
    for finding in problems:
        colour = {"error": "red", "warning": "yellow", "info": "cyan"}[finding.severity]
        head, _, rest = str(finding).partition("\n")
        click.echo(click.style(head, fg=colour, bold=True), err=True)
        if rest:
            click.echo(rest, err=True)


def finish(path: Path, fingerprint: str = "", next_command: str = "") -> None:
    """Print a verb's result: its path on stdout, its fingerprint and the likely next command on stderr."""
    click.echo(str(path))
    if fingerprint:
        say(f"fingerprint  {fingerprint[:12]}")
    if next_command:
        say_next(next_command)


def say_next(command: str) -> None:
    """Print the likely next command on stderr."""
    say(f"next         palette-bench {command}")
