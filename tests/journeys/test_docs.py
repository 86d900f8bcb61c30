"""What the guides say in tables and plans is what the program has; `test_documented_commands` runs them."""

from __future__ import annotations

import re

import pytest
from common import REPOSITORY

from palette_bench.study.plan import Ethics, Exclude, StudyPlan, StudyToml
from palette_bench.study.votes import Vote

SCORES = (REPOSITORY / "docs" / "scores.md").read_text(encoding="utf-8")
STUDIES = (REPOSITORY / "docs" / "human-studies.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "option",
    ["--partial", "--explain", "--reference-images", "--export-statistics", "--calibrate", "--mode", "--n"],
)
def test_options_the_guide_names_are_options_of_the_command(option: str) -> None:
    from palette_bench.cli.score import command

    assert option in SCORES
    assert any(option in parameter.opts for parameter in command.params)


def test_the_plan_of_the_studies_guide_is_whole_and_holds_the_defaults() -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", STUDIES, flags=re.DOTALL)
    plan = StudyToml.parse(text.encode(), "study.toml")
    named = set(re.findall(r"^(\w+) = ", text, flags=re.MULTILINE))
    fields = {*StudyPlan.model_fields, *Exclude.model_fields, *Ethics.model_fields} - {"exclude", "ethics"}
    assert named == fields | {"schema", "consent", "instructions"}
    for name, field in StudyPlan.model_fields.items():
        if not field.is_required():
            assert getattr(plan, name) == field.default


def test_the_studies_guide_names_every_column_of_votes() -> None:
    (columns,) = re.findall(r"`(study_id, [^`]*)`", STUDIES)
    assert re.split(r",\s+", columns) == list(Vote.model_fields)
