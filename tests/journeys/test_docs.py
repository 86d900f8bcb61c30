"""The Python of the guides runs as it stands."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from common import REPOSITORY

from palette_bench.cli import exit_code
from palette_bench.study.records import Ethics, Exclude, Plan, StudyToml
from palette_bench.study.votes import Vote

SCORES = (REPOSITORY / "docs" / "scores.md").read_text(encoding="utf-8")
STUDIES = (REPOSITORY / "docs" / "human-studies.md").read_text(encoding="utf-8")
OUTSIDE = (REPOSITORY / "docs" / "outside-tools.md").read_text(encoding="utf-8")


def test_the_examples_of_the_scores_guide_run(
    smoke_sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(smoke_sets / "jpeg.qf5", tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "cache"))
    blocks = re.findall(r"```python\n(.*?)```", SCORES, flags=re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/scores.md", "exec"), names)
    distance, result, classes = capsys.readouterr().out.splitlines()
    assert "rank-deficient" in distance
    assert "'chol'" in result
    assert float(classes.split()[0]) >= 1


@pytest.mark.parametrize(
    "option",
    ["--partial", "--explain", "--reference-images", "--export-statistics", "--calibrate", "--mode", "--n"],
)
def test_options_the_guide_names_are_options_of_the_command(option: str) -> None:
    from palette_bench.cli.score import command

    assert option in SCORES
    assert any(option in parameter.opts for parameter in command.params)


def test_the_examples_of_the_guide_to_outside_tools_run_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "cache"))
    blocks = re.findall(r"```(bash|python)\n(.*?)```", OUTSIDE, flags=re.DOTALL)
    assert [language for language, _ in blocks] == ["bash", "bash", "python", "bash", "python", "python"]
    names: dict[str, object] = {}
    for language, block in blocks:
        if language == "python":
            exec(compile(block, "docs/outside-tools.md", "exec"), names)
            continue
        for line in block.splitlines():
            monkeypatch.setattr(sys, "argv", line.split())
            assert exit_code() == 0, line + capsys.readouterr().err
    assert capsys.readouterr().out.splitlines()[-1] == "mean-fill"
    assert 'slug = "mean-fill"' in (tmp_path / "sub" / "submission.toml").read_text()
    same = [(tmp_path / sub / "outputs" / "coffee.png").read_bytes() for sub in ("sub", "sub-2")]
    assert same[0] == same[1]


def test_the_plan_of_the_studies_guide_is_whole_and_holds_the_defaults() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", STUDIES, flags=re.DOTALL)
    plan = StudyToml.parse(text.encode(), "study.toml")
    named = set(re.findall(r"^(\w+) = ", text, flags=re.MULTILINE))
    fields = {*Plan.model_fields, *Exclude.model_fields, *Ethics.model_fields} - {"exclude", "ethics"}
    assert named == fields | {"schema", "consent", "instructions"}
    for name, field in Plan.model_fields.items():
        if not field.is_required():
            assert getattr(plan, name) == field.default


def test_the_studies_guide_names_every_column_of_votes() -> None:
    (columns,) = re.findall(r"`(study_id, [^`]*)`", STUDIES)
    assert re.split(r",\s+", columns) == list(Vote.model_fields)
