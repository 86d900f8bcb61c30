"""docs/clusters.md: its scripts run as printed, under stand-ins for the schedulers; its tables are true."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from common import REPOSITORY, RunCli

from palette_bench.core import errors
from palette_bench.core.errors import PaletteBenchError
from palette_bench.core.processes import REQUEUE, SCHEDULERS

PAGE = (REPOSITORY / "docs" / "clusters.md").read_text(encoding="utf-8")

# palette-bench only notes how it was called: the test then runs it in this process, which spares 24 imports
PALETTE_BENCH = """\
#!/usr/bin/env python3
import json, os, sys
names = ("SLURM_", "PALETTE_BENCH_SHARDS")
told = {name: value for name, value in os.environ.items() if name.startswith(names)}
with open(os.environ["NOTES"], "a") as file:
    file.write(json.dumps({"words": sys.argv[1:], "told": told}) + "\\n")
sys.exit(75 if told.get("SLURM_ARRAY_TASK_ID") == os.environ.get("SHORT_OF_TIME") else 0)
"""
SBATCH = """\
#!/bin/bash
while [[ $1 == --* ]]; do
    case $1 in
        --array=*) range=${1#--array=} ;;
        --dependency=afterok:7) ;;
        --parsable) parsable=1 ;;
        *) exit 9 ;;
    esac
    shift
done
export SLURM_ARRAY_JOB_ID=7 SLURM_ARRAY_TASK_MIN=${range%-*} SLURM_ARRAY_TASK_MAX=${range#*-}
export SLURM_ARRAY_TASK_STEP=1 SLURM_ARRAY_TASK_COUNT=$((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN + 1))
for task in $(seq $SLURM_ARRAY_TASK_MIN $SLURM_ARRAY_TASK_MAX); do
    SLURM_ARRAY_TASK_ID=$task bash "$@" || exit
done
if [[ $parsable ]]; then echo 7; fi
"""
PROGRAMS = {
    "palette-bench": PALETTE_BENCH,
    "sbatch": SBATCH,
    "srun": '#!/bin/sh\nexec "$@"\n',
    "scontrol": '#!/bin/sh\necho "$@" >> requeued\n',
}


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)


def bash(script: str, folder: Path, **environment: str) -> list[dict[str, Any]]:
    """Run a script among stand-ins in a folder; return how palette-bench was called."""
    programs = folder / "programs"
    programs.mkdir(exist_ok=True)
    for name, text in PROGRAMS.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    extra = {"PATH": path, "NOTES": str(folder / "notes"), **environment}
    subprocess.run(["bash", "-e", "-c", script], cwd=folder, env={**os.environ, **extra}, check=False)
    return [json.loads(line) for line in (folder / "notes").read_text().splitlines()]


def test_the_job_arrays_of_the_page_make_restore_and_score_in_eight_tasks(
    run_cli: RunCli, tmp_path: Path
) -> None:
    script, steps = fenced("slurm")
    (tmp_path / "shard.sbatch").write_text(script)
    calls = bash(steps, tmp_path)
    assert len(calls) == 3 * 8
    for number, call in enumerate(calls):
        done = run_cli(*call["words"], **call["told"])
        assert done.returncode == 0, done.stderr
        assert ("waiting" in done.stderr) == (number % 8 != 7 and "CARD.json" not in call["words"])
    straight = [
        ("generate", "smoke", "inpainting/center128", "-o", "set"),
        ("restore", "copy-input", "--set", "set", "-o", "sub"),
        ("score", "sub", "--set", "set", "-o", "one/CARD.json"),
    ]
    for words in straight:
        assert run_cli(*words).returncode == 0
    assert (tmp_path / "SET" / "manifest.json").read_bytes() == (tmp_path / "set/manifest.json").read_bytes()
    scores = [json.loads((tmp_path / at).read_bytes())["scores"] for at in ("CARD.json", "one/CARD.json")]
    assert scores[0] == scores[1]


def test_a_task_that_runs_out_of_time_is_queued_again(tmp_path: Path) -> None:
    script, _ = fenced("slurm")
    (tmp_path / "shard.sbatch").write_text(script)
    bash("sbatch --array=1-4 shard.sbatch check SUB", tmp_path, SHORT_OF_TIME="3")
    assert (tmp_path / "requeued").read_text() == "requeue 7_3\n"
    assert f"-eq {REQUEUE} ]" in script


def test_the_pods_of_the_page_restore_in_eight_tasks(
    run_cli: RunCli, smoke_sets: Path, tmp_path: Path
) -> None:
    (job,) = fenced("yaml")
    (command,) = re.findall(r"command: \[(.*)\]", job)
    (count,) = re.findall(r"completions: (\d+)", job)
    (stated,) = re.findall(r'name: PALETTE_BENCH_SHARDS, value: "(\d+)"', job)
    assert count == stated
    (tmp_path / "SET").symlink_to(smoke_sets / "jpeg.qf5")
    for index in reversed(range(int(count))):
        words = command.split(", ")
        done = run_cli(*words[1:], JOB_COMPLETION_INDEX=str(index), PALETTE_BENCH_SHARDS=stated)
        assert done.returncode == 0, done.stderr
        assert ("waiting" in done.stderr) == (index != 0)
    assert (tmp_path / "SUB" / "submission.toml").is_file()
    assert f"values: [{REQUEUE}, 143]" in job


@pytest.mark.parametrize("row", SCHEDULERS, ids=lambda row: row.scheduler)
def test_the_page_has_the_variables_of_each_scheduler(row: Any) -> None:
    (line,) = re.findall(rf"^\| {row.scheduler} \|(.*)\|$", PAGE, flags=re.MULTILINE)
    cells = [cell.strip().strip("`") for cell in line.split("|")]
    assert cells == [row.index, row.first, row.last, row.step, row.count]


def test_the_page_has_every_exit_code() -> None:
    rows = re.findall(r"^\| ([\d, ]+) \| ", PAGE, flags=re.MULTILINE)
    codes = {int(code) for row in rows for code in row.split(", ")}
    classes = [found for found in vars(errors).values() if isinstance(found, type)]
    known = {found.exit_code for found in classes if issubclass(found, PaletteBenchError)}
    assert codes == known | {0, REQUEUE, 130, 141, 143}
