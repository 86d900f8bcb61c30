"""Restoring a set: a method's outputs are checked, written and journalled batch by batch, then the card.

Processes share only the output folder. Each rank of torchrun is a shard with its own journal, and the shard
that ends last writes the card. If a rank fails, torchrun ends the others; the same command then resumes from
the journals.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
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
from palette_bench.submission.output_store import LooseOutputs, OutputStore, TarOutputs
from palette_bench.submission.plugins import require_images, require_restorer

_WITNESSES = 3  # ids whose first noise block is digested in the journal header; trust, section 1.1

log = logging.getLogger(__name__)


class OutputKey(NamedTuple):
    """Key of one output: the sample index, from 0, and the image id."""

    sample: int
    image_id: ImageId

    @property
    def file(self) -> str:
        """Return the relative path of the output in the submission."""
        return output_name(self.image_id, self.sample + 1)

    @property
    def folder(self) -> str:
        """Return the relative path of the folder of the output."""
        return self.file.rpartition("/")[0]

    @property
    def key(self) -> str:
        """Return the key in journals: ID for sample 0, K/ID for sample K (ids contain no slash)."""
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
    tars: bool = False,
    progress: Progress = SILENT,
) -> SubmissionCard | None:
    """Write a submission: outputs/ID.png for every id, samples/K/ID.png, then `submission.toml`.

    An existing output is kept if its pixels have the digest in the journal; otherwise it is restored again.

    Args:
        restorer: the method's restorer.
        benchset: the set, or its public part.
        out: folder of the submission.
        samples: number of outputs per id, each with different noise.
        batch_size: number of images per call of the restorer. All calls have the same size, so that equal
            runs give equal bits (reproducibility level L0).
        shard: part of the ids to restore; None for all ids, or for this rank's shard under torchrun.
        device: device of the restorer, to state the cost on the card; None states no cost.
        audit: number of outputs to restore again in batches of another size, for comparison.
        tars: write outputs/I-of-N.tar, a tar per shard and sample, instead of a file per output.
        progress: callback that reports each image.

    Returns:
        The card, or None while other shards are missing.

    Raises:
        UsageError: the restorer does not support this set; nothing is written.
        InputError: PB605, the folder holds outputs of another method, model, sample count, set or
            packing.
        MethodError: PB613, the restorer lacks a part of the interface, or returned a wrong shape or type.
        StorageError: PB802, PB803.
    """
    require_restorer(restorer)
    out = Path(out)
    if isinstance(restorer, SelectiveRestorer):
        restorer.accept(benchset)
    shard = shard or Shard(*rank_of())
    run = _RestoreRun(restorer, benchset, out, samples, batch_size, shard, device, tars)
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
    tars: bool

    @cached_property
    def store(self) -> OutputStore:
        """Return where the outputs of this shard lie; read first when its folders exist."""
        return TarOutputs(self.out, self.folders, self.shard) if self.tars else LooseOutputs(self.out)

    @property
    def folders(self) -> list[str]:
        """Return the folders of the outputs, one per sample."""
        return [OutputKey(sample, "").folder for sample in range(self.samples)]

    @property
    def header(self) -> dict[str, Any]:
        """Return the journal header: the values that all outputs of a folder must share.

        The digests of the first noise keep machines with different noise from sharing a folder.
        """
        about = self.restorer.about
        seed, side = about.sampling.seed, self.benchset.protocol.side
        first_noise = None
        if seed is not None:
            blocks = {
                i: sampling_noise(seed, i, 0, 0, (3, side, side)) for i in self.benchset.ids[:_WITNESSES]
            }
            first_noise = {i: sha256(block.astype("<f4").tobytes())[:16] for i, block in blocks.items()}
        return {
            "set": self.benchset.public.set_fingerprint,
            "method": about.method.slug,
            "version": about.method.version,
            "restorer": self.restorer.identity,
            "samples": self.samples,
            "n": len(self.benchset.ids),
            "first_noise": first_noise,
            **({"tars": self.shard.count} if self.tars else {}),
        }

    def _outputs(self, shard: Shard) -> list[OutputKey]:
        """Return the keys of all outputs of a shard, sample by sample."""
        ids = self.benchset.ids[shard.index :: shard.count]
        return [OutputKey(sample, image_id) for sample in range(self.samples) for image_id in ids]

    def work(self, progress: Progress) -> None:
        """Restore the missing outputs of this shard."""
        mine = self._outputs(self.shard)
        journal, todo = self._resumed(mine)
        size = min(self.batch_size, len(mine) // self.samples)
        start = time.monotonic()
        with progress("restoring", len(todo)) as advance, stoppable() as check_stop:
            for group, batch in self._batches(todo, size):
                journal.add(self._restored(group, batch))
                advance(len(group))
                check_stop()
        self.store.finish()
        if todo and self.device:
            seconds = time.monotonic() - start
            speed, memory = len(todo) / seconds, peak_memory(self.device) / 1e9
            text = "%d images in %.1f s, %.4g a second, %.1f GB at most"
            log.info(text, len(todo), seconds, speed, memory)

    def _resumed(self, mine: list[OutputKey]) -> tuple[Journal, list[OutputKey]]:
        """Return the journal without entries of missing or changed outputs, and the outputs to restore."""
        atomic.sweep(self.out)
        for folder in self.folders:
            atomic.make_folder(self.out / folder)
            atomic.sweep(self.out / folder)
        journal = Journal(self.out, self.header, self.shard)
        kept = {}
        for output in mine:
            entry = journal.entries.get(output.key)
            with suppress(OSError, png.PngError):  # a missing or damaged file is restored again
                if entry and pixel_digest(self._stored(output)) == entry["px"]:
                    kept[output] = entry
        names = self.store.keep({output.file for output in kept})
        kept = {output: entry for output, entry in kept.items() if output.file in names}
        journal.start(kept.values())
        # Read the journals again: if two shards start at the same time with different settings, one of them
        # now finds the other's header and raises PB605.
        journal = Journal(self.out, self.header, self.shard)
        return journal, [output for output in mine if output not in kept]

    def _stored(self, output: OutputKey) -> Image:
        side = self.benchset.protocol.side
        return png.decode_strict(self.store.read(output.file), side, side, 3)[0]

    def _batches(self, outputs: list[OutputKey], size: int) -> Iterator[tuple[list[OutputKey], Batch]]:
        """Yield groups of outputs of one sample, each with its batch of exactly `size` images.

        A short batch repeats its last image, and the copies are discarded: the same image in a batch of
        another shape would differ in its last bits, because the libraries choose other kernels.
        """
        for sample, same in groupby(outputs, key=lambda output: output.sample):
            rest = list(same)
            for start in range(0, len(rest), size):
                group = rest[start : start + size]
                ids = [output.image_id for output in group]
                full = (*ids, *(ids[-1:] * (size - len(ids))))
                inputs = np.stack([self.benchset.input(i) for i in full])
                masks: list[Mask] = [mask for i in full if (mask := self.benchset.mask(i)) is not None]
                yield group, Batch(full, inputs, np.stack(masks) if masks else None, self.benchset, sample)

    def _restored(self, group: list[OutputKey], batch: Batch) -> list[dict[str, Any]]:
        """Restore a batch, write its outputs, and return their journal entries."""
        start = time.perf_counter()
        images = self._images(batch)
        seconds = time.perf_counter() - start
        cost = measured(seconds, len(batch.ids), self.restorer.about.sampling.steps)
        files = {output.file: png.encode(image) for output, image in zip(group, images, strict=False)}
        self.store.add(group[0].folder, files)
        return [
            {"id": output.key, "px": pixel_digest(image), **cost}
            for output, image in zip(group, images, strict=False)
        ]

    def _images(self, batch: Batch) -> NDArray[np.uint8]:
        images = self.restorer.restore(batch)
        require_images(images, (*batch.inputs.shape[:3], 3), f"{type(self.restorer).__name__}.restore()")
        return images

    def audit(self, count: int) -> None:
        """Restore `count` outputs again in batches of another size, and log the largest difference in levels.

        Source: trust, section 1.1: another batch size may change a value by one level (reproducibility level
        L1).
        """
        chosen = sorted(self._outputs(self.shard), key=lambda output: sha256(output.key.encode()))[:count]
        size = self.batch_size // 2 or 2
        largest = 0
        for group, batch in self._batches(sorted(chosen), size):
            for output, again in zip(group, self._images(batch), strict=False):
                gap = np.abs(again.astype(np.int16) - self._stored(output))
                largest = max(largest, int(gap.max()))
        text = "audit: %d outputs in batches of %d: largest difference %d levels"
        log.info(text, len(chosen), size, largest)

    def close(self) -> SubmissionCard | None:
        """Write and return the card if the outputs of all shards are journalled, else return None."""
        entries = Journal(self.out, self.header, self.shard).entries
        wanted = [output.key for output in self._outputs(Shard())]
        if not entries.keys() >= set(wanted) or not self.store.is_whole():
            return None
        card = card_of(self.restorer.about, self.benchset, self.samples)
        if self.device:
            sampling = with_cost(card.sampling, [entries[key] for key in wanted], self.device)
            card = card.model_copy(update={"sampling": sampling})
        atomic.write_text(self.out / CARD, to_toml(card))
        return card
