"""What verbs say of long runs."""

from __future__ import annotations

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
