"""Where a training run is and what kind of model it holds, told without loading it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import safetensors

from palette_bench.core.errors import UsageError
from palette_bench.core.records import read_file
from palette_bench.core.text import decode_text

RECIPE = "recipe.resolved.toml"
_WEIGHTS = ("ema.safetensors", "weights.safetensors")  # of a checkpoint; both name their method inside


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
