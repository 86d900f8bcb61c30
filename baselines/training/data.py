"""Training images in place: folders, list files, tar shards and packs; several sources can be joined."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from palette_bench.benchset.images import SUFFIXES, ImageLocation, no_images, tar_members, walk
from palette_bench.benchset.splits import imagenet_number
from palette_bench.core.errors import Problem, SourceError, problem
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.records import Part, read_file
from palette_bench.core.resources import protocol_ids
from palette_bench.core.text import decode_text
from palette_bench.core.types import Fingerprint, Image
from palette_bench.tasks.preprocess import DecodeError, decode, image_size
from palette_bench.tasks.protocol import PhotoSource, load

_HEAD, _TAIL = 65536, 4096  # bytes at the start (kind and size) and at the end (completeness)


class TrainingImages(Protocol):
    """Images by index, usable in any process: implementations hold little and can be pickled."""

    def __len__(self) -> int:
        """Return the number of images."""

    def name(self, index: int) -> str:
        """Return the name of an image, relative to its source."""

    def pixels(self, index: int) -> Image:
        """Return an image, (H, W, 3) uint8.

        Raises:
            DecodeError: the image cannot be read, or is of a refused kind.
        """

    def prove(self, index: int) -> None:
        """Raise unless an image passes the checks that need no decoding.

        Raises:
            DecodeError: as `pixels`.
        """


@dataclass(frozen=True)
class ImageFiles:
    """Images in separate files or in a tar; held in arrays, as a million objects would take a gigabyte.

    Attributes:
        root: the folder that names are relative to, or the tar.
        names: (N,) bytes, UTF-8 relative paths.
        places: (N, 2) int64 offset and size in the tar; None for separate files.
    """

    root: Path
    names: NDArray[np.bytes_]
    places: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Return the relative path of an image."""
        return os.fsdecode(self.names[index])

    def _place(self, index: int) -> ImageLocation:
        if self.places is None:
            return ImageLocation("", self.root / self.name(index))
        offset, size = map(int, self.places[index])
        return ImageLocation("", self.root, offset, size)

    def pixels(self, index: int) -> Image:
        """Return a decoded image, (H, W, 3) uint8."""
        try:
            return decode(self._place(index).read(), proven=True)  # `prove` has checked header and end
        except OSError as error:
            raise DecodeError(error.strerror or str(error)) from error

    def prove(self, index: int) -> None:
        """Raise unless the start and the end of an image are valid; the bytes between are not read.

        Raises:
            DecodeError: the image cannot be read, or is of a refused kind.
        """
        place = self._place(index)
        try:
            with open(place.file, "rb") as file:
                size = os.fstat(file.fileno()).st_size if place.size is None else place.size
                ends = ImageLocation("", place.file, place.offset, min(size, _HEAD)).read()
                if size > _HEAD:
                    file.seek(place.offset + max(_HEAD, size - _TAIL))
                    ends += file.read(min(_TAIL, size - _HEAD))
            try:
                image_size(ends)
            except DecodeError:
                if size <= _HEAD + _TAIL:
                    raise
                image_size(place.read())  # the size may follow a long profile: read the whole image
        except OSError as error:
            raise DecodeError(error.strerror or str(error)) from error


@dataclass(frozen=True)
class ImagePack:
    """Images of one size in a safetensors file, one tensor (N, S, S, 3) uint8.

    Attributes:
        file: the pack.
        start: offset of the tensor's bytes.
        shape: shape of the tensor.
    """

    file: Path
    start: int
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return self.shape[0]

    def name(self, index: int) -> str:
        """Return FILE:INDEX."""
        return f"{self.file.name}:{index}"

    def pixels(self, index: int) -> Image:
        """Return one image from the memory-mapped pack."""
        pixels: Image = _mapped(self.file, self.start, self.shape)[index]
        return pixels

    def prove(self, index: int) -> None:
        """Do nothing: the pack was checked when it was opened."""


