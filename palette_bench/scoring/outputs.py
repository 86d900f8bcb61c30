"""The images of one submission beside those of its set, and the pixel diagnostics that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import SubmissionError
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.png import PngError
from palette_bench.core.types import Fingerprint, Image, ImageId
from palette_bench.scoring.metrics.diagnostics import DIAGNOSTICS, DiagnosticInput, DiagnosticReading
from palette_bench.submission.check import read_output
from palette_bench.submission.files import Submission, output_name
from palette_bench.submission.output_reader import CheckedOutput
from palette_bench.tasks.degradations.hole import recomposite


@dataclass(frozen=True)
class OutputImages:
    """An opened submission and its benchmark set."""

    files: Submission
    target: BenchSet

    def scored(self, image_id: ImageId, sample: int = 1) -> Image:
        """Return the image to score: the output, with the input's known pixels if the task has a hole.

        Raises:
            SubmissionError: the file passed the check but cannot be read now.
        """
        mask = self.target.mask(image_id)
        try:
            raw = read_output(self.files, image_id, self.target.protocol.side, sample)
        except PngError as error:
            where, fix = output_name(image_id, sample), "leave the submission alone while it is scored"
            raise SubmissionError.of(
                error.code, where, expected=error.expected, found=error.found, fix=fix
            ) from error
        return raw if mask is None else recomposite(raw, self.target.condition(image_id), mask)

    def samples(self, image_id: ImageId, count: int) -> list[Image]:
        """Return samples 1 to `count` of an image, as they are scored.

        Raises:
            SubmissionError: as in `scored`.
        """
        return [self.scored(image_id, k) for k in range(1, count + 1)]

    def with_original(self, image_id: ImageId) -> list[Image]:
        """Return the output of an image, as it is scored, and its original.

        Raises:
            SubmissionError: as in `scored`.
        """
        return [self.scored(image_id), self.target.reference(image_id)]


class MeasuredOutput(NamedTuple):
    """What is measured on the pixels of one output.

    Attributes:
        image_id: id of the image.
        digest: pixel digest of the scored image, from which the keys of cached features are made.
        readings: diagnostic id -> reading.
        intact: whether the set's own images of this id are those that the manifest names.
    """

    image_id: ImageId
    digest: Fingerprint
    readings: Mapping[str, DiagnosticReading]
    intact: bool


def measure(output: CheckedOutput, diagnostics: Sequence[str]) -> MeasuredOutput:
    """Return pixel diagnostics of one output, by their ids, and whether the set's own images are intact.

    Raises:
        BenchSetError: the set's reference image cannot be read.
    """
    target, reference = output.target, output.reference
    assert isinstance(target, BenchSet), "scores need the whole set"
    assert reference is not None, "a whole set has references"
    raw, condition, mask = output.output, output.condition, output.mask
    scored = raw if mask is None else recomposite(raw, condition, mask)
    item = target.manifest.by_id[output.image_id]
    gray = target.degradation.channels == 1
    found = [pixel_digest(reference), pixel_digest(condition[:, :, :1]) if gray else output.condition_digest]
    if mask is not None:
        found.append(pixel_digest(mask.astype(np.uint8) * 255))
    intact = found == [digest for digest in (item.reference_px, item.input_px, item.mask_px) if digest]
    image = DiagnosticInput(raw, scored, reference, condition, mask)
    readings = {name: DIAGNOSTICS[name].read(image) for name in diagnostics}
    digest = output.digest if mask is None else pixel_digest(scored)
    return MeasuredOutput(output.image_id, digest, readings, intact)
