"""Recipes: strict TOML in which every choice is a key, so that a resolved copy describes a run completely.

Each method subclasses `Recipe` and its sections to add its own keys.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, field_validator, model_validator

from palette_bench.core.errors import InputError, RecordError, UsageError, problem, suggest
from palette_bench.core.records import Part, Record
from palette_bench.submission.card import SawTestImages

from .presets import PRESETS, AttentionKind, UNetSpec

Task = Literal["colorization", "inpainting", "uncropping", "jpeg"]
MULTI_TASKS: tuple[Task, ...] = ("colorization", "inpainting", "jpeg")  # Palette, section 5.6

Count = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1e6)]
Share = Annotated[float, Field(ge=0, lt=1)]

_BOOKKEEPING = ("checkpoints", "log")  # sections that cannot change a weight


class Network(Part):
    """The U-Net: a preset, and the fields of `UNetSpec` that differ from it."""

    preset: str
    attention_kind: AttentionKind = "global"
    side: Count | None = None
    width: Count | None = None
    multipliers: tuple[Count, ...] | None = None
    blocks: Count | None = None
    attention: tuple[Count, ...] | None = None
    head_width: Count | None = None
    groups: Count | None = None
    fold: Count | None = None

    @field_validator("preset")
    @classmethod
    def _known(cls, preset: str) -> str:
        if preset not in PRESETS:
            raise ValueError(f"a preset: {suggest(preset, PRESETS)}")
        return preset

    @model_validator(mode="after")
    def _possible(self) -> Self:
        try:
            self.spec  # noqa: B018  # it refuses what is no network
        except InputError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def spec(self) -> UNetSpec:
        """Return the full shape of the network."""
        names = {field.name for field in fields(UNetSpec)}
        changes = {name: value for name, value in self if name in names and value is not None}
        return replace(PRESETS[self.preset], **changes)


class TrainingOptions(Part):
    """Options of the optimiser.

    Palette, Appendix B: batch 1024, 1M steps, learning rate 1e-4 after a warm-up of 10k steps.
    """

    batch: Count  # images per step, all ranks together
    micro_batch: Count | None = None  # images per forward pass of a rank; the rest is accumulated
    steps: Count
    learning_rate: Rate  # constant between warm-up and cooldown
    warmup_steps: Annotated[int, Field(ge=0)]  # first steps, over which the rate rises linearly
    cooldown_steps: Annotated[int, Field(ge=0)] = 0  # last steps, over which the rate falls linearly to 0
    ema_decay: Share  # decay of the weight average, at most (1 + step) / (10 + step)
    betas: tuple[Share, Share] = (0.9, 0.999)
    epsilon: Rate = 1e-8

    def of_length(self, steps: int) -> Self:
        """Return the options for a run of `steps` steps.

        The cooldown keeps its share of the run. If warm-up and cooldown exceed the run, they are limited to a
        tenth and a half of it.
        """
        warmup, cooldown = self.warmup_steps, round(self.cooldown_steps * steps / self.steps)
        if warmup + cooldown > steps:
            warmup, cooldown = min(warmup, steps // 10), min(cooldown, steps // 2)
        changes = {"steps": steps, "warmup_steps": warmup, "cooldown_steps": cooldown}
        return self.model_copy(update=changes)


class PaperTraining(TrainingOptions):
    """Training schedule of the paper's model, and of the regression baseline that it is compared with."""

    batch: Count = 1024
    steps: Count = 1_000_000
    learning_rate: Rate = 1e-4
    warmup_steps: int = Field(default=10_000, ge=0)
    ema_decay: Share = 0.9999


class DataOptions(Part):
    """Information about the training images."""

    name: str = ""  # as cards name them
    saw_test_images: SawTestImages = "unknown"  # "yes" allows files of benchmark splits


class SpeedOptions(Part):
    """Options that change the speed, and the result at most by rounding.

    `noise` is the exception: the host and the device draw different normals.
    """

    autocast: Literal["off", "bf16"] = "off"
    compile: bool = False
    channels_last: bool = False
    checkpointing: bool = False
    fused_adam: bool = False
    noise: Literal["host", "device"] | None = None  # where normals are drawn; None: host on a CPU


class CheckpointOptions(Part):
    """When the run is saved; the last two checkpoints are kept, and every multiple of `keep_every`."""

    save_every: Count = 1000
    keep_every: Count | None = None


class LogOptions(Part):
    """Steps between log lines and between strips of preview images; `strip_every = 0` writes no strips."""

    every: Count = 50
    strip_every: Annotated[int, Field(ge=0)] = 5000


