"""`evaluate`: from a stranger's folder of images to a board, with every fault told at once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from common import RunCli
from PIL import Image as PillowImage
from submissions import copied, plausible, submit

from palette_bench.benchset.manifest import BenchSet
from palette_bench.board.leaderboard import Board, Leaderboard
from palette_bench.scoring.scorecard import read_scorecard
from palette_bench.submission.card import SubmissionCard

FAST = ("--extractor", "smoke-random")


@pytest.fixture
def results(smoke_sets: Path, tmp_path: Path) -> Path:
    """A plain folder of fair outputs, ID.png each."""
    submit(smoke_sets / "jpeg.qf5", tmp_path / "fair", plausible)
    return Path(shutil.copytree(tmp_path / "fair" / "outputs", tmp_path / "results"))


@pytest.fixture
def evaluate(run_cli: RunCli, smoke_sets: Path) -> Callable[..., str]:
    """Run the verb on the set of this file; return what it said."""

    def run(*words: object, code: int = 0) -> str:
        done = run_cli("evaluate", *words, "--set", smoke_sets / "jpeg.qf5", "-o", "out", *FAST)
        assert done.returncode == code, done.stderr
        return done.stderr + done.stdout

    return run


def board_of(folder: Path) -> Board:
    (board,) = Leaderboard.read(folder / "out" / "site" / "leaderboard.json").boards
    return board


@pytest.mark.long
@pytest.mark.trust("people: evaluate")
def test_five_faults_are_told_at_once_and_the_second_command_ends_with_a_board(
    results: Path, evaluate: Callable[..., str], tmp_path: Path
) -> None:
    sound = tmp_path / "sound"
    shutil.copytree(results, sound)
    missing, small, deep, lossy, clear, *_ = sorted(results.iterdir())
    missing.unlink()
    with PillowImage.open(small) as image:
        image.resize((128, 128)).save(small)
    PillowImage.fromarray(np.zeros((256, 256), np.uint16)).save(deep)
    with PillowImage.open(lossy) as image:
        image.save(lossy, format="JPEG")
    with PillowImage.open(clear) as image:
        image.convert("RGBA").save(clear)
    shutil.copy(clear, results / "holiday.png")
    said = evaluate(results, "--name", "My Method", code=3)
    assert [line.split()[0] for line in said.splitlines() if line.startswith("PB")] == [
        *("PB201", "PB202", "PB301", "PB302", "PB303", "PB303")
    ]
    for path in (missing, small, deep, lossy, clear):
        assert path.stem in said
    assert not (tmp_path / "out" / "cards").exists()
    shutil.rmtree(results)
    sound.rename(results)
    said = evaluate(results, "--name", "My Method", "--author", "A. Person", "--license", "MIT")
    assert "PB413" not in said
    assert said.splitlines()[-1] == "out/site/index.html"
    assert (tmp_path / "out" / "reports" / "my-method.html").stat().st_size > 10_000
    board = board_of(tmp_path)
    assert [row.slug for row in board.anchors] == ["original", "copy-input"]
    assert [row.name for row in (*board.rows, *(u.row for u in board.unranked))] == ["My Method"]


@pytest.mark.long
@pytest.mark.trust("people: evaluate")
def test_a_draft_is_made_again_and_another_method_joins_the_board(
    results: Path, evaluate: Callable[..., str], tmp_path: Path, smoke_sets: Path
) -> None:
    evaluate(results, "--name", "Mine")
    first = read_scorecard(tmp_path / "out" / "cards" / "mine.json")
    anchor = (tmp_path / "out" / "cards" / "original.json").read_bytes()
    one, other, *_ = sorted(results.iterdir())
    shutil.copy(other, one)
    evaluate(results, "--name", "Mine")
    second = read_scorecard(tmp_path / "out" / "cards" / "mine.json")
    assert first.fingerprints.outputs != second.fingerprints.outputs
    assert (tmp_path / "out" / "cards" / "original.json").read_bytes() == anchor
    said = evaluate(submit(smoke_sets / "jpeg.qf5", tmp_path / "sub", copied, slug="theirs"))
    assert "theirs" in said
    board = board_of(tmp_path)
    listed = [row.slug for row in (*board.rows, *(u.row for u in board.unranked))]
    shared = [copy.slug for row in board.anchors for copy in row.same_outputs]
    assert (sorted(listed), shared) == (["mine"], ["theirs"])


@pytest.mark.trust("people: evaluate")
def test_what_a_person_wrote_on_the_card_stays_when_results_are_imported_again(
    results: Path, run_cli: RunCli, smoke_sets: Path, tmp_path: Path
) -> None:
    words = ("restore", "adapter:folder", "--set", smoke_sets / "jpeg.qf5", "--import", results, "-o", "sub")
    assert run_cli(*words, "--name", "Große Bilder", "--author", "A", "--author", "B").returncode == 0
    path = tmp_path / "sub" / "submission.toml"
    card = SubmissionCard.read(path)
    assert (card.method.slug, card.method.name, card.method.authors) == (
        *("groe-bilder", "Große Bilder"),
        ("A", "B"),
    )
    path.write_text(path.read_text().replace("datasets = []", 'datasets = ["ImageNet"]'))
    assert run_cli(*words, "--license", "MIT").returncode == 0
    card = SubmissionCard.read(path)
    assert (card.training.datasets, card.method.license) == (("ImageNet",), "MIT")
    assert card.method.name == "Große Bilder"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--slug", "No Slug!"), "PB404"),
        (("--name", "日本"), "--slug is needed"),
        (("--name", "a\x07b", "--slug", "ab"), "PB403"),
    ],
)
def test_names_that_no_card_may_hold_are_refused_before_anything_is_read(
    words: tuple[str, ...], told: str, run_cli: RunCli, smoke_sets: Path, tmp_path: Path
) -> None:
    done = run_cli(
        "restore",
        "adapter:folder",
        "--set",
        smoke_sets / "jpeg.qf5",
        "--import",
        "absent",
        "-o",
        "sub",
        *words,
    )
    assert done.returncode in (2, 3)
    assert told in done.stderr
    assert not (tmp_path / "sub").exists()


@pytest.mark.long
def test_one_folder_around_the_results_is_looked_through(
    results: Path, evaluate: Callable[..., str], tmp_path: Path
) -> None:
    outer = tmp_path / "download"
    shutil.copytree(results, outer / "results" / "png")
    (outer / ".DS_Store").write_bytes(b"x")
    (outer / "__MACOSX").mkdir()
    said = evaluate(outer, "--name", "Mine")
    assert f"results are read in {outer / 'results' / 'png'}" in said


def test_a_submission_says_itself_who_made_it(
    evaluate: Callable[..., str], smoke_sets: Path, tmp_path: Path
) -> None:
    sub = submit(smoke_sets / "jpeg.qf5", tmp_path / "sub")
    assert "states who made it" in evaluate(sub, "--name", "Mine", code=2)
    assert BenchSet.open(smoke_sets / "jpeg.qf5").ids
