"""Pictures where they lie: files, members of a tar, windows of bundled photographs."""

from __future__ import annotations

import importlib.util
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from palette_bench.core.errors import SourceError, StackError, problem
from palette_bench.core.types import Image, ImageId
from palette_bench.tasks.preprocess import decode
from palette_bench.tasks.protocol import Window

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Place:
    """Where a picture's bytes are: a file, or `size` bytes at `offset` of a tar."""

    name: str  # relative name, recorded in the manifest
    file: Path
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """Return the encoded picture."""
        with open(self.file, "rb") as file:
            file.seek(self.offset)
            return file.read() if self.size is None else file.read(self.size)


@dataclass(frozen=True)
class Picture:
    """One picture of a source."""

    id: ImageId
    label: int | None
    place: Place
    window: Window | None = None

    def pixels(self, data: bytes) -> Image:
        """Return the source picture, (H, W, 3) uint8, from its encoded bytes.

        Raises:
            DecodeError: unreadable or of a refused kind.
        """
        if self.window is None:
            return decode(data)
        top, left = self.window.top, self.window.left
        return _decoded_photo(data)[top : top + self.window.height, left : left + self.window.width]


@lru_cache(maxsize=2)
def _decoded_photo(data: bytes) -> Image:
    """Return a whole photograph; many windows of one follow each other."""
    return decode(data)


def walk(folder: Path) -> Iterator[Place]:
    """Yield the pictures below a folder, links not followed, in name order."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        for name in sorted(files):
            path = Path(root, name)
            if path.suffix.lower() in SUFFIXES and not path.is_symlink():
                yield Place(path.relative_to(folder).as_posix(), path)


def tar_members(path: Path) -> Iterator[Place]:
    """Yield the pictures of an uncompressed tar, to be read in place.

    Raises:
        SourceError: PB309, damaged; nothing of it can be told from what follows the damage.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg() and member.name.lower().endswith(SUFFIXES):
                    yield Place(member.name.removeprefix("./"), path, member.offset_data, member.size)
            _prove_ending(path, archive.offset)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        fix = "copy or download the archive again"
        raise SourceError(
            problem("PB309", str(path), expected="a whole .tar", found=str(error)[:200], fix=fix)
        ) from error


def _prove_ending(path: Path, end: int) -> None:
    """Refuse a tar that does not end in zeros: the library takes damage after the first member for the end.

    Raises:
        ReadError: something else follows, or nothing.
    """
    with open(path, "rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError(f"no end of archive at byte {end:,}: cut or damaged there")


def find_pictures(images: Path, tar_name: str, wanted: Callable[[str], bool]) -> list[Place]:
    """Return the pictures of a published edition: a folder of any depth, or its original tar.

    Args:
        images: a folder, a tar, or a folder holding the tar named `tar_name`.
        tar_name: file name of the original tar.
        wanted: whether a file name belongs to the edition.

    Raises:
        SourceError: PB201, there is none.
    """
    tar = images if images.is_file() else images / tar_name
    places = tar_members(tar) if tar.is_file() else walk(images)
    found = [place for place in places if wanted(place.name)]
    if not found:
        raise SourceError(
            problem(
                "PB201",
                str(images),
                expected=f"pictures in a folder of any depth, or {tar_name}",
                found="none",
                fix="give the folder with --images DIR",
            )
        )
    return found


def photo_path(file: str) -> Path:
    """Return the path of a photograph in scikit-image's package data, without importing it."""
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise StackError(problem("PB711", "scikit-image", fix="pip install scikit-image"))
    return Path(spec.origin).parent / "data" / file
