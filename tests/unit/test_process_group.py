"""The process group of a launch ends whole: a thread that outlived it might meet a dying interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from palette_bench.core.errors import StackError
from palette_bench.runtime import distributed

TASKS = Path("/proc/self/task")
ALONE = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
USE = """
import gc
from pathlib import Path
from palette_bench.runtime.distributed import {group}

def threads():
    return sum("gloo" in (task / "comm").read_text() for task in Path("/proc/self/task").iterdir())

with {group}({arguments}):
    from torch import nn  # what wrapping loads must not keep the group
    nn.parallel.DistributedDataParallel(nn.Linear(1, 1))
    during = threads()
gc.collect()
print(during > 0, threads())
"""


@pytest.mark.parametrize(("others", "refused"), [("same", False), ("other", True)])
def test_ranks_with_different_fingerprints_are_refused(
    others: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_gather(found: list[str], value: str) -> None:
        found[:] = [value, others]

    monkeypatch.setattr(distributed.dist, "all_gather_object", all_gather)
    group = distributed.ProcessGroup(rank=0, size=2)
    with pytest.raises(StackError, match="PB710") if refused else nullcontext():
        group.require_equal("set", "same")


@pytest.mark.skipif(not TASKS.is_dir(), reason="only Linux names its threads there")
@pytest.mark.parametrize(("group", "arguments"), [("training_group", "'cpu'"), ("scoring_group", "")])
def test_no_thread_outlives_the_process_group(group: str, arguments: str) -> None:
    script = USE.format(group=group, arguments=arguments)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **ALONE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen, left = done.stdout.split()
    if seen != "True":
        pytest.skip("this torch does not name its threads")
    assert left == "0"
