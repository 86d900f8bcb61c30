"""How a model becomes a submission: batches in, outputs checked and journalled, the card last.

Nothing is shared between processes but the folder: a rank of torchrun is a shard, each shard writes its own
journal, and whoever ends last finds everything done and writes the card. A rank that fails ends alone, and
torchrun ends the others; the same command then goes on from what is journalled.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core import atomic, png
from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.core.journal import Journal, Shard, locked
from palette_bench.core.processes import rank_of, stoppable
from palette_bench.core.rng import sampling_noise
from palette_bench.core.types import SILENT, AnyPath, Image, ImageId, Mask, Progress
from palette_bench.submission.card import CARD, SubmissionCard, Target, to_toml
from palette_bench.submission.cost import measured, peak_memory, with_cost
from palette_bench.submission.files import output_name
from palette_bench.submission.methods import Batch, MethodInfo, Restorer, SelectiveRestorer
from palette_bench.submission.plugins import require_images, require_restorer

_WITNESSES = 3  # ids whose first noise is digested in the journal; trust, section 1.1

log = logging.getLogger(__name__)


class OutputKey(NamedTuple):
    """One image to write: a sample, counted from 0, of an id."""

    sample: int
    image_id: ImageId

    @property
    def file(self) -> str:
        """Return where it lies in the submission."""
        return output_name(self.image_id, self.sample + 1)

    @property
    def key(self) -> str:
        """Return its name in journals: ID, and K/ID for further samples (ids hold no slash)."""
        return f"{self.sample}/{self.image_id}" if self.sample else self.image_id


def restore(
    restorer: Restorer,
    benchset: ContestantSet,
    out: AnyPath,
    *,
    samples: int = 1,
    batch_size: int = 16,
    shard: Shard | None = None,
    device: str | None = None,
    audit: int = 0,
    progress: Progress = SILENT,
) -> SubmissionCard | None:
    """Write a submission: outputs/ID.png for every id, samples/K/ID.png, then `submission.toml`.

    What is already there is kept if its pixels are those the journal names, and redone otherwise.

    Args:
        restorer: the model, ready.
        benchset: the set, or its public part.
        out: the submission's folder.
        samples: images per id, of different noise.
        batch_size: images per call of the restorer; every call has as many, so that equal runs are equal
            bits (level L0).
        shard: part of the ids to restore; None takes all, or this rank's under torchrun.
        device: where the restorer computes, for the cost on the card; None tells no cost.
        audit: outputs to restore again in another batch, to compare.
        progress: where to report.

    Returns:
        The card, or None while other shards are missing.

    Raises:
        UsageError: the restorer is not made for this set; nothing is written.
        InputError: PB605, the folder holds outputs of another method, model, sample count or set.
        MethodError: PB613, the restorer lacks something, or returned another shape or type.
        StorageError: PB802, PB803.
    """
    require_restorer(restorer)
    out = Path(out)
    if isinstance(restorer, SelectiveRestorer):
        restorer.accept(benchset)
    run = _RestoreRun(restorer, benchset, out, samples, batch_size, shard or Shard(*rank_of()), device)
    with locked(out, run.shard):
        run.work(progress)
        if audit:
            run.audit(audit)
        return run.close()


def card_of(about: MethodInfo, benchset: ContestantSet, samples: int = 1) -> SubmissionCard:
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
            samples_per_image=samples,
        ),
        training=about.training,
        sampling=about.sampling,
        declared=about.declared,
    )


@dataclass(frozen=True)
class _RestoreRun:
    """One call of `restore`."""

    restorer: Restorer
    benchset: ContestantSet
    out: Path
    samples: int
    batch_size: int
    shard: Shard
    device: str | None

    @property
    def header(self) -> dict[str, Any]:
        """Return what the outputs of one folder must share."""
        about = self.restorer.about
        return {
            "set": self.benchset.public.set_fingerprint,
            "method": about.method.slug,
            "version": about.method.version,
            "restorer": self.restorer.identity,
            "samples": self.samples,
            "first_noise": self._first_noise(about.sampling.seed),
        }

    def _first_noise(self, seed: int | None) -> dict[ImageId, str] | None:
        """Return digests of the noise of sample 0, step 0: equal on every machine, or runs do not mix."""
        if seed is None:
            return None
        shape = (3, self.benchset.protocol.side, self.benchset.protocol.side)
        blocks = {i: sampling_noise(seed, i, 0, 0, shape) for i in self.benchset.ids[:_WITNESSES]}
        return {i: sha256(block.astype("<f4").tobytes())[:16] for i, block in blocks.items()}

    def _outputs(self, shard: Shard) -> list[OutputKey]:
        """Return what a shard has to write, sample by sample."""
        ids = self.benchset.ids[shard.index :: shard.count]
        return [OutputKey(sample, image_id) for sample in range(self.samples) for image_id in ids]

    def work(self, progress: Progress) -> None:
        """Restore what this shard lacks."""
        mine = self._outputs(self.shard)
        journal, todo = self._resumed(mine)
        size = min(self.batch_size, len(mine) // self.samples)
        start = time.monotonic()
        with progress("restoring", len(todo)) as advance, stoppable() as check_stop:
            for group, batch in self._batches(todo, size):
                journal.add(self._restored(group, batch))
                advance(len(group))
                check_stop()
        if todo and self.device:
            seconds = time.monotonic() - start
            told = (len(todo), seconds, len(todo) / seconds, peak_memory(self.device))
            log.info("%d images in %.1f s, %.4g a second, %.1f GB at most", *told)

    def _resumed(self, mine: list[OutputKey]) -> tuple[Journal, list[OutputKey]]:
        """Return the journal, rid of outputs that are no longer what it says, and what is left to do."""
        for folder in {self.out / "outputs", *((self.out / output.file).parent for output in mine)}:
            atomic.make_folder(folder)
            atomic.sweep(folder)
        journal = Journal(self.out, self.header, self.shard)
        kept = {o.key: e for o in mine if (e := journal.entries.get(o.key)) and self._is_stored(o, e)}
        journal.start(kept.values())
        # read again: of two shards that begin together with other settings, one now meets the other's header
        journal = Journal(self.out, self.header, self.shard)
        return journal, [output for output in mine if output.key not in kept]

    def _is_stored(self, output: OutputKey, entry: dict[str, Any]) -> bool:
        try:
            return bool(pixel_digest(self._stored(output)) == entry["px"])
        except (OSError, png.PngError):
            return False

    def _stored(self, output: OutputKey) -> Image:
        side = self.benchset.protocol.side
        return png.decode_strict(png.read_regular(self.out / output.file), side, side, 3)[0]

    def _batches(self, outputs: list[OutputKey], size: int) -> Iterator[tuple[list[OutputKey], Batch]]:
        """Yield outputs of one sample with the batch that asks for them, of exactly `size` images."""
        for sample, same in groupby(outputs, key=lambda output: output.sample):
            rest = list(same)
            for start in range(0, len(rest), size):
                group = rest[start : start + size]
                yield group, self._batch(sample, [output.image_id for output in group], size)

    def _batch(self, sample: int, ids: list[ImageId], size: int) -> Batch:
        """Return a batch; a short one repeats its last image, whose copies are thrown away.

        Kernels differ with the shape, so an image restored alone differs in its last bits.
        """
        full = (*ids, *(ids[-1:] * (size - len(ids))))
        masks: list[Mask] = [mask for i in full if (mask := self.benchset.mask(i)) is not None]
        return Batch(
            ids=full,
            inputs=np.stack([self.benchset.input(i) for i in full]),
            masks=np.stack(masks) if masks else None,
            benchset=self.benchset,
            sample=sample,
        )

    def _restored(self, group: list[OutputKey], batch: Batch) -> list[dict[str, Any]]:
        """Restore and write a batch; return the journal entries."""
        start = time.perf_counter()
        images = self._images(batch)
        seconds = time.perf_counter() - start
        cost = measured(seconds, len(batch.ids), self.restorer.about.sampling.steps)
        with atomic.FileBatch() as files:
            for output, image in zip(group, images, strict=False):
                files.write(self.out / output.file, png.encode(image))
        return [
            {"id": output.key, "px": pixel_digest(image), **cost}
            for output, image in zip(group, images, strict=False)
        ]

    def _images(self, batch: Batch) -> NDArray[np.uint8]:
        images = self.restorer.restore(batch)
        require_images(images, (*batch.inputs.shape[:3], 3), f"{type(self.restorer).__name__}.restore()")
        return images

    def audit(self, count: int) -> None:
        """Restore a few finished outputs in batches of another size and tell the largest difference.

        Source: trust, section 1.1: another batch size may move a sample by one level (L1).
        """
        chosen = sorted(self._outputs(self.shard), key=lambda output: sha256(output.key.encode()))[:count]
        size = self.batch_size // 2 or 2
        largest = 0
        for group, batch in self._batches(sorted(chosen), size):
            for output, again in zip(group, self._images(batch), strict=False):
                gap = np.abs(again.astype(np.int16) - self._stored(output))
                largest = max(largest, int(gap.max()))
        told = (len(chosen), size, largest)
        log.info("audit: %d outputs in batches of %d: largest difference %d levels", *told)

    def close(self) -> SubmissionCard | None:
        """Write the card if every output of every shard is there."""
        entries = Journal(self.out, self.header, self.shard).entries
        wanted = [output.key for output in self._outputs(Shard())]
        if not entries.keys() >= set(wanted):
            return None
        card = card_of(self.restorer.about, self.benchset, self.samples)
        if self.device:
            sampling = with_cost(card.sampling, [entries[key] for key in wanted], self.device)
            card = card.model_copy(update={"sampling": sampling})
        atomic.write_text(self.out / CARD, to_toml(card))
        return card
