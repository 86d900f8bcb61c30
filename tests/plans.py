"""Plans of small studies, and studies made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from submissions import original, plausible, submit

from palette_bench.study.design import design
from palette_bench.study.folder import StudyFolder
from palette_bench.study.plan import Study, StudyToml

SECRET = "5" * 64

PLAN = """\
schema = "palette-bench/study-plan/1.0"
title = "Can you tell?"
consent = "consent.txt"
instructions = "instructions.txt"
{lines}
[ethics]
purpose = "a test"
"""
SMALL = {"images": 40, "raters": 12, "trials_per_method": 10, "practice": 2}


def write_plan(folder: Path, **changes: Any) -> Path:
    """Write study.toml and its texts; `changes` are keys of the plan."""
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in (SMALL | changes).items())
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("consent.txt").write_text("You may stop at any time.\n")
    folder.joinpath("instructions.txt").write_text("Choose the photograph.\n")
    path = folder / "study.toml"
    path.write_text(PLAN.format(lines=lines))
    return path


def make_plan(**changes: Any) -> StudyToml:
    """Return a plan without a folder."""
    lines = "\n".join(f"{key} = {json.dumps(value)}" for key, value in (SMALL | changes).items())
    return StudyToml.parse(PLAN.format(lines=lines).encode(), "study.toml")


def make_study(folder: Path, benchset: Path, **changes: Any) -> StudyFolder:
    """Design a study of two methods, `painter` and `copier` (the originals), in FOLDER/study."""
    subs = [
        submit(benchset, folder / "painter", plausible, slug="painter"),
        submit(benchset, folder / "copier", original, slug="copier"),
    ]
    plan = write_plan(folder, **changes)
    design(plan, benchset, subs, folder / "study", secret=SECRET)
    return StudyFolder.open(folder / "study")


def frozen_study(methods: int = 2, **changes: Any) -> Study:
    """Return a frozen plan of no folder, with made-up ids, for votes that need one."""
    plan = make_plan(**changes)
    shared = {key: getattr(plan, key) for key in type(plan).model_fields} | {"schema": Study.schema_name()}
    shared.pop("schema_id")
    sha = "0" * 64
    return Study(
        **(
            shared
            | {
                "target": {
                    "protocol": "palette-mini",
                    "source": "photos-64",
                    "task": "jpeg",
                    "variant": "qf5",
                    "set": sha,
                },
                "methods": tuple(
                    {"slug": f"method-{m}", "version": "1", "outputs": sha} for m in range(methods)
                ),
                "methods_per_rater": methods,
                "image_ids": tuple(f"i{n:03d}" for n in range(plan.images)),
                "catch_ids": tuple(f"c{n}" for n in range(plan.catch)),
                "practice_ids": tuple(f"p{n}" for n in range(plan.practice)),
                **dict.fromkeys(("consent", "instructions", "truth", "slots", "stimuli"), sha),
            }
        )
    )
