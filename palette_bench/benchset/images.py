"""Location and reading of source images: files, members of a tar, windows of bundled photographs."""

from __future__ import annotations

import importlib.util
import logging
import os
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from palette_bench.core.errors import SourceError, StackError
from palette_bench.core.text import composed, is_litter
from palette_bench.core.types import Image, ImageId
from palette_bench.tasks.preprocess import decode
from palette_bench.tasks.protocol import Window

log = logging.getLogger(__name__)

LABELS = "labels.csv"  # table of labels in the folder of the images
SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class ImageLocation:
    """Location of an image's bytes: a whole file, or `size` bytes at `offset` of a tar."""

    name: str  # relative name, recorded in the manifest
    file: Path
    offset: int = 0
    size: int | None = None

    def read(self) -> bytes:
        """Return the bytes of the encoded image."""
        with open(self.file, "rb") as file:
            file.seek(self.offset)
            return file.read() if self.size is None else file.read(self.size)


@dataclass(frozen=True)
class SourceImage:
    """An image of a source; `window` is the part to use of a bundled photograph, None for the whole image."""

    id: ImageId
    label: int | None
    place: ImageLocation
    window: Window | None = None

    def pixels(self, data: bytes) -> Image:
        """Return the source image, (H, W, 3) uint8, from its encoded bytes.

        Raises:
            DecodeError: the image is unreadable or of a refused kind.
        """
        if self.window is None:
            return decode(data, proven=True)  # the image was tested when the source was opened
        top, left = self.window.top, self.window.left
        return _decoded_photo(data)[top : top + self.window.height, left : left + self.window.width]


@lru_cache(maxsize=2)
def _decoded_photo(data: bytes) -> Image:
    """Return a whole photograph; cached, because the windows of one photograph follow each other."""
    return decode(data, proven=True)  # the digest was compared when the source was opened


@dataclass(frozen=True)
class FolderSurvey:
    """Content of a folder.

    Attributes:
        places: locations of its images, in name order.
        passed: kind of ignored file or folder, in words -> count.
    """

    places: tuple[ImageLocation, ...]
    passed: Mapping[str, int]

    @property
    def words(self) -> str:
        """Return the counts of ignored files in words, largest first: `412 .webp, 3 hidden files`."""
        ordered = sorted(self.passed.items(), key=lambda item: (-item[1], item[0]))
        return ", ".join(f"{count:,} {what}" for what, count in ordered)


def survey(folder: Path) -> FolderSurvey:
    """Return the images below a folder, and counts of the files that are ignored.

    Links are followed, but each folder is visited once. Hidden files and folders, and files that file
    managers and notebooks leave behind, are ignored.

    Raises:
        SourceError: PB801, folders cannot be read; their images would otherwise be missing unnoticed.
    """
    places: list[ImageLocation] = []
    passed: Counter[str] = Counter()
    unreadable: list[str] = []
    seen: set[tuple[int, int]] = set()
    for root, folders, files in os.walk(
        folder, followlinks=True, onerror=lambda error: unreadable.append(str(error.filename))
    ):
        status = os.stat(root)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            passed["folders reached twice through links"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        kept = sorted(name for name in folders if not (name.startswith(".") or is_litter(name)))
        passed["hidden folders"] += len(folders) - len(kept)
        folders[:] = kept
        for name in sorted(files):
            path = Path(root, name)
            if name.startswith(".") or is_litter(name):
                passed["hidden files"] += 1
            elif name == LABELS:
                continue  # the table of labels is used, so it is not counted as ignored
            elif path.suffix.lower() not in SUFFIXES:
                passed[path.suffix.lower() or "files without suffix"] += 1
            elif not path.is_file():
                passed["broken links or special files"] += 1
            else:
                # Records are UTF-8, so bytes of names in other encodings become escapes.
                below = path.relative_to(folder).as_posix().encode("utf-8", "backslashreplace").decode()
                places.append(ImageLocation(composed(below), path))
    if unreadable:
        fix = "make them readable, or remove them"
        found = "folders that cannot be read"
        raise SourceError.of("PB801", str(folder), found=found, fix=fix, ids=unreadable)
    return FolderSurvey(tuple(places), +passed)


def walk(folder: Path) -> tuple[ImageLocation, ...]:
    """Return the images below a folder in name order; log the counts of ignored files."""
    found = survey(folder)
    if found.passed and found.places:
        log.info("%s: %s images; ignored: %s", folder, f"{len(found.places):,}", found.words)
    return found.places


def no_images(path: Path, *, expected: str = "", fix: str = "") -> SourceError:
    """Return PB201 for a path without images; the problem states what the path contains instead."""
    if not path.exists():
        found, fix = "no such file or folder", "check the path; a pattern such as *.jpg is not a folder"
    elif path.is_file():
        found = "a file, not a folder"
        if path.suffix.lower() in SUFFIXES:
            fix = f"give the folder that holds it: {path.parent}"
        elif path.suffix.lower() in {".zip", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar", ".parquet"}:
            fix = "unpack it, and give the folder"
    else:
        found = f"none; {survey(path).words or 'nothing at all'}"
    expected = expected or "images: .jpg, .jpeg or .png"
    return SourceError.of("PB201", str(path), expected=expected, found=found, fix=fix)


def tar_members(path: Path) -> Iterator[ImageLocation]:
    """Yield the locations of the images in an uncompressed tar, which are read without extraction.

    Raises:
        SourceError: PB309, the tar is damaged, so its remaining members cannot be located.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.isreg() and member.name.lower().endswith(SUFFIXES):
                    yield ImageLocation(member.name.removeprefix("./"), path, member.offset_data, member.size)
            # `tarfile` takes damage after the first member for the end; a block of zeros proves the end
            with open(path, "rb") as file:
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    found = f"no end of archive at byte {archive.offset:,}: cut or damaged there"
                    raise tarfile.ReadError(found)
    except (tarfile.TarError, OSError, EOFError, ValueError, OverflowError) as error:
        fix = "copy or download the archive again"
        raise SourceError.of(
            "PB309", str(path), expected="a whole .tar", found=str(error)[:200], fix=fix
        ) from error


def find_images(images: Path, tar_name: str, wanted: Callable[[str], bool]) -> list[ImageLocation]:
    """Return the images of a published edition, from a folder of any depth or its original tar.

    Args:
        images: a folder, a tar, or a folder that holds the tar named `tar_name`.
        tar_name: file name of the original tar.
        wanted: predicate: whether a file name belongs to the edition.

    Raises:
        SourceError: PB201, there are no images of the edition.
    """
    tar = images if images.suffix == ".tar" else images / tar_name
    places = list(tar_members(tar) if tar.is_file() else walk(images))
    found = [place for place in places if wanted(place.name)]
    if not found and places:
        others = f"{len(places):,} images of other names, {places[0].name} first"
        fix = "give the folder of the published edition"
        expected = "files named as the edition names them"
        raise SourceError.of("PB201", str(images), expected=expected, found=others, fix=fix)
    if not found:
        expected = f"images in a folder of any depth, or {tar_name}".removesuffix(", or ")
        raise no_images(images, expected=expected, fix="give the folder with --images DIR")
    return found


def photo_path(file: str) -> Path:
    """Return the path of a photograph in scikit-image's package data, without importing scikit-image.

    Raises:
        StackError: PB711, scikit-image is not installed.
    """
    spec = importlib.util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise StackError.of("PB711", "scikit-image", fix="pip install scikit-image")
    return Path(spec.origin).parent / "data" / file
