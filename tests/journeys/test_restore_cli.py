"""restore through the real command line: kills, ranks, outside tools, a person's own images."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from common import RunCli
from PIL import Image as PillowImage
from submissions import ready

from palette_bench.benchset.manifest import ContestantSet, export_public
from palette_bench.core.fingerprint import sha256
from palette_bench.core.png import encode
from palette_bench.submission.card import SubmissionCard
from palette_bench.submission.check import check
from palette_bench.submission.restore import restore

# a contestant of somebody else: installed, never heard of by the judge
METHOD = """
import os, signal, time
from dataclasses import replace
import numpy as np
from palette_bench.baselines.copy_input import baseline as copy
from palette_bench.core.errors import WeightsError

class Keyed:
    identity = "weights 1"

    def __init__(self, options):
        self.seed, self.calls = options.seed, 0
        said = {"seed": options.seed, "sampler": "keyed", "steps": 3}
        self.about = replace(copy.about, sampling=copy.about.sampling.model_copy(update=said))

    def restore(self, batch):
        self.calls += 1
        if self.calls == int(os.environ.get("DIES_AT", 0)):
            os.kill(os.getpid(), int(os.environ["DIES_OF"]))
        if self.calls == 2 and os.environ.get("FAILS_ON") == os.environ.get("RANK", "alone"):
            raise WeightsError("these weights are rotten")
        if os.environ.get("FAILS_ON") and self.calls > 2:
            time.sleep(0.05)  # long enough for the failed rank to end this one
        noise = batch.noise(self.seed, 0).transpose(0, 2, 3, 1)
        return np.clip(128 + 40 * noise, 0, 255).astype(np.uint8)

    def restore_image(self, image, policy):
        return 255 - image.input

class Baseline:
    def restorer(self, options):
        return Keyed(options)

