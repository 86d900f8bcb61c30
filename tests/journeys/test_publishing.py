"""The workflows of the guide to publishing say commands that run, the same here and in CI."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from cards import write_card
from common import REPOSITORY, RunCli
from submissions import plausible, submit

from palette_bench.core.png import encode

DOCS = REPOSITORY / "docs"
WORKFLOWS = sorted((DOCS / "workflows").glob("*.yml"))


def commands(text: str) -> list[str]:
    return re.findall(r"^\s*(?:run: |- run: )?(palette-bench .*)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_every_option_the_workflows_name_exists(path: Path) -> None:
    from palette_bench.cli import main

    found = commands(path.read_text())
    assert found or path.name == "release.yml"  # which runs `make release` alone
    for line in found:
        words = line.split()[1:]
        command = main.get_command(None, words[0])  # type: ignore[arg-type]  # the context is not used
        command = getattr(command, "commands", {}).get(words[1], command)
        known = {option for parameter in command.params for option in parameter.opts}
        assert {w for w in words if w.startswith("-")} <= known, line


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_workflows_may_read_and_only_the_publishing_job_may_write(path: Path) -> None:
    value = yaml.safe_load(path.read_text())
    assert value["permissions"] == {"contents": "read"}
    writers = {name for name, job in value["jobs"].items() if "write" in str(job.get("permissions"))}
    assert writers <= {"publish"}
    assert "pull_request_target" not in path.read_text()  # a stranger's branch would run with our rights


def test_a_submission_fails_and_passes_by_the_workflow_s_own_command(
    smoke_sets: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    (line,) = (c for c in commands((DOCS / "publishing.md").read_text()) if " check " in c)
    shutil.copytree(smoke_sets / "jpeg.qf5", tmp_path / "SET")
    submission = submit(tmp_path / "SET", tmp_path / "SUB", plausible)
    done = run_cli(*line.split()[1:])
    assert done.returncode == 0, done.stderr
    assert "Passed" in (tmp_path / "findings.html").read_text()
    next((submission / "outputs").iterdir()).unlink()
    done = run_cli(*line.split()[1:])
    assert done.returncode == 3
    page = (tmp_path / "findings.html").read_text()
    assert "Refused" in page
    assert "PB201" in page
    assert "PB201" in done.stderr  # the terminal says the same


@pytest.mark.long
def test_the_record_is_built_checked_and_compared_as_the_workflow_does(
    run_cli: RunCli, tmp_path: Path
) -> None:
    text = (DOCS / "workflows" / "pages.yml").read_text()
    build, before, diff = (line.split()[1:] for line in commands(text))
    for place, slugs in (("base/reports", ["aa"]), ("reports", ["aa", "bb"])):
        for at, slug in enumerate(slugs):
            card = write_card(tmp_path, slug, seed=at)
            assert run_cli("board", "add", card, "--record", place).returncode == 0
    for line in (build, before):
        done = run_cli(*line)
        assert done.returncode == 0, done.stderr
    assert run_cli(*build, "--check").returncode == 0
    done = run_cli(*diff)
    assert done.returncode == 0, done.stderr
    assert "new    palette-mini inpainting / center32 on photos-64: bb 1" in done.stdout
    assert run_cli("board", "add", write_card(tmp_path, "cc", seed=3), "--record", "reports").returncode == 0
    assert run_cli(*build, "--check").returncode == 3  # the site is older than the record


@pytest.mark.long
def test_the_command_a_board_prints_makes_its_set_again(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "images" / "cats").mkdir(parents=True)
    draws = np.random.default_rng(3)
    for at in range(9):
        pixels = draws.integers(0, 256, (70, 80, 3), dtype=np.uint8)
        (tmp_path / "images" / "cats" / f"{at}.png").write_bytes(encode(pixels))
    (tmp_path / "images" / "labels.csv").write_text(
        "file,label\n" + "".join(f"{i}.png,{i}\n" for i in range(9))
    )
    source = ("--source", "folder:cats", "--images", "images")
    made = run_cli(
        "generate", "palette-mini", "inpainting/freeform-10-20", *source, "--limit", 6, "-o", "set"
    )
    assert made.returncode == 0, made.stderr
    submit(tmp_path / "set", tmp_path / "sub", plausible)
    scored = run_cli("score", "sub", "--set", "set", "-o", "card.json")
    assert scored.returncode == 0, scored.stderr
    run_cli("board", "add", "card.json", "--record", "record")
    built = run_cli("board", "build", "record", "-o", "site")
    assert built.returncode == 0, built.stderr

    (page,) = (tmp_path / "site" / "boards").glob("*.html")
    (line,) = re.findall(r">(palette-bench generate [^<]*)<", page.read_text())
    words = shlex.split(html.unescape(line).replace("\\\n", ""))[1:]
    assert words[words.index("--images") + 1] == "DIR"
    (tmp_path / "site" / "boards" / "DIR").symlink_to(tmp_path / "images")
    again = run_cli(*words, cwd=page.parent)
    assert again.returncode == 0, again.stderr
    assert "matches the expected set" in again.stderr
    first, second = (
        json.loads((at / "manifest.json").read_text()) for at in (tmp_path / "set", page.parent / "SET")
    )
    assert first["set_fingerprint"] == second["set_fingerprint"]
    assert (first["selection"]["rule"], second["selection"]["rule"]) == ("subset-v1", "ids")

    (page.parent / words[words.index("--ids") + 1]).write_text("cats_0\ncats_1\n")
    other = run_cli(*words[:-1], "OTHER", cwd=page.parent)
    assert other.returncode == 3
    assert "PB606" in other.stderr
