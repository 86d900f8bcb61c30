"""The demo: the whole chain through the real command line, and again from what is there."""

from __future__ import annotations

import json
from pathlib import Path

from common import RunCli

ANCHORS, TRAINED = {"original", "copy-input"}, {"palette", "regression", "gan"}


def test_demo_ends_in_a_report_and_a_board_and_takes_up_what_is_there(
    run_cli: RunCli, tmp_path: Path
) -> None:
    first = run_cli("demo", "-o", "demo")
    assert first.returncode == 0, first.stderr
    assert first.stdout.strip() == "demo/report.html"
    boards = json.loads((tmp_path / "demo" / "site" / "leaderboard.json").read_text())["boards"]
    assert {board["task"] for board in boards} == {"colorization", "inpainting", "uncropping", "jpeg"}
    for board in boards:
        assert {row["slug"] for row in board["anchors"]} == ANCHORS
        systems = [*board["rows"], *(unranked["row"] for unranked in board["unranked"])]
        assert {row["slug"] for row in systems} == TRAINED
    cards = {p: p.read_bytes() for p in (tmp_path / "demo").rglob("*.json") if "journal" not in p.name}
    again = run_cli("demo", "-o", "demo")
    assert again.returncode == 0, again.stderr
    assert {p: p.read_bytes() for p in cards} == cards
