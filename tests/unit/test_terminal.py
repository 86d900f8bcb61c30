"""What verbs say of long runs."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios

import pytest

from palette_bench.cli import terminal


def test_a_long_run_without_a_terminal_says_a_line_every_five_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: clock[0])
    overall = terminal.Overall(2)
    for name in ("one", "two"):
        overall.step(name)
        with overall.part(1.0)("anything", 10) as advance:
            for _ in range(10):
                clock[0] += 1.0
                advance(1)
    overall.end()
    assert capsys.readouterr().err.splitlines() == [
        " 25%, about 15 s left: one",
        " 50%, about 10 s left: one",
        " 75%, about 5 s left: two",
        "100%, about 0 s left: two",
    ]


def test_parts_of_a_step_never_go_beyond_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "_BETWEEN", 0.0)
    overall = terminal.Overall(4)
    overall.step("one")
    for _ in range(3):  # a cached part says nothing, another may say more than was expected
        with overall.part(0.6)("anything", 10) as advance:
            advance(10)
    assert capsys.readouterr().err.splitlines()[-1].startswith(" 25%")


BAR = """
from palette_bench.cli.terminal import Overall
overall = Overall(2)
overall.step("restoring")
overall.end()
"""


@pytest.mark.parametrize("size", [(0, 0), (0, 100), (30, 100)])
def test_the_bar_shows_on_terminals_that_do_not_know_their_size(size: tuple[int, int]) -> None:
    """As `docker exec -t` and `ssh -tt` make them: 0 rows, and tqdm hides bars below the last row."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, size)
    done = subprocess.run([sys.executable, "-c", BAR], stderr=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 4096).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "restoring" in shown
