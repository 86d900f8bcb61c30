"""The workflows of the guide to publishing say commands that run, the same here and in CI."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from cards import write_card
from common import REPOSITORY, RunCli
from submissions import plausible, submit

DOCS = REPOSITORY / "docs"
WORKFLOWS = sorted((DOCS / "workflows").glob("*.yml"))


def commands(text: str) -> list[str]:
    return re.findall(r"^\s*(?:run: |- run: )?(palette-bench .*)$", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_every_option_the_workflows_name_exists(path: Path) -> None:
    from palette_bench.cli import main

    found = commands(path.read_text())
    assert found
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
