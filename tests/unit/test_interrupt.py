"""Ctrl-C: the first ends after the current item, the second at once."""

from __future__ import annotations

import signal

import pytest

from palette_bench.core import interrupt
from palette_bench.core.interrupt import Interrupted, stoppable


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(interrupt, "time", clock)
    return clock


@pytest.mark.trust("training: Ctrl-C twice")
def test_a_second_ctrl_c_ends_at_once_with_130(clock: Clock) -> None:
    with stoppable():
        signal.raise_signal(signal.SIGINT)
        clock.now += 2
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signal.SIGINT)
    assert caught.value.exit_code == 130


def test_the_first_is_told_and_heard_at_the_next_check(
    clock: Clock, capfd: pytest.CaptureFixture[str]
) -> None:
    with stoppable() as check:
        signal.raise_signal(signal.SIGINT)
        assert "Ctrl-C again ends at once" in capfd.readouterr().err
        with pytest.raises(Interrupted):
            check()


@pytest.mark.parametrize("under_torchrun", [False, True])
def test_what_sends_every_signal_twice_is_one_stop(
    under_torchrun: bool, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "launched", lambda: under_torchrun)
    with stoppable():
        signal.raise_signal(signal.SIGINT)
        clock.now += 5 if under_torchrun else 0.1
        signal.raise_signal(signal.SIGINT)


def test_a_second_sigterm_changes_nothing(clock: Clock) -> None:
    with stoppable():
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
            clock.now += 5
