"""Where a training run is and what kind of model it holds, told without loading it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self

import safetensors

from palette_bench.core.errors import StorageError, UsageError, problem
from palette_bench.core.records import Record, read_file
from palette_bench.core.text import decode_text
from palette_bench.submission.methods import TrainOptions

RECIPE = "recipe.resolved.toml"
OPTIONS = "options.json"
_AGAIN = ("device", "workers", "threads", "deterministic", "unreadable")  # options that move no weight
_WEIGHTS = ("ema.safetensors", "weights.safetensors")  # of a checkpoint; both name their method inside


class RunOptions(Record):
    """What a run was started with, beside its resolved recipe: `train --resume RUN` needs nothing else.

    Attributes:
        method: that is trained.
        task: asked for.
        data: absolute paths.
        seed: of every draw.
        init: absolute path of the weights it started from.
        init_kind: whose they are.
        device: where it ran last; so the rest.
    """

    kind: ClassVar[str] = "training-options"
    method: str
    task: str
    data: tuple[str, ...]
    seed: int
    init: str | None
    init_kind: str | None
    device: str
    workers: int
    threads: int | None
    deterministic: bool
    unreadable: int | None

    @classmethod
    def of(cls, options: TrainOptions, method: str) -> RunOptions:
        """Return what is worth remembering of a command."""
        return cls(
            schema=cls.schema_name(),
            method=method,
            task=options.task,
            data=tuple(str(path.absolute()) for path in options.data),
            seed=options.seed,
            init=str(options.init.absolute()) if options.init else None,
            init_kind=options.init_kind,
            **{name: getattr(options, name) for name in _AGAIN},
        )

    @classmethod
    def found(cls, run: Path) -> Self:
        """Return what a run folder remembers.

        Raises:
            StorageError: PB801, there is no run, or one of an earlier version.
            RecordError: it is damaged.
        """
        for name in (OPTIONS, RECIPE):
            if not (run / name).is_file():
                fix = "give the folder of a run; one of an earlier version goes on by its first command"
                raise StorageError(problem("PB801", str(run / name), found="no such file", fix=fix))
        return cls.read(run / OPTIONS)

    def again(self, run: Path, given: Mapping[str, Any]) -> TrainOptions:
        """Return the options that go on; `given` are those of the new command that differ."""
        named = {"task": self.task, "data": tuple(map(Path, self.data)), "seed": self.seed}
        init = self.init and Path(self.init)
        last = {name: getattr(self, name) for name in _AGAIN}
        recipe = str(run / RECIPE)
        options = {"recipe": recipe, "init": init, "init_kind": self.init_kind, **named, **last, **given}
        return TrainOptions(run=run, **options)


def trained_models() -> Mapping[str, Path]:
    """Return the small trained models that come along: name -> weights file."""
    folder = Path(str(files("palette_bench.baselines") / "trained"))
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def find_run(named: Path) -> Path:
    """Return where a run is: what is named, or a trained model of that name."""
    return named if named.exists() else trained_models().get(str(named), named)


def method_of(run: Path) -> str:
    """Return the method of a training run: what its resolved recipe, or its weights file, says.

    Args:
        run: a RUN folder, a checkpoint folder or a .safetensors file of ours.

    Raises:
        UsageError: it is none of these.
        StorageError: PB801, the recipe cannot be read.
    """
    method = _said_by(run).get("method")
    if not isinstance(method, str):
        raise UsageError(
            f"{run} names no method: expected a folder `palette-bench train` wrote ({RECIPE} inside), one of "
            "its checkpoints, or a .safetensors file of one"
        )
    return method


def _said_by(run: Path) -> dict[str, Any]:
    """Return the keys of a run's recipe, or the metadata of its weights; nothing if there are none."""
    try:
        if (run / RECIPE).is_file():
            return tomllib.loads(decode_text(read_file(run / RECIPE)))
        for file in (run, *(run / name for name in _WEIGHTS)):
            if file.is_file():
                with safetensors.safe_open(str(file), "np") as weights:
                    return weights.metadata() or {}
    except (ValueError, safetensors.SafetensorError):
        pass  # unreadable is as good as absent: the message names what is expected
    return {}
