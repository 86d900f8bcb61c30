"""N ranks give the card of one: real process groups over gloo, and errors that end all of them."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from submissions import ready

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import BenchSet
from palette_bench.benchset.sources import Request
from palette_bench.core.journal import Shard
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.scoring.shards import score_shard
from palette_bench.submission.restore import restore

pytestmark = pytest.mark.long  # minutes: make test-all

Launch = Callable[..., "subprocess.CompletedProcess[str]"]

N = 40  # two whole units of 16 and a short one: not divisible by 1, 2 or 3 ranks of whole units


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Return a function that starts W ranks by torchrun, on this machine alone, one thread each."""

    def run(ranks: int, *command: object) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PALETTE_BENCH_CACHE": str(tmp_path / f"cache-{ranks}"),
            "OMP_NUM_THREADS": "1",
        }
        torchrun = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node",
            str(ranks),
        ]
        return subprocess.run(
            [*torchrun, *map(str, command)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,  # a guard against hanging, not a claim
            check=False,
        )

    return run


@pytest.fixture
def answered(mini_sets: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A set of 40 images and copy-input's answer to it."""
    request = Request("folder:few", mini_sets / "jpeg.qf5" / "reference", limit=N)
    (made,) = generate("palette-mini", "inpainting/center32", tmp_path / "set", request=request)
    restore(ready("copy-input"), BenchSet.open(made.folder), tmp_path / "sub")
    return made.folder, tmp_path / "sub"


def card_of(path: Path) -> dict[str, Any]:
    """Return a card without what may differ: environment, and the digest that covers it."""
    card: dict[str, Any] = json.loads(path.read_text())
    assert card.pop("content_sha256")
    assert card.pop("environment")["level"] == "L0"
    return card


def test_one_two_and_three_ranks_write_the_same_card(launch: Launch, answered: tuple[Path, Path]) -> None:
    benchset, submission = answered
    cards = {}
    for ranks in (1, 2, 3):
        out = submission.parent / f"ranks-{ranks}" / "card.json"
        arguments = ("score", submission, "--set", benchset, "-o", out, "--extractor", "smoke-random")
        merge: list[str] = []
        if ranks == 2:  # these ranks go on where one shard of a job array stopped
            score_shard(submission, benchset, out, Shard(1, 3), extractors=["smoke-random"])
            merge = ["--merge"]
        done = launch(ranks, "-m", "palette_bench", "--", *arguments, *merge)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == [str(out)]  # rank 0 alone speaks
        cards[ranks] = card_of(out), gzip.decompress(out.with_name("card.images.csv.gz").read_bytes())
    assert cards[1] == cards[2] == cards[3]
    assert cards[1][0]["n_scored"] == N


def test_ranks_share_the_pairs_of_outputs_and_originals(launch: Launch, answered: tuple[Path, Path]) -> None:
    benchset, submission = answered
    cards = {}
    for ranks in (1, 2):
        out = submission.parent / f"ranks-{ranks}" / "card.json"
        options = ("--metrics", "lpips", "--weights", "lpips-alex=random:0")
        done = launch(
            ranks, "-m", "palette_bench", "--", "score", submission, "--set", benchset, "-o", out, *options
        )
        assert done.returncode == 0, done.stderr
        cards[ranks] = card_of(out), gzip.decompress(out.with_name("card.images.csv.gz").read_bytes())
    assert cards[1] == cards[2]
    assert cards[1][0]["scores"]["lpips"]["value"] > 0


def test_a_refused_submission_ends_all_ranks_with_exit_3_and_no_card(
    launch: Launch, answered: tuple[Path, Path]
) -> None:
    benchset, submission = answered
    next((submission / "outputs").iterdir()).unlink()
    out = submission.parent / "card.json"
    arguments = ("score", submission, "--set", benchset, "-o", out, "--extractor", "smoke-random")
    done = launch(2, "-m", "palette_bench", *arguments)
    assert done.returncode != 0
    assert "PB201" in done.stderr
    assert "rank 0 failed (exit 3)" in done.stderr
    assert "exitcode  : 3" in done.stderr  # torchrun's own report
    assert not out.exists()


SCRIPT = """
import os
from palette_bench.core.errors import PaletteBenchError, WeightsError
from palette_bench.runtime import distributed

def fails_on(rank):
    def work():
        if int(os.environ["RANK"]) == rank:
            raise WeightsError("no weights here")
        return "fine"
    return work

def told(step):
    try:
        found = step()
    except PaletteBenchError as error:
        found = f"{type(error).__name__} {error.exit_code}"
    except ZeroDivisionError as error:
        found = "ZeroDivisionError"
    # one write a line: the ranks share a pipe, and print may write the line feed apart
    os.write(1, f"rank {os.environ['RANK']}: {found}\\n".encode())

with distributed.scoring_group() as world:
    told(lambda: world.gather(fails_on(1)))
    told(lambda: world.run_on_main(fails_on(0)))
    told(lambda: world.run_on_all(lambda: 1 // (1 - world.rank)))
    told(lambda: world.require_equal("set", "same" if world.rank else "other"))
    told(lambda: world.all_gather(lambda: world.rank))
    told(lambda: world.gather(lambda: world.rank))
    told(lambda: world.run_on_main(lambda: "from rank 0"))
"""


def test_an_error_on_one_rank_reaches_the_others_with_its_exit_code(launch: Launch, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = launch(2, script)
    assert done.returncode == 0, done.stderr
    told = {
        rank: [
            line.partition(": ")[2] for line in done.stdout.splitlines() if line.startswith(f"rank {rank}")
        ]
        for rank in (0, 1)
    }
    assert told[0] == [
        "RankError 4", "WeightsError 4", "RankError 6", "StackError 4", "[0, 1]", "[0, 1]", "from rank 0"
    ]  # fmt: skip
    assert told[1] == [
        "WeightsError 4", "RankError 4", "ZeroDivisionError", "StackError 4", "[0, 1]", "[]", "from rank 0"
    ]  # fmt: skip


@pytest.mark.parametrize(("n", "batch", "size"), [(0, 4, 3), (1, 4, 3), (40, 16, 3), (64, 16, 2), (7, 1, 8)])
def test_units_are_dealt_whole_in_turn_and_cover_every_image_once(n: int, batch: int, size: int) -> None:
    ids = [f"{i:03d}" for i in range(n)]
    dealt = [ProcessGroup(rank, size).shard(ids, batch) for rank in range(size)]
    assert sorted(i for own in dealt for i in own) == ids
    units = [ids[start : start + batch] for start in range(0, n, batch)]
    for rank, own in enumerate(dealt):
        assert own == [i for unit in units[rank::size] for i in unit]