@cache
def _mapped(file: Path, start: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.memmap(file, np.uint8, "r", start, shape)


@dataclass(frozen=True)
class JoinedImages:
    """Several sources joined in the given order.

    Attributes:
        parts: the sources.
        starts: (parts + 1,) cumulative number of images.
    """

    parts: tuple[TrainingImages, ...]
    starts: tuple[int, ...]

    def __len__(self) -> int:
        return self.starts[-1]

    def _find(self, index: int) -> tuple[TrainingImages, int]:
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.parts[part], index - self.starts[part]

    def name(self, index: int) -> str:
        """Return the name of an image in its source."""
        part, own = self._find(index)
        return part.name(own)

    def pixels(self, index: int) -> Image:
        """Return an image, (H, W, 3) uint8."""
        part, own = self._find(index)
        return part.pixels(own)

    def prove(self, index: int) -> None:
        """Check an image without decoding it; see `TrainingImages.prove`."""
        part, own = self._find(index)
        part.prove(own)

    @property
    def fingerprint(self) -> Fingerprint:
        """Return the digest of all names in order; a run with other images has another digest."""
        return fingerprint([self.name(index) for index in range(len(self))])


def open_images(paths: Sequence[Path], saw_test_images: str) -> JoinedImages:
    """Return the images of all sources, in a fixed order.

    Args:
        paths: folders of any depth, list files (.txt: one path per line, relative to the list), tar shards,
            packs (.safetensors).
        saw_test_images: value of the recipe; "yes" allows files of the editions that benchmark sets are drawn
            from.

    Raises:
        SourceError: PB106, PB201, PB309, PB412, PB801; reports all problems of all sources at once.
    """
    parts: list[TrainingImages] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            parts.append(_opened(path))
        except SourceError as error:
            problems += error.problems
    if saw_test_images != "yes":
        problems += _of_benchmarks(parts)
    if problems:
        raise SourceError(*problems)
    return JoinedImages(tuple(parts), tuple(int(n) for n in np.cumsum([0, *map(len, parts)])))


def _opened(path: Path) -> TrainingImages:
    if path.is_dir():
        found: TrainingImages = _listed(path, [str(place.file.relative_to(path)) for place in walk(path)])
    elif not path.is_file():
        fix = "check --data; if the images have moved, it names their new place, for --resume too"
        raise SourceError.of("PB801", str(path), found="no such file or folder", fix=fix)
    elif path.suffix == ".safetensors":
        found = _pack(path)
    elif path.suffix == ".tar":
        members = list(tar_members(path))
        places = np.array([(place.offset, place.size) for place in members], np.int64).reshape(-1, 2)
        found = replace(_listed(path, [place.name for place in members]), places=places)
    elif path.suffix.lower() in SUFFIXES:
        found = _listed(path.parent, [path.name])
    else:
        found = _listed(path.parent, _list_of(path))
    if not len(found):
        raise no_images(path, fix="check --data")
    return found


def _list_of(path: Path) -> list[str]:
    """Return the files named in a list: one path per line, relative to the list.

    A number after the path is a label and is ignored.

    Raises:
        SourceError: PB201, the file is not a list, or names missing files; reports all of them with their
            lines.
    """
    expected = "a list: the path of an image a line"
    try:
        lines = [line.strip() for line in decode_text(read_file(path)).splitlines()]
    except ValueError as error:
        fix = "give a folder, a .txt list, a .tar or a .safetensors pack"
        raise SourceError.of("PB201", str(path), expected=expected, found=str(error), fix=fix) from error
    names, absent = [], []
    for number, line in enumerate(lines, 1):
        if not line or line.startswith("#"):
            continue
        name, _, label = line.replace("\t", " ").replace(",", " ").rpartition(" ")
        # a trailing number is a label, unless a file has this whole name
        is_labelled = label.strip().lstrip("-").isdecimal() and not (path.parent / line).is_file()
        names.append(name.strip() if is_labelled and name else line)
        if not (path.parent / names[-1]).is_file():
            absent.append(f"line {number}: {names[-1]}")
    if absent:
        found = f"{len(absent):,} of {len(names):,} files do not exist"
        fix = f"paths are relative to {path.parent.absolute()}"
        raise SourceError.of("PB201", str(path), expected=expected, found=found, fix=fix, ids=absent)
    return names


def _listed(root: Path, names: Iterable[str]) -> ImageFiles:
    encoded = [os.fsencode(name) for name in names if name]
    return ImageFiles(root.absolute(), np.array(encoded, dtype=np.bytes_))


class _Tensor(Part):
    """Entry of a tensor in the header of a safetensors file."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


_HEADER: TypeAdapter[dict[str, _Tensor | dict[str, str]]] = TypeAdapter(dict[str, _Tensor | dict[str, str]])


def _pack(path: Path) -> ImagePack:
    with open(path, "rb") as file:
        # the length of the header comes first; it is limited, as any file may be given
        size = min(int.from_bytes(file.read(8), "little"), 1 << 20)
        try:
            header = _HEADER.validate_json(file.read(size))
        except ValueError:
            header = {}
    tensors = [value for value in header.values() if isinstance(value, _Tensor)]
    is_pack = False
    if len(tensors) == 1:  # of square images, within the file
        shape, (first, end) = tensors[0].shape, tensors[0].data_offsets
        square = len(shape) == 4 and min(shape) >= 1 and shape[1] == shape[2] and shape[3] == 3
        inside = 0 <= first <= end <= path.stat().st_size - 8 - size and end - first == math.prod(shape)
        is_pack = tensors[0].dtype == "U8" and square and inside
    if not is_pack:
        raise SourceError.of(
            "PB412",
            str(path),
            expected="one tensor (N, S, S, 3) uint8",
            found=", ".join(f"{list(t.shape)[:9]} {t.dtype[:9]}" for t in tensors[:9]) or "no tensor",
            fix="write the images with safetensors.numpy.save_file",
        )
    return ImagePack(path.absolute(), 8 + size + first, shape)


def _of_benchmarks(parts: Sequence[TrainingImages]) -> Iterator[Problem]:
    """Yield PB106 if file names belong to the editions that benchmark sets are drawn from."""
    sources = [source for name in protocol_ids() for source in load(name).sources.values()]
    photos = [source.photos.values() for source in sources if isinstance(source, PhotoSource)]
    photographs = {photo.file for group in photos for photo in group}
    names = [part.name(i) for part in parts if isinstance(part, ImageFiles) for i in range(len(part))]
    files = [PurePosixPath(name).name for name in names]
    tests = [n for n in files if imagenet_number(n) or n.startswith("Places365_val_") or n in photographs]
    if tests:
        yield problem(
            "PB106",
            "training images",
            expected="images no benchmark set is drawn from",
            found="files of ImageNet or Places2 validation, or bundled photographs",
            fix='give training images, or admit it in the recipe: [data] saw_test_images = "yes"',
            ids=tests,
        )
