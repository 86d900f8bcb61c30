"""Checkpoints and trained weights.

A checkpoint is a folder that appears complete and is verified before an older one is removed:
RUN/checkpoints/step-00010000/{weights,ema,optimizer}.safetensors, state.json. Source: trust, section 2.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import safetensors
import safetensors.torch
import torch
from pydantic import Field

from palette_bench.benchset.sources import file_sha256
from palette_bench.core import atomic
from palette_bench.core.errors import (
    InputError,
    PaletteBenchError,
    StorageError,
    UsageError,
    WeightsError,
    problem,
)
from palette_bench.core.fingerprint import canonical_json, sha256
from palette_bench.core.records import Part, Record, Sha, Text, read_file
from palette_bench.core.types import Fingerprint
from palette_bench.submission.card import SawTestImages

logger = logging.getLogger(__name__)

Tensors: TypeAlias = Mapping[str, torch.Tensor]
FOLDER = "checkpoints"
STATE = "state.json"
KEPT = 2  # newest checkpoints that are kept
LENGTH = "length"  # key of the configuration: number of steps of the run
# differences that another length of the run may cause, as `differing` writes them
_SCHEDULE = tuple(f"recipe.training.{key} = " for key in ("steps", "warmup_steps", "cooldown_steps"))


class Resumption(Part):
    """A continuation under a changed configuration: by --override, or with another length of the run."""

    step: int
    differing: tuple[str, ...]


class CheckpointState(Record):
    """Description of a checkpoint.

    The learning rate follows from `step`, and bf16 needs no gradient scaler, so neither is stored.

    Attributes:
        step: optimiser steps done, skipped ones included.
        images_seen: batch x step.
        skipped: steps without an update because the loss or gradient was not finite.
        skipped_in_a_row: number of consecutive skipped steps at the end.
        parameters: number of parameters of the network that restores.
        configuration: everything that determines the weights.
        resumptions: changes of the configuration, by --override or by another length of the run.
        unreadable: indices of unreadable images that were skipped.
        environment: versions and device.
        files: file name -> SHA-256.
    """

    kind: ClassVar[str] = "training-state"
    method: str
    step: int = Field(ge=0)
    images_seen: int = Field(ge=0)
    skipped: int = Field(ge=0)
    skipped_in_a_row: int = Field(ge=0)
    parameters: int = Field(ge=1)
    configuration: dict[str, Any]
    resumptions: tuple[Resumption, ...] = ()
    unreadable: tuple[int, ...] = ()
    environment: dict[str, str]
    files: dict[str, Sha]


def save(run: Path, state: CheckpointState, tensors: Mapping[str, Tensors], recipe: str) -> Path:
    """Write a checkpoint into a temporary folder, verify it, and give the folder its final name.

    Args:
        run: folder of the run.
        state: state of the run; its `files` are filled in here.
        tensors: tensors by file stem; every file contains the recipe, so that it can be used alone.
        recipe: the resolved recipe, TOML.

    Raises:
        StorageError: PB802; older checkpoints are unchanged.
    """
    target = run / FOLDER / f"step-{state.step:08d}"
    if target.exists():
        atomic.remove_folder(target)  # a damaged checkpoint that `newest` skipped
    metadata = {"recipe": recipe, "method": state.method, "step": str(state.step)}
    digests = {}
    with atomic.whole_folder(target) as folder:
        for stem, part in tensors.items():
            on_host = {name: tensor.detach().cpu().contiguous() for name, tensor in part.items()}
            data = ordered(safetensors.torch.save(on_host, metadata))
            atomic.write_bytes(folder / f"{stem}.safetensors", data)
            digests[f"{stem}.safetensors"] = sha256(data)
        state.model_copy(update={"files": digests}).write(folder / STATE)
        read_state(folder)
    return target


def ordered(data: bytes) -> bytes:
    """Return a safetensors file with sorted keys in its header, so that equal checkpoints are equal files.

    The library writes the keys in arbitrary order. Offsets count from the end of the header, which is padded
    to a multiple of 8 bytes.
    """
    end = 8 + int.from_bytes(data[:8], "little")
    header = canonical_json(json.loads(data[8:end]))
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[end:]


def read_state(folder: Path) -> CheckpointState:
    """Return the state of a checkpoint, after verifying that all its files are present and unchanged.

    Raises:
        RecordError: state.json is damaged.
        StorageError: PB801, a file is missing or has another digest.
    """
    state = CheckpointState.read(folder / STATE)
    for name, expected in state.files.items():
        where = str(folder / name)
        try:
            found = file_sha256(folder / name)
        except OSError as error:
            raise StorageError.of("PB801", where, found=error.strerror or str(error)) from error
        if found != expected:
            fix = "use another checkpoint; this file changed after it was written"
            raise StorageError.of("PB801", where, expected=expected[:12], found=found[:12], fix=fix)
    return state


def read_checkpoint(folder: Path) -> tuple[CheckpointState, dict[str, Tensors]]:
    """Return a checkpoint: its state, and tensors by file stem (`weights`, `ema`, `optimizer`, ...).

    Raises:
        RecordError, StorageError: as `read_state`.
    """
    state = read_state(folder)
    return state, {Path(name).stem: safetensors.torch.load(read_file(folder / name)) for name in state.files}


def newest(run: Path) -> Path | None:
    """Return the newest valid checkpoint folder, None if there are no checkpoints; warn of damaged ones.

    Raises:
        StorageError: PB801, there are checkpoints, but none is valid.
    """
    folders = _folders(run)
    problems = []
    for folder in reversed(folders):
        try:
            read_state(folder)
        except PaletteBenchError as error:
            found = error.problems[0].where if error.problems else str(error)
            problems.append(problem("PB806", str(folder), found=f"damaged: {found}"))
            logger.warning("%s", problems[-1])
        else:
            return folder
    if problems:
        fix = "restore a checkpoint from a copy, or train into another folder"
        none = problem("PB801", str(run / FOLDER), found="no sound checkpoint", fix=fix)
        raise StorageError(*problems, none)
    return None


def _folders(run: Path) -> list[Path]:
    return sorted(path for path in (run / FOLDER).glob("step-*") if path.is_dir())


def prune(run: Path, keep_every: int | None) -> None:
    """Remove all checkpoints except the last two and the multiples of `keep_every`."""
    for folder in _folders(run)[:-KEPT]:
        step = int(folder.name.removeprefix("step-"))
        if not (keep_every and step % keep_every == 0):
            atomic.remove_folder(folder)


def differing(before: Mapping[str, Any], now: Mapping[str, Any], path: str = "") -> list[str]:
    """Return the dotted keys in which two configurations differ, with both values.

    Keys that only `before` has come from an older version and are not compared.
    """
    found = []
    for key, new in sorted(now.items()):
        old, where = before.get(key), f"{path}{key}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += differing(old, new, f"{where}.")
        elif old != new:
            found.append(f"{where} = {old} -> {new}")
    return found


def accept_configuration(
    state: CheckpointState, configuration: Mapping[str, Any], override: bool
) -> tuple[Resumption, ...]:
    """Return the resumptions to record from now on.

    A run may get another length. If that changes the learning rate, the change is recorded.

    Raises:
        InputError: PB605, the configuration differs and --override was not given.
    """
    before, now = dict(state.configuration), dict(configuration)
    resized = before.pop(LENGTH, None) != now.pop(LENGTH, None)
    changes = differing(before, now)
    if not changes:
        return state.resumptions
    if not override and not (resized and all(change.startswith(_SCHEDULE) for change in changes)):
        raise InputError.of(
            "PB605",
            f"checkpoint of step {state.step:,}",
            expected="the configuration it was trained with",
            found="; ".join(changes),
            fix="repeat the first command, use another -o folder, or go on with --override (recorded)",
        )
    return (*state.resumptions, Resumption(step=state.step, differing=tuple(changes)))


# --- trained weights: of a run, one of its checkpoints, or a single file ---


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
    state: CheckpointState | None = None
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
    folder = path if (path / STATE).is_file() else None
    if folder is None and (path / FOLDER).is_dir():
        folder = newest(path)
    if folder is None:
        if not path.exists():
            raise StorageError.of("PB801", str(path), found="no such file or folder", fix="check --run")
        raise UsageError(f"{path}: expected a run, a checkpoint folder or a .safetensors file")
    state = read_state(folder)
    # networks without an average restore with their weights
    stem = "ema" if "ema.safetensors" in state.files else "weights"
    return _opened(folder / f"{stem}.safetensors", state)


def _opened(file: Path, state: CheckpointState | None) -> TrainedRun:
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
