"""Opening what training left: a run folder, one of its checkpoints, or a lone weights file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import safetensors
import safetensors.torch
import torch
from pydantic import Field

from palette_bench.core.errors import StorageError, UsageError, WeightsError, problem
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import Record, Sha, Text, read_file
from palette_bench.core.types import Fingerprint
from palette_bench.submission.card import SawTestImages

from . import checkpoint


class WeightsCard(Record):
    """What is known of a lone weights file.

    Attributes:
        sha256: of the file.
        bytes: its size.
        method: that restores with it.
        parameters: of the network.
        licence: of the weights, and what their training images ask for.
        date: of the file.
        data: what it was trained on.
        saw_test_images: whether images of test sets are among them.
        images: how many training images there are.
        data_sha256: of their names and sizes.
        started_from: SHA-256 of the weights the run began with; none if it began anew.
        started_from_note: what those weights are, and whether they can be had.
        seed: of the run.
        steps: optimiser steps done.
        images_seen: batch x steps.
        recipe: every choice that moved a weight.
        environment: versions and device it was trained with.
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
    """Return where the card of a weights file lies: beside it, under its name."""
    return weights.with_suffix(".toml")


def proven_card(weights: Path, data: bytes) -> WeightsCard | None:
    """Return the card beside a weights file that has the digest it tells of; None if there is no card.

    Raises:
        WeightsError: PB705, another digest. RecordError: the card is malformed.
    """
    if not card_path(weights).is_file():
        return None
    card = WeightsCard.read(card_path(weights))
    if sha256(data) != card.sha256:
        raise WeightsError(
            problem(
                "PB705",
                str(weights),
                expected=f"{card.bytes:,} bytes, sha256 {card.sha256}, as its card says",
                found=f"{len(data):,} bytes, sha256 {sha256(data)}",
                fix="install the package again, or take the card away from weights of your own",
            )
        )
    return card


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
    state: checkpoint.CheckpointState | None = None
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


def _opened(file: Path, state: checkpoint.CheckpointState | None) -> TrainedRun:
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
