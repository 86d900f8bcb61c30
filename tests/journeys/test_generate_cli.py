"""generate and verify through the real command line."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from common import RunCli


def test_generate_verify_and_the_words_of_success(run_cli: RunCli, tmp_path: Path) -> None:
    made = run_cli("generate", "smoke", "jpeg", "-o", "sets", "--public", "public", "--workers", "1")
    assert made.returncode == 0, made.stderr
    assert made.stdout.strip() == "sets"
    assert made.stderr.count("matches the published set") == 3
    assert {p.name for p in (tmp_path / "public").iterdir()} == {"jpeg.qf5", "jpeg.qf10", "jpeg.qf20"}
    right = run_cli("verify", "sets/jpeg.qf5")
    assert (right.returncode, right.stdout.strip()) == (0, "sets/jpeg.qf5")
    shutil.copy(tmp_path / "sets/jpeg.qf5/input/coffee.png", tmp_path / "sets/jpeg.qf5/input/rocket.png")
    wrong = run_cli("verify", "sets/jpeg.qf5")
    assert wrong.returncode == 3
    assert "input/rocket.png" in wrong.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["palette-2022x", "all"], 3, "did you mean palette-2022"),
        (["smoke", "jpg"], 3, "did you mean jpeg"),
        (["smoke", "jpeg/qf7"], 3, "did you mean qf5"),
        (["palette-2022", "all"], 2, "needs --images"),
        (["palette-2022", "all", "--images", "nowhere"], 3, "no such file or folder"),
        (["smoke", "all", "--shard", "3/3"], 2, "0 <= i < n"),
        (["smoke", "all", "--rekey", "A b"], 2, "a-z, 0-9"),
    ],
)
def test_what_cannot_be_meant_is_said_kindly(
    arguments: list[str], code: int, words: str, run_cli: RunCli, tmp_path: Path
) -> None:
    done = run_cli("generate", *arguments, "-o", "set")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert not list(tmp_path.rglob("*.png"))
