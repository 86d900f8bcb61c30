"""Opening trained weights: a run folder, one of its checkpoints, or a single weights file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import safetensors
import safetensors.torch
import torch
from pydantic import Field

from palette_bench.core.errors import StorageError, UsageError, WeightsError
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import Record, Sha, Text, read_file
from palette_bench.core.types import Fingerprint
from palette_bench.submission.card import SawTestImages

from . import checkpoint


class WeightsCard(Record):
    """Card of a single weights file.

    Attributes:
        sha256: digest of the file.
        bytes: size of the file.
        method: method that restores with the weights.
        parameters: number of parameters of the network.
        licence: licence of the weights, and what the licences of the training images require.
        date: date of the file.
        data: description of the training images.
        saw_test_images: whether images of test sets are among them.
        pictures: number of training images.
        data_sha256: digest of the names of the training images.
        started_from: SHA-256 of the weights the run began with; none if it began anew.
        started_from_note: what those weights are, and whether they are available.
        seed: seed of the run.
        steps: optimiser steps done.
        images_seen: batch x steps.
        recipe: every choice that can change a weight.
        environment: versions and device of the training.
    """

    kind: ClassVar[str] = "weights-card"
    added: ClassVar[Mapping[str, int]] = {"started_from_note": 1}
    sha256: Sha
    bytes: int = Field(ge=1)
    method: Text
    parameters: int = Field(ge=1)
    licence: Text
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    data: Text
    saw_test_images: SawTestImages = "unknown"
    pictures: int = Field(ge=1)
    data_sha256: Sha
    started_from: Sha | None = None
    started_from_note: Text | None = None
    seed: int
    steps: int = Field(ge=1)
    images_seen: int = Field(ge=1)
    recipe: dict[str, Any]
    environment: dict[str, str]


def card_path(weights: Path) -> Path:
    """Return the path of a weights file's card: beside the file, with suffix .toml."""
    return weights.with_suffix(".toml")


@dataclass(frozen=True)
class TrainedRun:
    """Trained weights, and where they come from.

    Attributes:
        recipe: the resolved recipe, TOML.
        method: trained method.
        step: optimiser steps done.
        tensors: averaged weights, float32, on the host.
        sha256: digest of the file that holds them.
        state: state of the checkpoint; None for a single file.
        card: card beside a single file; None without one.
    """

    recipe: str
    method: str
    step: int
    tensors: Mapping[str, torch.Tensor]
    sha256: Fingerprint
    state: checkpoint.CheckpointState | None = None
    card: WeightsCard | None = None


def open_run(path: Path) -> TrainedRun:
    """Return the averaged weights of a RUN folder, a checkpoint folder or a .safetensors file.

    Raises:
        UsageError: the path is none of these.
        StorageError: PB801, missing or damaged.
        WeightsError: PB705, the file was not written by `train`, or differs from its card.
    """
    if path.is_file():
        return _opened(path, None)
    folder = path if (path / checkpoint.STATE).is_file() else None
    if folder is None and (path / checkpoint.FOLDER).is_dir():
        folder = checkpoint.newest(path)
    if folder is None:
        if not path.exists():
            raise StorageError.of("PB801", str(path), found="no such file or folder", fix="check --run")
        raise UsageError(f"{path}: expected a run, a checkpoint folder or a .safetensors file")
    state = checkpoint.read_state(folder)
    # networks without an average restore with their weights
    stem = "ema" if "ema.safetensors" in state.files else "weights"
    return _opened(folder / f"{stem}.safetensors", state)


def _opened(file: Path, state: checkpoint.CheckpointState | None) -> TrainedRun:
    data, card = read_file(file), None
    if card_path(file).is_file():
        card = WeightsCard.read(card_path(file))
        if sha256(data) != card.sha256:
            raise WeightsError.of(
                "PB705",
                str(file),
                expected=f"{card.bytes:,} bytes, sha256 {card.sha256}, as its card says",
                found=f"{len(data):,} bytes, sha256 {sha256(data)}",
                fix="install the package again, or take the card away from weights of your own",
            )
    try:
        with safetensors.safe_open(str(file), "pt") as opened:
            metadata = opened.metadata() or {}
        tensors = {name: t.float() for name, t in safetensors.torch.load(data).items()}
        recipe, method, step = metadata["recipe"], metadata["method"], int(metadata["step"])
        return TrainedRun(recipe, method, step, tensors, sha256(data), state, card)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise WeightsError.of(
            "PB705",
            str(file),
            expected="a .safetensors file written by palette-bench train, its recipe inside",
            found=str(error)[:200],
            fix="give the run folder, a checkpoint folder, or ema.safetensors of one",
        ) from error
