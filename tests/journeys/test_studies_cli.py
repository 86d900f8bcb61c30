"""A study as a person runs it, at toy size: from a folder of images to the page, and again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from toy_method import write_images

from palette_bench.baselines.experiments.__main__ import command
from palette_bench.baselines.experiments.making import StudyRequest, make
from palette_bench.core.errors import InputError

pytestmark = pytest.mark.long  # minutes: make test-all

SETS = ["colorization/default", "inpainting/freeform-20-30", "uncropping/right", "jpeg/qf10"]


def run_study(folder: Path, *args: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PALETTE_BENCH_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "palette_bench.baselines.experiments", *map(str, args)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,  # a guard against hanging, not a claim
        check=False,
    )


CONTEST = ("contest", "--cpu", "--data", "pictures", "-o", "out", "--extractor", "smoke-random")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished contest: two training steps, three images."""
    folder = tmp_path_factory.mktemp("study")
    write_images(folder / "pictures", 10, (64, 70))
    done = run_study(folder, *CONTEST)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "out/index.html"
    assert "minutes of training and sampling ahead" in done.stderr
    return folder


def result(study: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((study / "out" / "experiment.json").read_text())
    return found


def test_every_system_answers_every_set_and_saw_as_many_images(study: Path) -> None:
    found = result(study)
    assert {(run["system"], run["images_seen"]) for run in found["runs"]} == {
        ("palette", 4),
        ("regression", 4),
        ("gan", 4),
    }
    assert {(f["system"], f["set"]) for f in found["figures"]} == {
        (system, target) for system in ("palette", "regression", "gan") for target in SETS
    }


def test_figures_are_those_of_ordinary_scorecards_on_an_ordinary_board(study: Path) -> None:
    card = json.loads((study / "out" / "cards" / "jpeg.qf10.gan.0.json").read_text())
    own = {(f["set"], f["system"], f["key"]): f["value"] for f in result(study)["figures"]}
    for key, score in card["scores"].items():
        assert own["jpeg/qf10", "gan", key] == score["value"]
    boards = json.loads((study / "out" / "site" / "leaderboard.json").read_text())["boards"]
    assert [board["task"] for board in boards] == ["colorization", "inpainting", "uncropping", "jpeg"]
    for board in boards:
        rows = {u["slug"] for u in board["unranked"]} | {row["slug"] for row in board["rows"]}
        assert rows == {"contest-palette", "contest-regression", "contest-gan"}
        assert {row["slug"] for row in board["anchors"]} == {"original", "copy-input"}


def test_random_features_decide_nothing(study: Path) -> None:
    verdicts = result(study)["verdicts"]
    assert len(verdicts) == 7
    assert {verdict["holds"] for verdict in verdicts} == {"not told apart"}
    assert all("random-weights" in verdict["why"] for verdict in verdicts)
    page = (study / "out" / "index.html").read_text()
    assert "random weights" in page
    assert "2,500 times fewer" in page


def test_held_out_images_are_not_trained_on(study: Path) -> None:
    held_out = {path.stem for path in (study / "out" / "pictures" / "held-out").iterdir()}
    split = json.loads((study / "out" / "pictures" / "split.json").read_text())
    assert (len(held_out), split["held_out"], split["training"]) == (3, 3, 7)


def test_the_same_command_changes_nothing(study: Path) -> None:
    kept = ["experiment.json", "index.html", "cards/jpeg.qf10.gan.0.json", "forecast.json"]
    before = {name: (study / "out" / name).read_bytes() for name in kept}
    again = run_study(study, *CONTEST)
    assert again.returncode == 0, again.stderr
    assert "restoring" not in again.stderr
    assert {name: (study / "out" / name).read_bytes() for name in kept} == before


def test_another_scale_is_another_study(study: Path) -> None:
    out = study / "out"
    order = StudyRequest(
        "contest", "cpu", (study / "pictures",), out, 2.0, None, "cpu", ("smoke-random",), {}
    )
    with pytest.raises(InputError, match=r"PB605[\s\S]*scale 1.0[\s\S]*scale 2.0"):
        make(order)


def test_the_miniature_draws_its_own_images_and_counts_colours(tmp_path: Path) -> None:
    done = run_study(tmp_path, "l1-l2", "--cpu", "--scale", "0.002", "-o", "out")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "experiment.json").read_text())
    assert {run["system"] for run in found["runs"]} == {"regression", "palette-l2", "palette-l1"}
    shares = {f["metric"] for f in found["figures"]}
    assert shares == {"minority_share", "neither_colour", "background_error"}
    assert "8 groups" in (tmp_path / "out" / "index.html").read_text()


def test_options_that_would_do_nothing_and_missing_images_are_refused(tmp_path: Path) -> None:
    for words, why in [
        (["l1-l2", "--cpu", "--data", str(tmp_path)], "draws its own images"),
        (["l1-l2", "--cpu", "--weights", "smoke=x"], "draws its own images"),
        (["contest"], "contest needs --data DIR"),
    ]:
        refused = CliRunner().invoke(command, [*words, "-o", str(tmp_path / "out")])
        assert refused.exit_code == 2
        assert why in refused.output
