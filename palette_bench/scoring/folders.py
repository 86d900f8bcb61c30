"""Folders of any images, read as torch-fidelity reads them, but with errors and warnings.

They serve to compare programs. Transparency and 16 bits raise an error unless a treatment is chosen. Mixed
sizes, gray images, EXIF rotations and other files are allowed and logged. Source: metrics, section 6.
"""

from __future__ import annotations

import io
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image as PillowImage

from palette_bench.core.errors import InputError, Problem, problem
from palette_bench.core.text import is_litter
from palette_bench.core.types import Image
from palette_bench.tasks.image_files import fault_of
from palette_bench.tasks.preprocess import UNREADABLE

log = logging.getLogger(__name__)

Alpha = Literal["drop", "black", "white"]
SixteenBit = Literal["div257"]
_EXIF_TURN = 0x0112
_SIXTEEN = frozenset({"I", "I;16", "I;16B", "I;16L"})
_TIFF_BITS = 258  # TIFF 6.0, BitsPerSample
_PNG_DEPTH = 24  # offset of the bit depth in a PNG


@dataclass(frozen=True)
class FolderImages:
    """The images of a folder in path order, read one by one.

    Attributes:
        files: resolved paths, sorted.
        alpha: treatment of transparency; None raises an error.
        sixteen_bit: `div257` maps 65,535 to 255; None raises an error on images of 16 bits.
    """

    files: Sequence[Path]
    alpha: Alpha | None = None
    sixteen_bit: SixteenBit | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.files)

    def read(self, at: int) -> Image:
        """Return image `at` as (H, W, 3) uint8.

        Raises:
            InputError: PB309, unreadable, with several frames, or transparent or of 16 bits without a chosen
                treatment.
        """
        path = self.files[at]
        data = path.read_bytes()
        try:
            # open() rejects decompression bombs before anything is inflated
            with PillowImage.open(io.BytesIO(data)) as image:
                if data.startswith((b"\x89PNG", b"\xff\xd8")) and (fault := fault_of(data)):
                    raise InputError(_refused(path.name, "a whole image", fault))
                if image.format not in ("JPEG", "MPO") and getattr(image, "n_frames", 1) > 1:
                    raise InputError(_refused(path.name, "one frame", "several", "keep one of them"))
                return self._pixels(image, data, path.name)
        except UNREADABLE as error:
            raise InputError(_refused(path.name, "a whole image", str(error)[:200])) from error

    def _pixels(self, image: PillowImage.Image, data: bytes, name: str) -> Image:
        deep_png = data[:4] == b"\x89PNG" and data[_PNG_DEPTH] == 16
        tags = getattr(image, "tag_v2", None) or {}  # TIFF tags: the reader silently drops the low byte
        deep_tiff = max(tags.get(_TIFF_BITS, (8,)), default=8) > 8
        if image.mode == "F":
            raise InputError(_refused(name, "8 bits", "floating point numbers", "convert it to 8 bits"))
        if image.mode in _SIXTEEN or deep_png or deep_tiff:
            return self._sixteen(image, name)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            return self._flattened(image.convert("RGBA"), name)
        return np.asarray(image.convert("RGB"))

    def _sixteen(self, image: PillowImage.Image, name: str) -> Image:
        if self.sixteen_bit is None:
            raise InputError(_refused(name, "8 bits", "16 bits", 'convert it, or give sixteen_bit="div257"'))
        if image.mode not in _SIXTEEN:
            raise InputError(_refused(name, "8 bits, or gray of 16", "16-bit colour", "convert it to 8 bits"))
        gray = np.rint(np.asarray(image, np.float64) / 257).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)

    def _flattened(self, image: PillowImage.Image, name: str) -> Image:
        if self.alpha == "drop" or image.getchannel("A").getextrema() == (255, 255):
            return np.asarray(image)[:, :, :3].copy()
        if self.alpha is None:
            fix = 'flatten it, or give alpha="drop", "black" or "white"'
            raise InputError(_refused(name, "no transparency", "an alpha channel", fix))
        ground = PillowImage.new("RGBA", image.size, self.alpha)
        return np.asarray(PillowImage.alpha_composite(ground, image).convert("RGB"))

    def by_size(self) -> list[list[int]]:
        """Return the indices grouped by image size, in the order of each group's first image.

        Mixed sizes, gray images and EXIF rotations are logged as warnings.

        Raises:
            InputError: PB309, a header cannot be read.
        """
        sizes: dict[tuple[int, int], list[int]] = defaultdict(list)
        turned = gray = 0
        for at, path in enumerate(self.files):
            try:
                with PillowImage.open(path) as image:
                    sizes[image.size].append(at)
                    gray += image.mode in ("1", "L")
                    turned += image.getexif().get(_EXIF_TURN, 1) != 1
            except UNREADABLE as error:
                raise InputError(_refused(path.name, "an image", str(error)[:200])) from error
        folder = self.files[0].parent
        if len(sizes) > 1:
            log.warning("%s: images of %s sizes, each resized on its own", folder, len(sizes))
        if gray:
            log.warning("%s: %s gray images, repeated in every channel", folder, f"{gray:,}")
        if turned:
            log.warning("%s: %s EXIF rotations ignored", folder, f"{turned:,}")
        return list(sizes.values())


def find_folder(
    folder: Path,
    extensions: Sequence[str],
    deep: bool,
    alpha: Alpha | None = None,
    sixteen_bit: SixteenBit | None = None,
) -> FolderImages:
    """Return the images of a folder, sorted by path as torch-fidelity sorts them.

    Args:
        folder: folder of images.
        extensions: suffixes without dot, lower case.
        deep: whether to search sub-folders.
        alpha: as in `FolderImages`.
        sixteen_bit: as in `FolderImages`.

    Raises:
        InputError: the folder does not exist or holds no images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    inside = [path for path in (folder.rglob("*") if deep else folder.iterdir()) if path.is_file()]
    own = [path for path in inside if not is_litter(path.relative_to(folder).as_posix())]
    chosen = [path for path in own if path.suffix.lower().lstrip(".") in extensions]
    others = Counter(path.suffix.lower() or "without suffix" for path in set(inside) - set(chosen))
    kinds = ", ".join(f"{count:,} {what}" for what, count in sorted(others.items()))
    if not chosen:
        looked = ", ".join(f"*.{e}" for e in extensions)
        raise InputError(f"{folder}: no images; looked for {looked}; there are {kinds or 'no files'}")
    if others:
        log.warning("%s: %s other files, ignored: %s", folder, f"{others.total():,}", kinds)
    files = sorted((path.resolve() for path in chosen), key=str)
    return FolderImages(files, alpha, sixteen_bit)


def _refused(name: str, expected: str, found: str, fix: str = "replace the file") -> Problem:
    return problem("PB309", name, expected=expected, found=found, fix=fix)
