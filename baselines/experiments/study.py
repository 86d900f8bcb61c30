"""Studies as data: systems that are trained alike, the sets they restore, and the paper's claims."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from palette_bench.core.errors import InputError, UsageError, suggest
from palette_bench.core.records import Part, Record, Slug, Text

from ..training.recipe import Count, Task
from . import NAMES

Sections = dict[str, dict[str, Any]]  # sections of a recipe: name -> key -> value
Sign = Literal["lower", "higher"]


class Preset(Part):
    """Settings that all studies of a size share."""

    training_pictures: Count  # minimum; fewer are refused
    most_pictures: Count  # maximum; further images are not read
    trial_steps: Count  # steps of each run that are timed first
    restore_batch: Count
    recipe: Sections


class Size(Part):
    """How much a study computes at a size."""

    images: Count  # training images seen by each run, repeats included
    inputs: Count  # held-out images per set
    samples: Count = 1  # per input
    seeds: Count = 1
    split: bool = False  # train every system as specialists, one run per task


class System(Part):
    """A system to compare: a method, trained on its tasks by one run, or by one run per task.

    Attributes:
        name: part of file names and of slugs on the board.
        title: display name.
        method: name of the method.
        tasks: tasks to train on.
        split: whether each task has a run of its own.
        recipe: changes to the size's recipe.
    """

    name: Slug
    title: Text
    method: str
    tasks: tuple[Task, ...]
    split: bool = False
    recipe: Sections = Field(default_factory=dict)


class Claim(Part):
    """A claim of the paper: in `metric`, `first` is lower, or higher, than `second` on these sets."""

    first: str
    second: str
    metric: str
    sign: Sign
    sets: tuple[str, ...]
    source: Text


class StudyDeclaration(Record):
    """What every study declares, also the miniature."""

    name: Slug
    title: Text
    finding: str
    metrics: tuple[str, ...]  # shown first on the page
    caveats: tuple[str, ...] = ()  # in addition to those of all studies
    systems: tuple[System, ...]
    claims: tuple[Claim, ...]

    def title_of(self, system: str) -> str:
        """Return the display name of a system."""
        return next(s.title for s in self.systems if s.name == system)


class ExperimentStudy(StudyDeclaration):
    """Declaration of a study."""

    kind: ClassVar[str] = "study"
    sets: tuple[str, ...]
    sizes: dict[str, Size]

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        systems = {system.name for system in self.systems}
        for claim in self.claims:
            strange = {claim.first, claim.second} - systems | set(claim.sets) - set(self.sets)
            if strange:
                raise ValueError(f"claims name {', '.join(sorted(strange))}, which the study does not have")
        return self


class Presets(Record):
    """`sizes.toml`: the sizes of studies."""

    kind: ClassVar[str] = "study-sizes"
    sizes: dict[str, Preset]
    caveats: tuple[str, ...]


@dataclass(frozen=True)
class StudyRun:
    """One training run of a study.

    Attributes:
        name: name of its folder.
        system: system that the run belongs to.
        tasks: tasks to train on.
        seed: seed of every training draw.
    """

    name: str
    system: System
    tasks: tuple[Task, ...]
    seed: int

    @property
    def task(self) -> str:
        """Return the task as recipes name it: the only task, or "multi"."""
        return self.tasks[0] if len(self.tasks) == 1 else "multi"

    def answers(self, target: str) -> bool:
        """Return whether the run is trained for the task of a set, TASK/VARIANT."""
        return target.partition("/")[0] in self.tasks


def read_study(name: str) -> ExperimentStudy:
    """Return a study that ships with the package.

    Raises:
        UsageError: there is no study of that name.
    """
    if name not in NAMES:
        raise UsageError(f"no study {name!r}: {suggest(name, NAMES)}")
    file = files(__package__).joinpath("studies", f"{name}.toml")
    return ExperimentStudy.parse(file.read_bytes(), file.name)


def read_presets() -> Presets:
    """Return the sizes of studies, and the caveats that all studies share."""
    return Presets.parse(files(__package__).joinpath("studies", "sizes.toml").read_bytes(), "sizes.toml")


def runs_of(study: ExperimentStudy, size: Size, seeds: int) -> list[StudyRun]:
    """Return a study's runs, seed by seed, so that a stopped study has complete comparisons first."""
    runs = []
    for seed, system in product(range(seeds), study.systems):
        alone = (size.split or system.split) and len(system.tasks) > 1
        for tasks in [(task,) for task in system.tasks] if alone else [system.tasks]:
            name = f"{system.name}-{tasks[0]}" if alone else system.name
            runs.append(StudyRun(f"{name}.{seed}", system, tasks, seed))
    return runs


PLAN = "plan.json"


class ExperimentPlan(Record):
    """`plan.json`: what must stay the same in a folder. Seeds may be added, and the device may change."""

    kind: ClassVar[str] = "study-plan"
    study: str
    size: str
    scale: float
    extractors: tuple[str, ...]


def keep_plan(out: Path, study: str, size: str, scale: float, extractors: tuple[str, ...] = ()) -> None:
    """Write a plan into an empty folder, or check that the folder holds the same plan.

    Raises:
        InputError: PB605, the folder holds another study.
    """
    path, schema = out / PLAN, ExperimentPlan.schema_name()
    plan = ExperimentPlan(schema=schema, study=study, size=size, scale=scale, extractors=extractors)
    if not path.is_file():
        plan.write(path)
    elif (begun := ExperimentPlan.read(path)) != plan:
        differing = [name for name, value in plan if getattr(begun, name) != value]
        raise InputError.of(
            "PB605",
            str(path),
            expected=", ".join(f"{name} {getattr(begun, name)}" for name in differing),
            found=", ".join(f"{name} {getattr(plan, name)}" for name in differing),
            fix="give what this folder was begun with, or another folder",
        )
