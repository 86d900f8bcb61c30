"""A protocol of one's own, from the lines of its guide to a board; two versions of a file never mix."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from common import REPOSITORY, RunCli
from documented import blocks
from placeholders import PLAN, own_protocol
from plans import write_plan
from toy_method import write_images

from palette_bench.board.leaderboard import Leaderboard
from palette_bench.scoring.scorecard import read_scorecard
from palette_bench.tasks.own_protocol import open_protocol


@pytest.fixture
def followed(run_cli: RunCli, tmp_path: Path) -> Path:
    """The folder in which somebody followed the guide; the file is gone once the set is made."""
    page = (REPOSITORY / "docs" / "protocols.md").read_text(encoding="utf-8")
    (block,) = (b for b in blocks(page) if b.mentions("own-record"))
    (tmp_path / "my-protocol.toml").write_text(own_protocol())
    write_images(tmp_path / "DIR", 5, (70, 80))
    for command in block.commands:
        done = run_cli(*command.arguments[1:])
        assert done.returncode == 0, done.stderr
        if command.words[1] == "generate":
            (tmp_path / "my-protocol.toml").rename(tmp_path / "elsewhere.toml")
    return tmp_path


def test_the_guide_leads_to_a_board_that_makes_its_set_again(followed: Path, run_cli: RunCli) -> None:
    spec = open_protocol(str(followed / "elsewhere.toml"))
    (board,) = Leaderboard.read(followed / "own-site" / "leaderboard.json").boards
    assert (board.protocol, board.declaration) == ("my-protocol", spec)
    assert board.fingerprints["protocol"] == spec.fingerprint
    page = followed / "own-site" / board.page
    text = page.read_text()
    assert "Deblurring, Gaussian blur, sigma 1 px" in text
    for shown in (text, (followed / "own-site" / "index.html").read_text()):
        assert f"my-protocol, a user&#39;s own ({spec.fingerprint[:12]})" in shown
    command = text.partition("palette-bench generate ")[2].partition("</pre>")[0].replace("\\\n", " ")
    words = command.replace("DIR", str(followed / "DIR")).split()
    assert run_cli("generate", *words, cwd=page.parent).returncode == 0


def test_later_verbs_need_no_file(followed: Path, run_cli: RunCli) -> None:
    for line in (
        "report classical.json --set own --submission classical --images full -o report.html",
        "report classical.json floor.json -o pair.html --json pair.json",
        "board build own-record -o own-site --check",
        "show classical.json",
        "evaluate floor/outputs --set own -o page.html --name Floor",
    ):
        done = run_cli(*line.split())
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    assert json.loads((followed / "pair.json").read_text())["declaration"]["id"] == "my-protocol"


def test_a_human_study_of_the_set_needs_no_file(followed: Path, run_cli: RunCli) -> None:
    write_plan(followed, **PLAN)
    for line in (
        "study design study.toml --set own --submission classical -o STUDY",
        "study simulate STUDY -o votes.csv",
        "study analyse STUDY votes.csv --scorecard classical.json -o RESULTS",
        "board add RESULTS/classical.json --record studied",
        "board build studied -o studied-site",
    ):
        done = run_cli(*line.split())
        assert done.returncode == 0, f"{line}\n{done.stderr}"
    (board,) = Leaderboard.read(followed / "studied-site" / "leaderboard.json").boards
    assert board.declaration == open_protocol(str(followed / "elsewhere.toml"))


def test_cards_of_another_version_of_the_file_get_a_board_of_their_own(
    followed: Path, run_cli: RunCli
) -> None:
    (followed / "next.toml").write_text(own_protocol().replace("Mild blur", "Gentle blur"))
    own = ("deblurring/mild", "--source", "folder:mine", "--images", "DIR", "-o", "next")
    assert run_cli("generate", "./next.toml", *own).returncode == 0
    assert run_cli("restore", "copy-input", "--set", "next", "-o", "sub").returncode == 0
    assert run_cli("score", "sub", "--set", "next", "-o", "next.json").returncode == 0
    old, new = read_scorecard(followed / "floor.json"), read_scorecard(followed / "next.json")
    assert old.fingerprints.set == new.fingerprints.set  # the same pixels, by other rules
    refused = run_cli("report", "classical.json", "next.json", "-o", "pair.html")
    assert refused.returncode == 3
    assert "PB601" in refused.stderr
    assert run_cli("board", "add", "next.json", "--record", "own-record").returncode == 0
    assert run_cli("board", "build", "own-record", "-o", "own-site").returncode == 0
    boards = Leaderboard.read(followed / "own-site" / "leaderboard.json").boards
    assert sorted(board.fingerprints["protocol"] for board in boards) == sorted(
        card.fingerprints.protocol for card in (old, new)
    )
