"""The images from which a card was scored, verified against its fingerprints, and their previews on pages.

Source: reports and studies, section 6.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from PIL import Image as PillowImage

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core import png
from palette_bench.core.errors import IncomparableError, problem
from palette_bench.core.fingerprint import pixel_digest, sha256, table_digest
from palette_bench.core.png import PngError
from palette_bench.core.types import SILENT, Image, ImageId, Mask, Progress
from palette_bench.pages.render import data_uri
from palette_bench.scoring.scorecard import Scorecard
from palette_bench.submission.check import read_output
from palette_bench.submission.files import Submission, open_submission
from palette_bench.tasks.degradations.hole import recomposite

# --- the verified images of a card ---


def redistributable(card: Scorecard) -> bool:
    """Return whether the terms of a card's source allow redistribution of its images.

    They never do for a user's folder. Outputs fall under the same terms, because they contain known pixels of
    the originals.
    """
    source = card.rules.sources.get(card.source)
    return source is not None and source.redistributable


@dataclass(frozen=True)
class Gallery:
    """A set and a submission for it, both verified to be the ones of one card."""

    benchset: BenchSet
    submission: Submission

    @property
    def side(self) -> int:
        """Return the side of the images, pixels."""
        return self.benchset.protocol.side

    def output(self, image_id: ImageId) -> Image:
        """Return the output as it was scored, (S, S, 3) uint8, with known pixels restored from the input."""
        raw = read_output(self.submission, image_id, self.side)
        mask = self.benchset.mask(image_id)
        return raw if mask is None else recomposite(raw, self.benchset.condition(image_id), mask)


@contextmanager
def open_gallery(
    card: Scorecard, benchset: Path, submission: Path, progress: Progress = SILENT
) -> Iterator[Gallery]:
    """Open the set and the submission from which a card was scored, for a `with` block.

    Raises:
        IncomparableError: PB602, the set or the outputs are not the ones that were scored.
    """
    opened = BenchSet.open(benchset)
    if opened.manifest.set_fingerprint != card.fingerprints.set:
        raise IncomparableError(
            problem(
                "PB602",
                f"set {opened.folder.name}",
                expected=f"the set of the card, {card.fingerprints.set[:12]}",
                found=opened.manifest.set_fingerprint[:12],
                fix="give the set on which this card was scored",
            )
        )
    with open_submission(submission, len(opened.ids)) as files:
        gallery = Gallery(opened, files)
        digests, unreadable = {}, []
        with progress("check outputs", len(opened.ids)) as advance:
            for image_id in opened.ids:
                try:
                    digests[image_id] = pixel_digest(read_output(files, image_id, gallery.side))
                except PngError:
                    unreadable.append(image_id)
                advance(1)
        found = table_digest(digests)
        if found != card.fingerprints.outputs:
            raise IncomparableError(
                problem(
                    "PB602",
                    "submission",
                    expected=f"the outputs of the card, {card.fingerprints.outputs[:12]}",
                    found=found[:12] + (f" and {len(unreadable):,} unreadable" if unreadable else ""),
                    fix="give the submission from which this card was scored, or score this one",
                    ids=unreadable,
                )
            )
        yield gallery


# --- previews ---


Size: TypeAlias = Literal["full", "thumbs"]

SMALL_SIDE = 64  # pixels; images up to this side are stored losslessly and shown enlarged
THUMB_SIDE = 96
_QUALITY = 70
_JPEG_TASK_QUALITY = 90  # JPEG restoration is about artefacts: the preview must not add its own


@dataclass(frozen=True)
class Preview:
    """The addresses of an image, relative to the page's root; `exact` is a lossless copy, or ""."""

    address: str
    exact: str = ""


@dataclass(frozen=True)
class Panels:
    """The three images of a card, and the outline of the hole as SVG path data, or ""."""

    input: Preview
    output: Preview
    original: Preview
    outline: str


def embedded_preview(webp: bytes, pixels: Image | None) -> Preview:
    """Store a preview inside the page as a `data:` address, without the lossless copy: there is no room."""
    return Preview(data_uri("image/webp", webp))


