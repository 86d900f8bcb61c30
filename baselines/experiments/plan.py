"""What a study's folder was begun as: the same command goes on, another one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Self

from palette_bench.core.errors import InputError, problem
from palette_bench.core.records import Record

PLAN = "plan.json"


class Plan(Record):
    """`plan.json`; seeds may be added later, and devices change."""

    kind: ClassVar[str] = "study-plan"
    study: str
    size: str
    scale: float
    extractors: tuple[str, ...]

    @classmethod
    def of(cls, study: str, size: str, scale: float, extractors: tuple[str, ...]) -> Self:
        """Return a plan."""
        schema = cls.schema_name()
        return cls(schema=schema, study=study, size=size, scale=scale, extractors=extractors)


def keep_plan(out: Path, plan: Plan) -> None:
    """Write a plan into an empty folder, or find the same one there.

    Raises:
        InputError: PB605, the folder holds another study.
    """
    path = out / PLAN
    if not path.is_file():
        plan.write(path)
    elif (begun := Plan.read(path)) != plan:
        differing = [name for name, value in plan if getattr(begun, name) != value]
        raise InputError(
            problem(
                "PB605",
                str(path),
                expected=", ".join(f"{name} {getattr(begun, name)}" for name in differing),
                found=", ".join(f"{name} {getattr(plan, name)}" for name in differing),
                fix="give what this folder was begun with, or another folder",
            )
        )
