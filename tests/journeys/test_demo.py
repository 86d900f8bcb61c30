"""The demo: the whole chain through the real command line, and again from what is there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from common import RunCli

ANCHORS, TRAINED = {"original", "copy-input"}, {"palette", "regression", "gan"}


@pytest.mark.long
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
        assert {row["slug"] for row in board["rows"]} == TRAINED  # all rank
        rows = {row["slug"]: row["scores"]["perceptual_distance"]["value"] for row in board["rows"]}
        assert rows["palette"] < rows["regression"]
    ranks = {b["task"]: {r["slug"]: r["rank"]["perceptual_distance"] for r in b["rows"]} for b in boards}
    assert ranks["inpainting"]["palette"] == [1, 1]
    lines = first.stderr.splitlines()
    assert lines[0].startswith("Four tasks, 128 photographs")
    assert next(line for line in lines if line.startswith("palette ")).split()[1::2] == [
        "1",
        "1",
        "1",
        "1\N{EN DASH}2",
    ]
    assert "colorization: palette, regression and gan are worse than copy-input" in first.stderr
    cards = {p: p.read_bytes() for p in (tmp_path / "demo").rglob("*.json") if "journal" not in p.name}
    again = run_cli("demo", "-o", "demo")
    assert again.returncode == 0, again.stderr
    assert {p: p.read_bytes() for p in cards} == cards