baseline = Baseline()
"""


@pytest.fixture
def installed(tmp_path: Path) -> str:
    """A folder for PYTHONPATH with the method `keyed`, found by its entry point."""
    site = tmp_path / "site"
    (site / "keyed-1.0.dist-info").mkdir(parents=True)
    (site / "keyed.py").write_text(METHOD)
    (site / "keyed-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: keyed\nVersion: 1.0\n"
    )
    entry = "[palette_bench.baselines]\nkeyed = keyed:baseline\n"
    (site / "keyed-1.0.dist-info" / "entry_points.txt").write_text(entry)
    return str(site)


@pytest.fixture
def benchset(smoke_sets: Path) -> Path:
    return smoke_sets / "inpainting.center128"


def images(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256(p.read_bytes()) for p in folder.rglob("*.png")}


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM])
def test_a_run_stopped_at_any_time_resumes_to_the_straight_result(
    stop: signal.Signals, run_process: RunCli, installed: str, benchset: Path, tmp_path: Path
) -> None:
    arguments = ("restore", "keyed", "--set", benchset, "--samples", 2, "--batch", 5, "--seed", 3)
    straight = run_process(*arguments, "-o", "straight", PYTHONPATH=installed)
    assert straight.returncode == 0, straight.stderr
    dies = {"DIES_AT": "3", "DIES_OF": str(int(stop))}
    stopped = run_process(*arguments, "-o", "sub", PYTHONPATH=installed, **dies)
    assert stopped.returncode == (-9 if stop == signal.SIGKILL else 128 + stop)
    assert not (tmp_path / "sub" / "submission.toml").exists()
    # a kill loses the batch at work; a signal ends the run after it
    journalled = len((tmp_path / "sub" / "journal.0-of-1.jsonl").read_text().splitlines()) - 1
    assert journalled == (10 if stop == signal.SIGKILL else 12)
    resumed = run_process(*arguments, "-o", "sub", PYTHONPATH=installed)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{24 - journalled} images in" in resumed.stderr
    assert images(tmp_path / "sub") == images(tmp_path / "straight")
    assert check(tmp_path / "sub", benchset).ok
    sampling = SubmissionCard.read(tmp_path / "sub" / "submission.toml").sampling
    assert (sampling.sampler, sampling.steps, sampling.seed) == ("keyed", 3, 3)
    assert sampling.hardware
    assert sampling.seconds_per_image


def torchrun(ranks: int, cwd: Path, *command: object, **extra: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return subprocess.run(
        [*launcher, "-m", "palette_bench", *map(str, command)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **extra},
        capture_output=True,
        text=True,
        timeout=300,  # a guard against hanging, not a claim
        check=False,
    )


def test_three_ranks_write_what_one_process_writes(
    installed: str, benchset: Path, tmp_path: Path, run_process: RunCli
) -> None:
    arguments = ("restore", "keyed", "--set", benchset, "--batch", 2)
    assert run_process(*arguments, "-o", "alone", PYTHONPATH=installed).returncode == 0
    done = torchrun(3, tmp_path, *arguments, "-o", "sub", PYTHONPATH=installed)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) == {"sub"}
    assert images(tmp_path / "sub") == images(tmp_path / "alone")
    assert check(tmp_path / "sub", benchset).ok
    ids = ContestantSet.open(benchset).ids
    for rank in range(3):
        lines = (tmp_path / "sub" / f"journal.{rank}-of-3.jsonl").read_text().splitlines()
        assert [json.loads(line)["id"] for line in lines[1:]] == ids[rank::3]


def test_a_rank_that_fails_ends_all_with_its_message(installed: str, benchset: Path, tmp_path: Path) -> None:
    arguments = ("restore", "keyed", "--set", benchset, "-o", "sub", "--batch", 1, "--samples", 500)
    done = torchrun(2, tmp_path, *arguments, PYTHONPATH=installed, FAILS_ON="1")
    assert done.returncode != 0
    assert "these weights are rotten" in done.stderr
    assert not (tmp_path / "sub" / "submission.toml").exists()
    other = (tmp_path / "sub" / "journal.0-of-2.jsonl").read_text().splitlines()
    assert len(other) < 3000  # rank 0 was far from done


def test_an_audit_finds_nothing_where_nothing_changed(
    run_process: RunCli, installed: str, benchset: Path
) -> None:
    done = run_process("restore", "keyed", "--set", benchset, "-o", "sub", "--audit", PYTHONPATH=installed)
    assert done.returncode == 0, done.stderr
    assert "audit: 4 outputs in batches of 8: largest difference 0 levels" in done.stderr
    assert "12 images in" in done.stderr
    assert "weights 1" in done.stderr


def test_an_outside_tool_from_public_part_to_checked_submission(
    run_cli: RunCli, benchset: Path, tmp_path: Path
) -> None:
    export_public(benchset, tmp_path / "public")
    exported = run_cli("restore", "adapter:lama", "--set", "public", "--export", "in")
    assert exported.returncode == 0, exported.stderr
    assert exported.stdout.strip() == "in"
    (tmp_path / "out").mkdir()
    for mask in (tmp_path / "in").glob("*_mask001.png"):  # the tool: paints the hole gray
        image = np.asarray(PillowImage.open(mask.with_name(mask.name.replace("_mask001", ""))))
        hole = np.asarray(PillowImage.open(mask))[:, :, None] > 0
        (tmp_path / "out" / mask.name).write_bytes(encode(np.where(hole, np.uint8(90), image)))
    last = sorted((tmp_path / "out").iterdir())[-1]
    content = last.read_bytes()
    last.unlink()
    arguments = ("restore", "adapter:lama", "--set", benchset, "--import", "out", "-o", "sub")
    refused = run_cli(*arguments)
    assert refused.returncode == 3
    assert "PB201" in refused.stderr
    assert not (tmp_path / "sub").exists()
    last.write_bytes(content)
    done = run_cli(*arguments)
    assert done.returncode == 0, done.stderr
    assert run_cli("check", "sub", "--set", benchset).returncode == 0
    card = SubmissionCard.read(tmp_path / "sub" / "submission.toml")
    assert (card.method.slug, card.declared.uses_mask, card.sampling.hardware) == ("lama", True, None)


def test_own_images_with_the_method_of_a_run(run_process: RunCli, installed: str, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.resolved.toml").write_text('method = "keyed"\n')
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    (tmp_path / "cat.png").write_bytes(encode(image))
    extended = ("restore", "cat.png", "wide.png", "--task", "uncropping", "--extend", "right=8", "--times", 8)
    done = run_process(*extended, "--run", "run", PYTHONPATH=installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "wide.png"
    wide = np.asarray(PillowImage.open(tmp_path / "wide.png"))
    assert wide.shape == (20, 30 + 8 * 8, 3)
    np.testing.assert_array_equal(wide[:, :30], image)
    no_run = run_process("restore", "cat.png", "x.png", "--task", "jpeg")
    assert no_run.returncode == 2
    assert "--run RUN" in no_run.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("copy-input",), ["METHOD --set SET -o SUB needs --set, --out"]),
        (
            ("copy-input", "--set", "s", "-o", "o", "--times", 2, "--template", "x"),
            ["does not take --times, --template"],
        ),
        (("a.png", "b.png"), ["IN OUT --task T needs --task"]),
        (("a.png", "--task", "jpeg"), ["takes IN and OUT, not 'a.png'"]),
        (
            ("a.png", "b.png", "--task", "jpeg", "--set", "s", "--samples", 2),
            ["does not take --set, --samples"],
        ),
        (("adapter:lama", "--set", "s", "--export", "d", "-o", "o"), ["--export DIR does not take --out"]),
        (("adapter:lama", "--set", "s", "--import", "d"), ["needs --out"]),
        (("a.png", "b.png", "--task", "uncropping", "--extend", "up=3"), ["'up=3' is not SIDE=PIXELS"]),
        (("adapter:lama", "--set", "SET", "-o", "o"), ["adapter:lama does not run the tool", "--export"]),
        (("copy-inputs", "--set", "SET", "-o", "o"), ["did you mean copy-input"]),
        (("copy-input", "--set", "SET", "-o", "o", "--seed", 5), ["does not take --seed"]),
        (("copy-input", "--set", "SET", "--export", "o"), ["copy-input runs by itself"]),
    ],
)
def test_what_cannot_be_meant_exits_2_and_says_why(
    arguments: tuple[object, ...], told: list[str], benchset: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    from palette_bench.cli import exit_code

    monkeypatch.chdir(tmp_path)
    words = [str(benchset) if word == "SET" else str(word) for word in arguments]
    monkeypatch.setattr(sys, "argv", ["palette-bench", "restore", *words])
    assert exit_code() == 2
    error = capsys.readouterr().err
    assert all(text in error for text in told), error
    assert not (tmp_path / "o").exists()


def test_shards_of_two_machines_meet_in_one_folder(run_cli: RunCli, benchset: Path, tmp_path: Path) -> None:
    first = run_cli("restore", "copy-input", "--set", benchset, "-o", "sub", "--shard", "0/2")
    assert first.returncode == 0, first.stderr
    assert "waiting for other shards" in first.stderr
    assert not (tmp_path / "sub" / "submission.toml").exists()
    second = run_cli("restore", "copy-input", "--set", benchset, "-o", "sub", "--shard", "1/2")
    assert second.stdout.strip() == "sub"
    restore(ready("copy-input"), ContestantSet.open(benchset), tmp_path / "one")
    assert images(tmp_path / "sub") == images(tmp_path / "one")
