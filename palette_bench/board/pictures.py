"""The pictures a card was scored on, proven to be those, and whether they may be passed on.

Source: reports and studies, section 6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import IncomparableError, Problem, problem
from palette_bench.core.fingerprint import pixel_digest, table_digest
from palette_bench.core.png import PngError
from palette_bench.core.types import SILENT, Image, ImageId, Progress
from palette_bench.scoring.scorecard import Scorecard
from palette_bench.submission.check import read_output
from palette_bench.submission.files import Submission, open_submission
from palette_bench.tasks.degradations.hole import recomposite
from palette_bench.tasks.protocol import load


def redistributable(card: Scorecard) -> bool:
    """Return whether the terms of a card's source let its pictures be passed on; a folder's never do.

    Outputs fall under the same terms: they hold known pixels.
    """
    source = load(card.protocol).sources.get(card.source)
    return source is not None and source.redistributable


@dataclass(frozen=True)
class Gallery:
    """A set and the submission that answers it, both proven to be those of one card."""

    benchset: BenchSet
    submission: Submission

    @property
    def side(self) -> int:
        """Return the pictures' side, pixels."""
        return self.benchset.protocol.side

    def output(self, image_id: ImageId) -> Image:
        """Return the picture as it was scored, (S, S, 3) uint8: known pixels are put back."""
        raw = read_output(self.submission, image_id, self.side)
        mask = self.benchset.mask(image_id)
        return raw if mask is None else recomposite(raw, self.benchset.condition(image_id), mask)


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