class Recipe(Record):
    """Recipe of a trained method: the keys that all methods share."""

    kind: ClassVar[str] = "recipe"
    method: str
    task: Task | Literal["multi"] | None = None  # None: the recipe suits any task
    tasks: tuple[Task, ...] = ()  # of a multi-task model; one is drawn uniformly per sample
    network: Network
    training: TrainingOptions
    data: DataOptions = DataOptions()
    speed: SpeedOptions = SpeedOptions()
    checkpoints: CheckpointOptions = CheckpointOptions()
    log: LogOptions = LogOptions()

    @property
    def side(self) -> int:
        """Return the side of a training image, pixels."""
        return self.network.spec.side

    def choices(self) -> dict[str, Any]:
        """Return every key that can change the weights at a given step, as JSON values.

        The number of steps is left out, unless a cooldown makes the learning rate depend on it.
        """
        unmoving: Any = {"data": {"name"}}
        if not self.training.cooldown_steps:  # a cooldown ties earlier learning rates to the length
            unmoving["training"] = {"steps", "cooldown_steps"}
        value = self.model_dump(mode="json", by_alias=True, exclude=unmoving)
        return {key: item for key, item in value.items() if key not in _BOOKKEEPING}

    def of_length(self, steps: int | None) -> Self:
        """Return the recipe for a run of `steps` steps (None: its own number), with a schedule that fits."""
        training = self.training.of_length(steps or self.training.steps)
        return self.model_copy(update={"training": training})

    def resolved(self, method: str, task: str, noise: Literal["host", "device"]) -> Self:
        """Return the recipe with every open choice made.

        Args:
            method: method to train.
            task: requested task, or "multi".
            noise: where normals are drawn if the recipe does not say.

        Raises:
            RecordError: PB403, the recipe belongs to another method, or its tasks contradict the requested
                one.
            UsageError: the recipe is for another task.
        """
        if self.method != method:
            raise RecordError(_contradiction("method", method, self.method))
        if self.task not in (None, task):
            raise UsageError(f"this recipe is for --task {self.task}, not {task}")
        tasks = self.tasks or (MULTI_TASKS if task == "multi" else (task,))
        if task != "multi" and tasks != (task,):
            raise RecordError(_contradiction("tasks", f"[{task}], or task multi", ", ".join(tasks)))
        speed = self.speed.model_copy(update={"noise": self.speed.noise or noise})
        return self.model_copy(update={"task": task, "tasks": tasks, "speed": speed})


R = TypeVar("R", bound=Recipe)


def _contradiction(key: str, expected: str, found: str) -> Any:
    return problem("PB403", f"recipe: {key}", expected=expected, found=found, fix="change the recipe")


def read_recipe(model: type[R], text: str, name: str = "recipe.toml") -> R:
    """Return a recipe parsed from TOML text.

    Raises:
        RecordError: PB401-PB403, PB411; reports all problems at once and suggests keys for unknown ones.
    """
    return model.parse(text.encode(), name if name.endswith(".toml") else f"{name}.toml")


def inherited(text: str, known: Mapping[str, str], name: str) -> str:
    """Return a recipe's TOML with the keys of the recipe that it `extends`, and of that one's parent in turn.

    A key of the recipe replaces the parent's, inside sections too. Text without `extends` comes back as it
    is, and so does text that is no TOML: `read_recipe` reports that.

    Args:
        text: TOML.
        known: TOML text of the recipes that can be extended, by name.
        name: of the recipe, for errors.

    Raises:
        RecordError: PB403, there is no such parent, or a recipe extends itself.
    """
    try:
        return _with_parent(text, known, (name,))
    except tomllib.TOMLDecodeError:
        return text


def _with_parent(text: str, known: Mapping[str, str], names: tuple[str, ...]) -> str:
    own = tomllib.loads(text)
    if "extends" not in own:
        return text
    parent = own.pop("extends")
    known_parent = isinstance(parent, str) and parent in known
    if not known_parent or parent in names:
        fix = "remove one of the two `extends`" if known_parent else suggest(str(parent), known)
        where, found = f"{names[-1]}: extends", repr(parent)
        raise RecordError.of("PB403", where, expected="another recipe", found=found, fix=fix)
    merged = tomllib.loads(_with_parent(known[parent], known, (*names, parent)))
    for key, value in own.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merged[key] | value if both else value
    remark = text.partition("\n")[0]
    return f"{remark}\n{_sections(merged)}" if remark.startswith("#") else _sections(merged)


def to_toml(recipe: Recipe) -> str:
    """Return the recipe as TOML that parses to an equal recipe; keys without a value are left out."""
    return _sections(recipe.model_dump(mode="json", by_alias=True, exclude_none=True))


def _sections(value: Mapping[str, Any]) -> str:
    """Return TOML: plain keys first, then a section for each dictionary."""
    plain = {key: item for key, item in value.items() if not isinstance(item, dict)}
    lines = [f"{key} = {_toml(item)}" for key, item in plain.items()]
    for section, keys in value.items():
        if isinstance(keys, dict):
            lines += ["", f"[{section}]", *(f"{key} = {_toml(item)}" for key, item in keys.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Return a value as TOML: JSON is valid TOML for scalars and lists; dictionaries become inline tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def spelled_out(recipe: Recipe) -> str:
    """Return a recipe as TOML with every key, as a template to copy and change.

    Keys without a value become comments; those of the network show the preset's value.
    """
    lines: list[str] = []
    for line in to_toml(recipe).splitlines():
        if not line and lines:
            lines += _unset(recipe, lines)
        lines.append(line)
    return "\n".join([*lines, *_unset(recipe, lines)]) + "\n"


def _unset(recipe: Recipe, lines: list[str]) -> list[str]:
    """Return comments for the keys without a value in the section that ends with `lines`."""
    headings = [line.strip("[]") for line in lines if line.startswith("[")]
    part = getattr(recipe, headings[-1]) if headings else recipe
    unset = [key for key in type(part).model_fields if getattr(part, key) is None]
    chosen = {key: getattr(part.spec, key, None) for key in unset} if isinstance(part, Network) else {}
    return [
        f"# {key} = {_toml(list(value) if isinstance(value, tuple) else value)}"
        if value
        else f"# {key} is not set"
        for key, value in ((key, chosen.get(key)) for key in unset)
    ]
