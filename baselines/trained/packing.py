"""Export of a training run as a single weights file with its card."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import safetensors.torch
import torch

from palette_bench.core import atomic
from palette_bench.core.errors import InputError, UsageError
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import today

from ..training.checkpoint import WeightsCard, card_path, open_run, ordered
from ..training.recipe import DataOptions, Recipe, to_toml


def pack(
    run: Path, weights: Path, data: DataOptions, licence: str, started_from_note: str | None = None
) -> WeightsCard:
    """Write the averaged weights of a run as float16 safetensors, and their card; return the card.

    Args:
        run: a RUN folder or one of its checkpoints.
        weights: file to write; the card is written beside it.
        data: description of the training data, and whether test images are among them.
        licence: licence of the weights.
        started_from_note: what the initial weights of the run are, and where to find them.

    Raises:
        UsageError: the run is a single weights file, which does not record what it was trained on.
        InputError: PB712, a weight exceeds the float16 range.
    """
    opened = open_run(run)
    if opened.state is None:
        raise UsageError(f"{run}: expected a run folder or a checkpoint, which say what the weights saw")
    tensors = {name: tensor.half().contiguous() for name, tensor in opened.tensors.items()}
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            limit = "weights within +-65504"
            raise InputError.of("PB712", name, expected=limit, found="larger ones", fix="train anew")
    # the metadata make the file complete; equal weights give equal bytes
    metadata = {"recipe": opened.recipe, "method": opened.method, "step": str(opened.step)}
    content = ordered(safetensors.torch.save(tensors, metadata))
    state, configuration = opened.state, opened.state.configuration
    card = WeightsCard(
        schema=WeightsCard.schema_name(),
        sha256=sha256(content),
        bytes=len(content),
        method=opened.method,
        parameters=state.parameters,
        licence=licence,
        date=today(),
        data=data.name,
        saw_test_images=data.saw_test_images,
        pictures=configuration["pictures"],
        data_sha256=configuration["data"],
        started_from=configuration["init"],
        started_from_note=started_from_note,
        seed=configuration["seed"],
        steps=state.step,
        images_seen=state.images_seen,
        recipe=stated(configuration["recipe"]),
        environment=state.environment,
    )
    with atomic.FileBatch() as batch:
        batch.write(weights, content)
        batch.write(card_path(weights), to_toml(cast(Recipe, card)).encode())  # `to_toml` takes any record
    return card


def stated(value: Any) -> Any:
    """Return a configuration without the keys whose value is None, which TOML cannot represent."""
    if isinstance(value, dict):
        return {key: stated(item) for key, item in value.items() if item is not None}
    return value
