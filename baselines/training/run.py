"""Opening what training left: a run folder, one of its checkpoints, or a lone weights file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from palette_bench.core.errors import StorageError, UsageError, WeightsError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import read_file
from palette_bench.core.types import Fingerprint

from . import checkpoint
from .weights_card import WeightsCard, proven_card


@dataclass(frozen=True)
class TrainedRun:
    """Weights that restore, and where they come from.

    Attributes:
        recipe: the resolved recipe, TOML.
        method: that was trained.
        step: optimiser steps done.
        tensors: averaged weights, float32, on the host.
        sha256: of the file that holds them.
        state: of the checkpoint; None for a lone file.
        card: beside a lone file, if there is one.
    """

    recipe: str
    method: str
    step: int
    tensors: Mapping[str, torch.Tensor]
    sha256: Fingerprint
    state: checkpoint.State | None = None
    card: WeightsCard | None = None


def open_run(path: Path) -> TrainedRun:
    """Return the averaged weights of a RUN folder, a checkpoint folder or a .safetensors file.

    Raises:
        UsageError: it is none of these.
        StorageError: PB801, absent or damaged.
        WeightsError: PB705, no weights file of ours, or not the one its card tells of.
    """
    if path.is_file():
        return _opened(path, None)
    folder = path if (path / checkpoint.STATE).is_file() else None
    if folder is None and (path / checkpoint.FOLDER).is_dir():
        folder = checkpoint.newest(path)
    if folder is None:
        if not path.exists():
            raise StorageError(problem("PB801", str(path), found="no such file or folder", fix="check --run"))
        raise UsageError(f"{path}: expected a run, a checkpoint folder or a .safetensors file")
    state = checkpoint.read_state(folder)
    stem = "ema" if "ema.safetensors" in state.files else "weights"
    return _opened(folder / f"{stem}.safetensors", state)


def _opened(file: Path, state: checkpoint.State | None) -> TrainedRun:
    data = read_file(file)
    card = proven_card(file, data)
    try:
        with safetensors.safe_open(str(file), "pt") as opened:
            metadata = opened.metadata() or {}
        tensors = {name: t.float() for name, t in safetensors.torch.load(data).items()}
        return TrainedRun(
            metadata["recipe"], metadata["method"], int(metadata["step"]), tensors, sha256(data), state, card
        )
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise WeightsError(
            problem(
                "PB705",
                str(file),
                expected="a .safetensors file written by palette-bench train, its recipe inside",
                found=str(error)[:200],
                fix="give the run folder, a checkpoint folder, or ema.safetensors of one",
            )
        ) from error