@dataclass
class PreviewFiles:
    """Stores previews as files named by their content; `files` contains those not yet written to disk."""

    files: dict[str, bytes] = field(default_factory=dict)

    def __call__(self, webp: bytes, pixels: Image | None) -> Preview:
        """Return the addresses of the preview's file and, if `pixels` is given, of a PNG of the pixels."""
        return Preview(
            self._put(webp, "webp"), "" if pixels is None else self._put(png.encode(pixels), "png")
        )

    def _put(self, data: bytes, kind: str) -> str:
        name = sha256(data)[:16]
        address = f"img/{name[:2]}/{name}.{kind}"
        self.files[address] = data
        return address


Store: TypeAlias = Callable[[bytes, Image | None], Preview]


@dataclass(frozen=True)
class Previews:
    """Makes the panels of an image id; with `exact`, each lossy preview also has a lossless copy."""

    gallery: Gallery
    store: Store
    size: Size = "full"
    exact: bool = False

    @property
    def side(self) -> int:
        """Return the side of the previews, pixels."""
        return min(self.gallery.side, THUMB_SIDE) if self.size == "thumbs" else self.gallery.side

    @property
    def lossy(self) -> bool:
        """Return whether previews differ from the scored pixels."""
        return self.gallery.side > SMALL_SIDE

    def panels(self, image_id: ImageId) -> Panels:
        """Return input, output and original of one id, and the outline of its hole."""
        gallery = self.gallery
        jpeg_task = gallery.benchset.manifest.degradation == "jpeg-v1" and self.size == "full"
        quality = (_JPEG_TASK_QUALITY if jpeg_task else _QUALITY) if self.lossy else None
        mask = gallery.benchset.mask(image_id)
        return Panels(
            input=self._preview(gallery.benchset.input(image_id), None if jpeg_task else quality),
            output=self._preview(gallery.output(image_id), quality),
            original=self._preview(gallery.benchset.reference(image_id), quality),
            outline="" if mask is None else outline(mask),
        )

    def _preview(self, pixels: Image, quality: int | None) -> Preview:
        twin, shown = pixels if self.exact and quality is not None else None, pixels
        if pixels.shape[0] > self.side:
            image, size = PillowImage.fromarray(_three(pixels)), (self.side, self.side)
            shown = np.asarray(image.resize(size, PillowImage.Resampling.LANCZOS))
        return self.store(webp(shown, quality), twin)


def _three(pixels: Image) -> Image:
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def webp(pixels: Image, quality: int | None) -> bytes:
    """Return (H, W, 1 or 3) uint8 pixels as WebP; lossless if `quality` is None.

    Method 2 takes 6 ms and 9.4 kB for a 256x256 photograph at quality 70; method 4 takes 11 ms and 9.0 kB.
    """
    lossless, file = quality is None, io.BytesIO()
    effort = 80 if quality is None else quality  # in lossless mode, `quality` sets the encoding effort
    PillowImage.fromarray(_three(pixels)).save(file, "WEBP", lossless=lossless, quality=effort, method=2)
    return file.getvalue()


def outline(mask: Mask) -> str:
    """Return the boundary of the hole as SVG path data in pixels: horizontal runs, then vertical runs.

    Args:
        mask: (H, W) bool, True = hole.
    """
    # an edge is wherever a pixel differs from its neighbour; outside the image there is no hole
    framed = np.pad(mask, 1)
    across = [f"M{x} {y}h{n}" for y, x, n in _runs(framed[1:, 1:-1] != framed[:-1, 1:-1])]
    down = [f"M{x} {y}v{n}" for x, y, n in _runs((framed[1:-1, 1:] != framed[1:-1, :-1]).T)]
    return "".join([*across, *down])


def _runs(edges: Mask) -> list[tuple[int, int, int]]:
    """Return (row, start, length) of each run of True in the rows of an (R, N) bool array."""
    steps = np.diff(np.pad(edges, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(steps == 1)
    ends = np.nonzero(steps == -1)[1]
    return [(int(r), int(s), int(e - s)) for r, s, e in zip(rows, starts, ends, strict=True)]
