"""How a model becomes a submission: batches in, outputs checked and journalled, the card last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core import atomic, png
from palette_bench.core.errors import SubmissionError
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.interrupt import stoppable
from palette_bench.core.journal import WHOLE, Journal, Shard, locked
from palette_bench.core.types import SILENT, ImageId, Mask, Progress
from palette_bench.submission.card import CARD, SubmissionCard, Target, to_toml
from palette_bench.submission.contestant import About, Batch, Restorer


def restore(
    restorer: Restorer,
    benchset: ContestantSet,
    out: Path,
    *,
    batch_size: int = 16,
    shard: Shard = WHOLE,
    progress: Progress = SILENT,
) -> SubmissionCard | None:
    """Write a submission: outputs/ID.png for every id, then `submission.toml`.

    What is already there is kept if its pixels are those the journal names, and redone otherwise.

    Args:
        restorer: the model, ready.
        benchset: the set, or its public part.
        out: the submission's folder.
        batch_size: pictures per call of the restorer.
        shard: part of the ids to restore; the last shard to end writes the card.
        progress: where to report.

    Returns:
        The card, or None while other shards are missing.

    Raises:
        InputError: PB605, the folder holds outputs of another method or set.
        StorageError: PB802, PB803.
    """
    with locked(out, shard):
        _restore_shard(restorer, benchset, out, batch_size, shard, progress)
        finished = len(Journal(out, _header(restorer, benchset), shard).entries) == len(benchset.ids)
        if not finished:
            return None
        card = card_of(restorer.about, benchset)
        atomic.write_text(out / CARD, to_toml(card))
        return card


def card_of(about: About, benchset: ContestantSet) -> SubmissionCard:
    """Return the card of a method's submission for a set."""
    public = benchset.public
    return SubmissionCard(
        schema=SubmissionCard.schema_name(),
        method=about.method,
        target=Target(
            protocol=public.protocol,
            source=public.source,
            task=public.task,
            variant=None if public.variant == "default" else public.variant,
            set=public.set_fingerprint,
        ),
        training=about.training,
        sampling=about.sampling,
        declared=about.declared,
    )


def _header(restorer: Restorer, benchset: ContestantSet) -> dict[str, Any]:
    method = restorer.about.method
    return {
        "set": benchset.public.set_fingerprint,
        "method": method.slug,
        "version": method.version,
        "restorer": restorer.identity,
    }


def _restore_shard(
    restorer: Restorer,
    benchset: ContestantSet,
    out: Path,
    batch_size: int,
    shard: Shard,
    progress: Progress,
) -> None:
    outputs = out / "outputs"
    atomic.make_folder(outputs)
    atomic.sweep(outputs)
    journal = Journal(out, _header(restorer, benchset), shard)
    mine = benchset.ids[shard.index :: shard.count]
    kept = [e for i in mine if (e := journal.entries.get(i)) and _is_stored(outputs, e, benchset)]
    journal.start(kept)
    done = {entry["id"] for entry in kept}
    todo = [image_id for image_id in mine if image_id not in done]
    with progress("restoring", len(todo)) as advance, stoppable() as check_stop:
        for batch in _batches(benchset, todo, batch_size):
            journal.add(_write(outputs, batch, restorer.restore(batch)))
            advance(len(batch.ids))
            check_stop()


def _is_stored(outputs: Path, entry: dict[str, Any], benchset: ContestantSet) -> bool:
    side = benchset.protocol.side
    try:
        pixels, _ = png.decode_strict(png.read_regular(outputs / f"{entry['id']}.png"), side, side, 3)
    except (OSError, png.PngError):
        return False
    return bool(pixel_digest(pixels) == entry["px"])


def _batches(benchset: ContestantSet, ids: list[ImageId], size: int) -> Iterator[Batch]:
    for start in range(0, len(ids), size):
        some = tuple(ids[start : start + size])
        masks: list[Mask] = [mask for i in some if (mask := benchset.mask(i)) is not None]
        yield Batch(
            ids=some,
            inputs=np.stack([benchset.input(i) for i in some]),
            masks=np.stack(masks) if masks else None,
            benchset=benchset,
        )


def _write(outputs: Path, batch: Batch, pictures: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Write a batch's outputs; return their journal entries."""
    expected = (*batch.inputs.shape[:3], 3)
    if pictures.shape != expected or pictures.dtype != np.uint8:
        raise SubmissionError(
            f"restore() must return {expected} uint8, not {pictures.shape} {pictures.dtype}"
        )
    with atomic.Batch() as files:
        for image_id, picture in zip(batch.ids, pictures, strict=True):
            files.write(outputs / f"{image_id}.png", png.encode(picture))
    return [{"id": i, "px": pixel_digest(p)} for i, p in zip(batch.ids, pictures, strict=True)]
