"""A folder of pictures becomes 64 px squares: a pack to train on, and held-out files that become sets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import safetensors.numpy

from palette_bench.core import atomic, png
from palette_bench.core.errors import InputError, SourceError, problem
from palette_bench.core.fingerprint import lines_digest, pixel_digest, sha256
from palette_bench.core.processes import in_threads
from palette_bench.core.records import Record, Sha
from palette_bench.core.types import SILENT, Image, Progress
from palette_bench.tasks.preprocess import DecodeError, crop_area

from ..training.data import UNREADABLE_SHARE, JoinedImages, open_pictures, unreadable

SIDE = 64  # pixels
PACK, HELD_OUT, RECORD = "training.safetensors", "held-out", "split.json"
_GROUP = 64  # files that share one fsync round


class Split(Record):
    """`split.json`: which pictures a study trains on, and which it is judged on."""

    kind: ClassVar[str] = "study-split"
    source: Sha  # the list of names
    pixels: Sha  # of all squares, the held-out first
    training: int
    held_out: int


@dataclass(frozen=True)
class ImageBudget:
    """How many pictures a study needs.

    Attributes:
        held_out: exactly.
        training: at least.
        most: to train on.
    """

    held_out: int
    training: int
    most: int


def split_pictures(
    data: Sequence[Path], out: Path, wanted: ImageBudget, progress: Progress = SILENT
) -> Split:
    """Write `training.safetensors`, `held-out/ID.png` and, last, `split.json`; what is there is kept.

    Pictures are ordered by the digest of their names; the first are held out, whatever the others are.
    Squares equal to a held-out one are not trained on.

    Args:
        data: what `train` takes: folders, lists, tars, packs.
        out: folder to fill.
        wanted: how many.
        progress: where to report.

    Raises:
        SourceError: PB106, PB201, PB309, PB412, PB801; too few pictures, or not fit for a study.
        InputError: PB605, `out` holds a split of other pictures.
    """
    pictures = open_pictures(data, "no")
    if (out / RECORD).is_file():
        return _accepted(Split.read(out / RECORD), pictures, wanted)
    held_out, training = _squares(pictures, wanted, progress)
    _write_held_out(out / HELD_OUT, held_out)
    packed = np.stack(list(training.values()))
    atomic.write_bytes(out / PACK, safetensors.numpy.save({"pictures": packed}))
    digests = [pixel_digest(square) for square in (*held_out.values(), *training.values())]
    split = Split(
        schema=Split.schema_name(),
        source=pictures.fingerprint,
        pixels=lines_digest(digests),
        training=len(training),
        held_out=len(held_out),
    )
    split.write(out / RECORD)
    return split


def _accepted(split: Split, pictures: JoinedImages, wanted: ImageBudget) -> Split:
    if split.source != pictures.fingerprint or split.held_out != wanted.held_out:
        raise InputError(
            problem(
                "PB605",
                RECORD,
                expected=f"{split.held_out:,} held out of pictures {split.source[:12]}",
                found=f"{wanted.held_out:,} of {pictures.fingerprint[:12]}",
                fix="give the pictures and the scale this folder was begun with, or another folder",
            )
        )
    return split


def _squares(
    pictures: JoinedImages, wanted: ImageBudget, progress: Progress
) -> tuple[dict[str, Image], dict[str, Image]]:
    """Return held-out and training squares by id, each (64, 64, 3) uint8."""
    held_out: dict[str, Image] = {}
    training: dict[str, Image] = {}
    shown: set[str] = set()
    total = min(len(pictures), wanted.held_out + wanted.most)
    broken: set[int] = set()
    with progress("reading pictures", total) as advance, closing(_read(pictures, broken)) as read:
        for name, square in read:
            if len(held_out) < wanted.held_out:
                held_out[name] = square
                shown.add(pixel_digest(square))
            elif pixel_digest(square) not in shown:
                training[name] = square
            advance(1)
            if len(training) == wanted.most:
                break
    if len(broken) > UNREADABLE_SHARE * len(pictures):
        raise SourceError(unreadable(pictures, broken))
    if len(training) < wanted.training:
        expected = f"{wanted.held_out:,} pictures to hold out and {wanted.training:,} others to train on"
        found = f"{len(held_out):,} and {len(training):,}"
        fix = "give more pictures, or a smaller study with --scale"
        raise SourceError(problem("PB201", "--data", expected=expected, found=found, fix=fix))
    return held_out, training


def _read(pictures: JoinedImages, broken: set[int]) -> Generator[tuple[str, Image], None, None]:
    """Yield id and square by the digest of the name; indices that cannot be read go to `broken`."""

    def square(entry: tuple[str, int]) -> Image | None:
        try:
            return crop_area(pictures.pixels(entry[1]), SIDE)
        except DecodeError:
            return None

    order = hashed_order(pictures)
    with closing(in_threads(square, order)) as squares:
        for (name, index), found in zip(order, squares, strict=True):
            if found is None:
                broken.add(index)
            else:
                yield name, found


def hashed_order(pictures: JoinedImages) -> list[tuple[str, int]]:
    """Return (id, index) of all pictures by id, the start of a digest of the name; twins are told apart."""
    turns: Counter[str] = Counter()
    entries = []
    for index in range(len(pictures)):
        name = pictures.name(index)
        entries.append((sha256(f"pb-study-v1|{turns[name]}|{name}".encode(errors="surrogateescape")), index))
        turns[name] += 1
    return [(digest[:24], index) for digest, index in sorted(entries)]


def _write_held_out(folder: Path, squares: dict[str, Image]) -> None:
    atomic.make_folder(folder)
    names = list(squares)
    for start in range(0, len(names), _GROUP):
        with atomic.FileBatch() as files:
            for name in names[start : start + _GROUP]:
                files.write(folder / f"{name}.png", png.encode(squares[name]))
