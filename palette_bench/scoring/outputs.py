"""The images of one submission beside those of its set, and the pixel diagnostics that read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from palette_bench.benchset.manifest import BenchSet, input_channels
from palette_bench.core.errors import BenchSetError, SubmissionError
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.png import PngError
from palette_bench.core.types import Fingerprint, Image, ImageId
from palette_bench.scoring.metrics.diagnostics import Diagnostic, DiagnosticInput, DiagnosticReading
from palette_bench.submission.check import CheckedOutput, read_output
from palette_bench.submission.files import Submission, output_name
from palette_bench.tasks.degradations.hole import recomposite


@dataclass(frozen=True)
class OutputImages:
    """An opened submission and its benchmark set."""

    files: Submission
    target: BenchSet

    def raw(self, image_id: ImageId, sample: int = 1) -> Image:
        """Return an output as submitted.

        Raises:
            SubmissionError: the file passed the check but cannot be read now.
        """
        try:
            return read_output(self.files, image_id, self.target.protocol.side, sample)
        except PngError as error:
            raise SubmissionError.of(
                error.code,
                output_name(image_id, sample),
                expected=error.expected,
                found=error.found,
                fix="leave the submission alone while it is scored",
            ) from error

    def scored(self, image_id: ImageId, sample: int = 1) -> Image:
        """Return the image to score: the output, with the input's known pixels if the task has a hole."""
        mask = self.target.mask(image_id)
        raw = self.raw(image_id, sample)
        return raw if mask is None else recomposite(raw, self.target.condition(image_id), mask)


@dataclass(frozen=True)
class DiagnosticReadings:
    """The pixel digests and diagnostics of all images, in id order.

    Attributes:
        digests: id -> pixel digest of the scored image, from which the keys of cached features are made.
        readings: diagnostic id -> one reading per image.
    """

    digests: Mapping[ImageId, Fingerprint]
    readings: Mapping[str, Sequence[DiagnosticReading]]


class PixelDiagnostics:
    """Callback that reads every valid output while `check` has it decoded (thread-safe).

    It computes the digest of the scored image and the pixel diagnostics, and checks that the set's own files
    are those that the manifest names.
    """

    def __init__(self, target: BenchSet, diagnostics: Sequence[Diagnostic]) -> None:
        """Start without readings."""
        self._target = target
        self._diagnostics = diagnostics
        self._digests: dict[ImageId, Fingerprint] = {}
        self._readings: dict[ImageId, list[DiagnosticReading]] = {}
        self._damaged: set[ImageId] = set()

    def __call__(self, answer: CheckedOutput) -> None:
        """Read one output; several threads may call this, each with its own output.

        Raises:
            BenchSetError: the set's reference image cannot be read.
        """
        image_id = answer.image_id
        image = _image(answer, self._target.reference(image_id))
        if not _is_intact(image, self._target, image_id):
            self._damaged.add(image_id)
        self._readings[image_id] = [diagnostic.read(image) for diagnostic in self._diagnostics]
        self._digests[image_id] = pixel_digest(image.scored)

    def measured(self, ids: Sequence[ImageId]) -> DiagnosticReadings:
        """Return the digests and readings of these images, in this order.

        Raises:
            BenchSetError: PB602, images of the set are not those that its manifest names; all are listed.
        """
        if self._damaged:
            folder = self._target.folder
            raise BenchSetError.of(
                "PB602",
                str(folder),
                expected="the pixels the manifest names",
                found="other pixels in reference, input or mask",
                fix=f"palette-bench verify {folder}",
                ids=sorted(self._damaged),
            )
        readings = {
            diagnostic.id: [self._readings[i][at] for i in ids]
            for at, diagnostic in enumerate(self._diagnostics)
        }
        return DiagnosticReadings({i: self._digests[i] for i in ids}, readings)


def _image(answer: CheckedOutput, reference: Image) -> DiagnosticInput:
    raw, condition, mask = answer.output, answer.condition, answer.mask
    scored = raw if mask is None else recomposite(raw, condition, mask)
    return DiagnosticInput(raw, scored, reference, condition, mask)


def _is_intact(image: DiagnosticInput, target: BenchSet, image_id: ImageId) -> bool:
    item = target.manifest.by_id[image_id]
    channels = input_channels(target.task.degradation)
    found = [pixel_digest(image.reference), pixel_digest(image.condition[:, :, :channels])]
    if image.mask is not None:
        found.append(pixel_digest(image.mask.astype(np.uint8) * 255))
    return found == [digest for digest in (item.reference_px, item.input_px, item.mask_px) if digest]
