"""Ctrl-C: the first ends after the current item, the second at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from palette_bench.core.errors import UsageError
from palette_bench.core.processes import Interrupted, stoppable

# within one long call of a C library Python handles no signal, as within a step of a large network
CHILD = """
import hashlib
from palette_bench.core import processes
processes._ONE_STOP = {one_stop}
with processes.stoppable() as check:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", {rounds})
    check()
"""


def stopped_twice(one_stop: float, rounds: int, **environment: str) -> tuple[int, str]:
    """Send Ctrl-C twice, the second once the first was heard; return exit code and what was said."""
    code = CHILD.format(one_stop=one_stop, rounds=rounds)
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGINT)
        heard = child.stderr.readline()
        child.send_signal(signal.SIGINT)
        rest = child.stderr.read()
    return child.returncode, heard + rest


@pytest.mark.trust("training: Ctrl-C twice")
def test_a_second_ctrl_c_ends_at_once_with_130_whatever_is_under_way() -> None:
    code, said = stopped_twice(one_stop=0, rounds=2_000_000_000)
    assert code == 130
    assert "Ctrl-C again ends at once" in said
    assert "Interrupted" not in said


@pytest.mark.trust("all: time limit")
def test_the_signal_before_a_time_limit_ends_with_the_requeue_code_also_where_nothing_is_at_work() -> None:
    code = (
        "import os, signal, sys; from palette_bench import cli\n"
        "cli.exit_code = lambda: os.kill(os.getpid(), signal.SIGUSR1)\n"
        "try: cli.run()\n"
        "except BaseException as error: sys.exit(error.exit_code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 75, done.stderr


RANK = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "x", "MASTER_PORT": "1"}


@pytest.mark.parametrize(("one_stop", "environment"), [(3600, {}), (0, RANK)], ids=["timeout", "torchrun"])
def test_what_sends_every_signal_twice_is_one_stop(one_stop: int, environment: dict[str, str]) -> None:
    code, said = stopped_twice(one_stop, 10**6, **environment)
    assert code == 1
    assert "Interrupted: SIGINT" in said  # raised by check(), after the item


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGUSR1, 75)])
def test_a_stop_signal_is_told_at_the_next_check_and_handlers_come_back(signum: int, code: int) -> None:
    before = signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before[1])
    with stoppable() as check:
        check()
        signal.raise_signal(signum)
        with pytest.raises(Interrupted) as caught:
            check()
    assert caught.value.exit_code == code
    assert (signal.getsignal(signal.SIGINT), signal.set_wakeup_fd(-1)) == before
    signal.set_wakeup_fd(before[1])


def fail_with(error: Exception, *signals: signal.Signals) -> None:
    with stoppable():
        for signum in signals:
            signal.raise_signal(signum)
        raise error


def test_what_fails_after_a_stop_signal_is_the_stop_and_our_own_errors_stay() -> None:
    compiler = RuntimeError("a compiler that the same signal ended")
    with pytest.raises(Interrupted) as caught:
        fail_with(compiler, signal.SIGTERM)
    assert caught.value.__cause__ is compiler
    with pytest.raises(UsageError):
        fail_with(UsageError("not because of the signal"), signal.SIGTERM)
    with pytest.raises(RuntimeError):
        fail_with(RuntimeError("no signal came"))
