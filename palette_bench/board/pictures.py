"""Input, output and original of one picture, proven to be the scored ones and small enough for a page.

Source: reports and studies, section 6.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from palette_bench.benchset.manifest import BenchSet
from palette_bench.board.pages import data_uri
from palette_bench.core.errors import IncomparableError, Problem, problem
from palette_bench.core.fingerprint import pixel_digest, table_digest
from palette_bench.core.png import PngError
from palette_bench.core.types import SILENT, Image, ImageId, Progress
from palette_bench.scoring.scorecard import Scorecard
from palette_bench.submission.check import read_output
from palette_bench.submission.files import Submission, open_submission
from palette_bench.tasks.degradations.hole import recomposite

SMALL_SIDE = 64  # pixels; pictures this small are stored without loss and shown enlarged
_QUALITY = 70
_JPEG_TASK_QUALITY = 90  # the artefacts are the subject: the preview must not add its own


@dataclass(frozen=True)
class Panels:
    """The three pictures of a card as `data:` addresses."""

    input: str
    output: str
    original: str


@dataclass(frozen=True)
class Gallery:
    """A set and the submission that answers it, both proven to be those of one card."""

    benchset: BenchSet
    submission: Submission

    @property
    def side(self) -> int:
        """Return the pictures' side, pixels."""
        return self.benchset.protocol.side

    @property
    def lossy(self) -> bool:
        """Return whether the page's previews differ from the scored pixels."""
        return self.side > SMALL_SIDE

    @property
    def publishable(self) -> bool:
        """Return whether the source's terms let its pictures be passed on; a folder's never do."""
        source = self.benchset.protocol.sources.get(self.benchset.manifest.source)
        return source is not None and source.redistributable

    def output(self, image_id: ImageId) -> Image:
        """Return the picture as it was scored, (S, S, 3) uint8: known pixels are put back."""
        raw = read_output(self.submission, image_id, self.side)
        mask = self.benchset.mask(image_id)
        return raw if mask is None else recomposite(raw, self.benchset.condition(image_id), mask)

    def panels(self, image_id: ImageId) -> Panels:
        """Return the three pictures of one id."""
        jpeg_task = self.benchset.manifest.degradation == "jpeg-v1"
        quality = _JPEG_TASK_QUALITY if jpeg_task else _QUALITY
        other = quality if self.lossy else None
        return Panels(
            input=webp(self.benchset.input(image_id), None if jpeg_task else other),
            output=webp(self.output(image_id), other),
            original=webp(self.benchset.reference(image_id), other),
        )


def webp(pixels: Image, quality: int | None) -> str:
    """Return (H, W, 1 or 3) uint8 as a WebP `data:` address; without a quality nothing is lost."""
    picture = PillowImage.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=quality is None, quality=80 if quality is None else quality, method=4)
    return data_uri("image/webp", file.getvalue())


@contextmanager
def open_gallery(
    card: Scorecard, benchset: Path, submission: Path, progress: Progress = SILENT
) -> Iterator[Gallery]:
    """Open the set and the submission a card was made from, for a `with` block.

    Raises:
        IncomparableError: PB602, the set or the outputs are not those the card was scored on.
    """
    opened = BenchSet.open(benchset)
    if opened.manifest.set_fingerprint != card.fingerprints.set:
        raise IncomparableError(_other_set(card, opened))
    with open_submission(submission, len(opened.ids)) as files:
        gallery = Gallery(opened, files)
        findings = list(_output_problems(card, gallery, progress))
        if findings:
            raise IncomparableError(*findings)
        yield gallery


def _other_set(card: Scorecard, benchset: BenchSet) -> Problem:
    return problem(
        "PB602",
        f"set {benchset.folder.name}",
        expected=f"the set of the card, {card.fingerprints.set[:12]}",
        found=benchset.manifest.set_fingerprint[:12],
        fix="name the set this card was scored on",
    )


def _output_problems(card: Scorecard, gallery: Gallery, progress: Progress) -> Iterable[Problem]:
    digests = {}
    unreadable = []
    with progress("prove outputs", len(gallery.benchset.ids)) as advance:
        for image_id in gallery.benchset.ids:
            try:
                digests[image_id] = pixel_digest(read_output(gallery.submission, image_id, gallery.side))
            except PngError:
                unreadable.append(image_id)
            advance(1)
    found = table_digest(digests)
    if found != card.fingerprints.outputs:
        yield problem(
            "PB602",
            "submission",
            expected=f"the outputs of the card, {card.fingerprints.outputs[:12]}",
            found=found[:12] + (f" and {len(unreadable):,} unreadable" if unreadable else ""),
            fix="name the submission this card was scored from, or score this one",
            ids=unreadable,
        )
