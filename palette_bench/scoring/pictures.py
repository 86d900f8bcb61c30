"""The pictures of one submission beside those of its set, as they are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palette_bench.benchset.manifest import BenchSet, input_channels
from palette_bench.core.errors import BenchSetError, SubmissionError, problem
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.png import PngError
from palette_bench.core.types import Fingerprint, Image, ImageId
from palette_bench.scoring.metrics.diagnostics import Diagnostic, Picture, Reading
from palette_bench.submission.check import read_output
from palette_bench.submission.files import Submission, output_name
from palette_bench.tasks.degradations.hole import recomposite


@dataclass(frozen=True)
class Pictures:
    """An opened submission and its set."""

    files: Submission
    target: BenchSet

    def raw(self, image_id: ImageId) -> Image:
        """Return an output as submitted.

        Raises:
            SubmissionError: it passed the check and cannot be read now.
        """
        try:
            return read_output(self.files, image_id, self.target.protocol.side)
        except PngError as error:
            raise SubmissionError(
                problem(
                    error.code,
                    output_name(image_id),
                    expected=error.expected,
                    found=error.found,
                    fix="leave the submission alone while it is scored",
                )
            ) from error

    def scored(self, image_id: ImageId) -> Image:
        """Return what is scored: known pixels re-imposed where the task has a hole."""
        mask = self.target.mask(image_id)
        raw = self.raw(image_id)
        return raw if mask is None else recomposite(raw, self.target.condition(image_id), mask)

    def all_of(self, image_id: ImageId) -> Picture:
        """Return an output with everything of its set."""
        raw, condition, mask = self.raw(image_id), self.target.condition(image_id), self.target.mask(image_id)
        scored = raw if mask is None else recomposite(raw, condition, mask)
        return Picture(raw, scored, self.target.reference(image_id), condition, mask)


@dataclass(frozen=True)
class Measured:
    """What the first look at every picture gives, in id order.

    Attributes:
        digests: pixel digest of each scored picture by id: the key to cached features.
        readings: diagnostic id -> one reading per picture.
    """

    digests: Mapping[ImageId, Fingerprint]
    readings: Mapping[str, Sequence[Reading]]


def measure(
    pictures: Pictures,
    ids: Sequence[ImageId],
    diagnostics: Sequence[Diagnostic],
    advance: Callable[[int], object],
) -> Measured:
    """Read every picture once: digests of what is scored, diagnostics, and proof of the set's own files.

    Raises:
        BenchSetError: PB602, pictures of the set are not the ones its manifest names; all are listed.
    """
    digests: dict[ImageId, Fingerprint] = {}
    readings: dict[str, list[Reading]] = {d.id: [] for d in diagnostics}
    damaged = []
    for image_id in ids:
        picture = pictures.all_of(image_id)
        if not _is_intact(picture, pictures.target, image_id):
            damaged.append(image_id)
        digests[image_id] = pixel_digest(picture.scored)
        for diagnostic in diagnostics:
            readings[diagnostic.id].append(diagnostic.read(picture))
        advance(1)
    if damaged:
        folder = pictures.target.folder
        raise BenchSetError(
            problem(
                "PB602",
                str(folder),
                expected="the pixels the manifest names",
                found="other pixels in reference, input or mask",
                fix=f"palette-bench verify {folder}",
                ids=damaged,
            )
        )
    return Measured(digests, readings)


def _is_intact(picture: Picture, target: BenchSet, image_id: ImageId) -> bool:
    item = target.manifest.by_id[image_id]
    channels = input_channels(target.task.degradation)
    found = [pixel_digest(picture.reference), pixel_digest(picture.condition[:, :, :channels])]
    if picture.mask is not None:
        found.append(pixel_digest(picture.mask.astype(np.uint8) * 255))
    return found == [digest for digest in (item.reference_px, item.input_px, item.mask_px) if digest]
