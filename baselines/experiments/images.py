"""Preparation of a study's images: 64 px squares, in a pack for training and as held-out files for sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import safetensors.numpy

from palette_bench.core import atomic, png
from palette_bench.core.errors import InputError, SourceError
from palette_bench.core.fingerprint import lines_digest, pixel_digest, sha256
from palette_bench.core.processes import in_threads
from palette_bench.core.records import Record, Sha
from palette_bench.core.types import SILENT, Image, Progress
from palette_bench.tasks.preprocess import DecodeError, crop_area

from ..training.data import JoinedImages, open_images
from ..training.dataset import UNREADABLE_SHARE, unreadable

SIDE = 64  # pixels
PACK, HELD_OUT, RECORD = "training.safetensors", "held-out", "split.json"
_GROUP = 64  # files that share one fsync round


class Split(Record):
    """`split.json`: which images a study trains on, and which it is scored on."""

    kind: ClassVar[str] = "study-split"
    source: Sha  # digest of the list of names
    pixels: Sha  # digest of all squares, the held-out first
    training: int
    held_out: int


@dataclass(frozen=True)
class ImageBudget:
    """How many images a study needs.

    Attributes:
        held_out: exact number of held-out images.
        training: smallest number of training images.
        most: largest number of training images.
    """

    held_out: int
    training: int
    most: int


def split_images(data: Sequence[Path], out: Path, wanted: ImageBudget, progress: Progress = SILENT) -> Split:
    """Write `training.safetensors`, `held-out/ID.png` and, last, `split.json`; return the split.

    An existing split is kept. Images are ordered by the digest of their names, and the first are held out. A
    square equal to a held-out one is not used for training.

    Args:
        data: sources that `train` accepts: folders, lists, tars, packs.
        out: folder to fill.
        wanted: numbers of images.
        progress: where to report progress.

    Raises:
        SourceError: PB106, PB201, PB309, PB412, PB801; there are too few images, or they do not suit a study.
        InputError: PB605, `out` holds a split of other images.
    """
    images = open_images(data, "no")
    if (out / RECORD).is_file():
        split = Split.read(out / RECORD)
        if split.source != images.fingerprint or split.held_out != wanted.held_out:
            raise InputError.of(
                "PB605",
                RECORD,
                expected=f"{split.held_out:,} held out of images {split.source[:12]}",
                found=f"{wanted.held_out:,} of {images.fingerprint[:12]}",
                fix="give the images and the scale this folder was begun with, or another folder",
            )
        return split
    held_out, training = _squares(images, wanted, progress)
    atomic.make_folder(out / HELD_OUT)
    names = list(held_out)
    for start in range(0, len(names), _GROUP):
        with atomic.FileBatch() as files:
            for name in names[start : start + _GROUP]:
                files.write(out / HELD_OUT / f"{name}.png", png.encode(held_out[name]))
    packed = np.stack(list(training.values()))
    atomic.write_bytes(out / PACK, safetensors.numpy.save({"pictures": packed}))
    digests = [pixel_digest(square) for square in (*held_out.values(), *training.values())]
    split = Split(
        schema=Split.schema_name(),
        source=images.fingerprint,
        pixels=lines_digest(digests),
        training=len(training),
        held_out=len(held_out),
    )
    split.write(out / RECORD)
    return split


def _squares(
    images: JoinedImages, wanted: ImageBudget, progress: Progress
) -> tuple[dict[str, Image], dict[str, Image]]:
    """Return held-out and training squares by id, each (64, 64, 3) uint8."""

    def read(entry: tuple[str, int]) -> Image | None:
        try:
            return crop_area(images.pixels(entry[1]), SIDE)
        except DecodeError:
            return None

    order, total = hashed_order(images), min(len(images), wanted.held_out + wanted.most)
    held_out: dict[str, Image] = {}
    training: dict[str, Image] = {}
    shown: set[str] = set()
    broken: set[int] = set()
    with progress("reading images", total) as advance, closing(in_threads(read, order)) as squares:
        for (name, index), square in zip(order, squares, strict=True):
            if square is None:
                broken.add(index)
                continue
            if len(held_out) < wanted.held_out:
                held_out[name] = square
                shown.add(pixel_digest(square))
            elif pixel_digest(square) not in shown:
                training[name] = square
            advance(1)
            if len(training) == wanted.most:
                break
    if len(broken) > UNREADABLE_SHARE * len(images):
        raise SourceError(unreadable(images, broken))
    if len(training) < wanted.training:
        expected = f"{wanted.held_out:,} images to hold out and {wanted.training:,} others to train on"
        found = f"{len(held_out):,} and {len(training):,}"
        fix = "give more images, or a smaller study with --scale"
        raise SourceError.of("PB201", "--data", expected=expected, found=found, fix=fix)
    return held_out, training


def hashed_order(images: JoinedImages) -> list[tuple[str, int]]:
    """Return (id, index) of all images, ordered by id.

    The id is the start of a digest of the name; a counter tells images of the same name apart.
    """
    turns: Counter[str] = Counter()
    entries = []
    for index in range(len(images)):
        name = images.name(index)
        entries.append((sha256(f"pb-study-v1|{turns[name]}|{name}".encode(errors="surrogateescape")), index))
        turns[name] += 1
    return [(digest[:24], index) for digest, index in sorted(entries)]
