"""Training runs on disk: their options, their location and their method, read without loading weights."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self

import safetensors

from palette_bench.core.errors import StorageError, UsageError
from palette_bench.core.records import Record, read_file
from palette_bench.core.text import decode_text
from palette_bench.submission.methods import TrainOptions

RECIPE = "recipe.resolved.toml"
OPTIONS = "options.json"
# options that do not change what is learned; a new command may change them
_AGAIN = ("device", "workers", "threads", "deterministic", "unreadable")
_WEIGHTS = ("ema.safetensors", "weights.safetensors")  # files of a checkpoint; their metadata name the method


class RunOptions(Record):
    """Options of a training run. With the resolved recipe, they are all that `train --resume RUN` needs.

    Attributes:
        method: name of the trained method.
        task: name of the task, or "multi".
        data: absolute paths of the training data.
        seed: seed of all random draws.
        init: absolute path of the weights that the run started from.
        init_kind: kind of these weights.
        device: device of the last command; the attributes that follow are also those of the last command.
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
        """Return the options to store for a training command."""
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
        """Return the stored options of a run folder.

        Raises:
            StorageError: PB801, the folder holds no run, or a run of an earlier version.
            RecordError: the stored options are damaged.
        """
        for name in (OPTIONS, RECIPE):
            if not (run / name).is_file():
                fix = "give the folder of a run; resume a run of an earlier version with its first command"
                raise StorageError.of("PB801", str(run / name), found="no such file", fix=fix)
        return cls.read(run / OPTIONS)

    def again(self, run: Path, given: Mapping[str, Any]) -> TrainOptions:
        """Return the options that resume the run; options of the new command, `given`, take precedence."""
        named = {"task": self.task, "data": tuple(map(Path, self.data)), "seed": self.seed}
        init = self.init and Path(self.init)
        last = {name: getattr(self, name) for name in _AGAIN}
        recipe = str(run / RECIPE)
        options = {"recipe": recipe, "init": init, "init_kind": self.init_kind, **named, **last, **given}
        return TrainOptions(run=run, **options)


def trained_models() -> Mapping[str, Path]:
    """Return name -> weights file of the small trained models that are installed with the package."""
    folder = Path(str(files("palette_bench.baselines") / "trained"))
    return {file.stem: file for file in sorted(folder.glob("*.safetensors"))}


def find_run(named: Path) -> Path:
    """Return the path if it exists, else the weights file of the bundled model of that name.

    If there is neither, the path is returned unchanged.
    """
    return named if named.exists() else trained_models().get(str(named), named)


def method_of(run: Path) -> str:
    """Return the name of a training run's method, from its resolved recipe or the metadata of its weights.

    Args:
        run: folder of a run, folder of a checkpoint, or a .safetensors file of ours.

    Raises:
        UsageError: the path is none of these.
        StorageError: PB801, the recipe cannot be read.
    """
    stated: dict[str, Any] = {}
    with suppress(ValueError, safetensors.SafetensorError):  # damaged files count as absent
        if (run / RECIPE).is_file():
            stated = tomllib.loads(decode_text(read_file(run / RECIPE)))
        elif file := next((f for f in (run, *(run / name for name in _WEIGHTS)) if f.is_file()), None):
            with safetensors.safe_open(str(file), "np") as weights:
                stated = weights.metadata() or {}
    method = stated.get("method")
    if not isinstance(method, str):
        raise UsageError(
            f"{run} names no method: expected a folder `palette-bench train` wrote ({RECIPE} inside), one of "
            "its checkpoints, or a .safetensors file of one"
        )
    return method
