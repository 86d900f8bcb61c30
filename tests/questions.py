"""Batches of sets that exist in memory only, of any size: what a restorer is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from palette_bench.benchset.manifest import ContestantSet, PublicSet
from palette_bench.submission.methods import Batch
from palette_bench.tasks.protocol import load

HOLED = ("inpainting", "uncropping")


def batch(task: str, side: int, n: int = 8) -> Batch:
    """Return the first n of eight random images; those of tasks with holes have a box cut out."""
    public = PublicSet(
        schema=PublicSet.schema_name(),
        protocol="smoke",
        task=task,
        variant="default",
        source="smoke-photos",
        set_fingerprint="0" * 64,
        items=(),
    )
    channels = 1 if task == "colorization" else 3
    inputs = np.random.default_rng(3).integers(0, 256, (8, side, side, channels), np.uint8)
    masks = None
    if task in HOLED:
        masks = np.zeros((n, side, side), bool)
        masks[:, side // 4 : 3 * side // 4, side // 3 :] = True
        inputs[:n][masks] = 127
        masks.setflags(write=False)  # as decoded images are
    benchset = ContestantSet(Path(), public, load("smoke").model_copy(update={"side": side}))
    return Batch(tuple(f"p{i}" for i in range(n)), inputs[:n], masks, benchset)


def part(whole: Batch, first: int, last: int) -> Batch:
    """Return some images of a batch as a batch of their own."""
    masks = None if whole.masks is None else whole.masks[first:last]
    return Batch(whole.ids[first:last], whole.inputs[first:last], masks, whole.benchset, whole.sample)
