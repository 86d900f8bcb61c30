"""--shard auto: a task of a job array finds its part in the variables of its scheduler."""

from __future__ import annotations

import pytest
from common import RunCli

from palette_bench.core.errors import UsageError
from palette_bench.core.processes import SCHEDULERS, scheduled_shard


def slurm(index: int, first: int, last: int, step: int, count: int) -> dict[str, str]:
    values = {"ID": index, "MIN": first, "MAX": last, "STEP": step, "COUNT": count}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("variables", "shard"),
    [
        (slurm(0, 0, 7, 1, 8), (0, 8)),
        (slurm(8, 1, 8, 1, 8), (7, 8)),  # --array=1-8
        (slurm(10, 4, 11, 3, 3), (2, 3)),  # --array=4-11:3
        ({k: v for k, v in slurm(3, 1, 8, 1, 8).items() if not k.endswith("COUNT")}, (2, 8)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_MIN": "0", "SLURM_ARRAY_TASK_COUNT": "4"}, (3, 4)),
        ({**slurm(3, 3, 3, 1, 1), "PALETTE_BENCH_SHARDS": "8"}, (3, 8)),  # one task again
        ({"LSB_JOBINDEX": "1", "LSB_JOBINDEX_END": "8"}, (0, 8)),
        ({"LSB_JOBINDEX": "7", "LSB_JOBINDEX_END": "8", "LSB_JOBINDEX_STEP": "2"}, (3, 4)),
        ({"PBS_ARRAY_INDEX": "5", "PALETTE_BENCH_SHARDS": "8"}, (5, 8)),
        ({"PBS_ARRAYID": "0", "PALETTE_BENCH_SHARDS": "1"}, (0, 1)),
        ({"JOB_COMPLETION_INDEX": "7", "PALETTE_BENCH_SHARDS": "8"}, (7, 8)),
        ({"JOB_COMPLETION_INDEX": "7", "PALETTE_BENCH_SHARDS": "8", "LSB_JOBINDEX": "0"}, (7, 8)),
    ],
)
def test_each_scheduler_tells_part_and_count(variables: dict[str, str], shard: tuple[int, int]) -> None:
    assert scheduled_shard(variables) == shard


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, [row.index for row in SCHEDULERS]),
        ({"SLURM_JOB_ID": "1", "LSB_JOBINDEX": "0"}, ["no job array", "--shard I/N"]),
        ({"SLURM_ARRAY_TASK_ID": "1", "JOB_COMPLETION_INDEX": "1"}, ["several", "SLURM_ARRAY", "JOB_COMPL"]),
        ({"SLURM_ARRAY_TASK_ID": "1"}, ["SLURM_ARRAY_TASK_COUNT", "SLURM_ARRAY_TASK_MIN"]),
        (slurm(5, 1, 7, 1, 3), ["SLURM_ARRAY_TASK_MAX=7", "a range"]),  # --array=1,5,7
        (slurm(9, 1, 8, 1, 8), ["SLURM_ARRAY_TASK_ID=9"]),
        (slurm(3, 0, 8, 2, 5), ["SLURM_ARRAY_TASK_STEP=2"]),
        ({"SLURM_ARRAY_TASK_ID": "one"}, ["SLURM_ARRAY_TASK_ID='one'", "no number"]),
        ({"PBS_ARRAY_INDEX": "3"}, ["PBS_ARRAY_INDEX=3", "PALETTE_BENCH_SHARDS"]),
        ({"JOB_COMPLETION_INDEX": "8", "PALETTE_BENCH_SHARDS": "8"}, ["counts from 0"]),
        ({"JOB_COMPLETION_INDEX": "0", "PALETTE_BENCH_SHARDS": "0"}, ["PALETTE_BENCH_SHARDS=0"]),
        ({"LSB_JOBINDEX": "3"}, ["LSB_JOBINDEX_END"]),
    ],
)
def test_absent_and_contradictory_variables_are_named(variables: dict[str, str], said: list[str]) -> None:
    with pytest.raises(UsageError) as caught:
        scheduled_shard(variables)
    assert all(words in str(caught.value) for words in said), str(caught.value)


def test_the_verbs_take_auto_and_refuse_it_outside_a_scheduler(run_cli: RunCli) -> None:
    refused = run_cli("generate", "smoke", "jpeg/qf5", "-o", "set", "--shard", "auto")
    assert refused.returncode == 2
    assert "belongs to no job array" in refused.stderr
    for index in range(1, 4):
        done = run_cli(
            *("generate", "smoke", "jpeg/qf5", "-o", "set", "--workers", 1, "--shard", "auto"),
            **slurm(index, 1, 3, 1, 3),
        )
        assert done.returncode == 0, done.stderr
    assert "waiting" not in done.stderr
    restored = [
        run_cli(
            *("restore", "copy-input", "--set", "set", "-o", "sub", "--shard", "auto"),
            JOB_COMPLETION_INDEX=str(index),
            PALETTE_BENCH_SHARDS="2",
        )
        for index in range(2)
    ]
    assert [done.returncode for done in restored] == [0, 0], restored[-1].stderr
    assert ["waiting" in done.stderr for done in restored] == [True, False]
