"""Masks of other tools, matched to images by name or order; masks are never resized or thresholded.

Source: protocol, section 5.4.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from palette_bench.benchset.sources import Source, file_sha256
from palette_bench.core.errors import Problem, SourceError, UsageError, problem, suggest
from palette_bench.core.fingerprint import lines_digest
from palette_bench.core.npz import NpzError, member_names, read_npz
from palette_bench.core.records import read_file
from palette_bench.core.text import is_litter
from palette_bench.core.types import ImageId, Mask
from palette_bench.tasks.preprocess import UNREADABLE
from palette_bench.tasks.protocol import VariantSpec

# format -> pixel values that mark the hole; None: the user states the value
HOLE_VALUES: dict[str, tuple[int, ...] | None] = {
    "palette-release": (1,),
    "lama": (255,),
    "janspiry": (1, 255),
    "repaint": (0,),
    "mat": (0,),
    "binary": None,
}
PAIRINGS = ("stem", "sorted", "sorted-by-class", "sorted-by-id", "cyclic")
_LOSSLESS = (".png", ".bmp", ".tif", ".tiff")
_RELEASE_SIDE = 256
_RELEASE_BYTES = _RELEASE_SIDE * _RELEASE_SIDE // 8
_RELEASE_MEMBERS = {f"freeform-{b}": f"{b}% freeform" for b in ("10-20", "20-30", "30-40")}


@dataclass(frozen=True)
class MaskRequest:
    """A request for foreign masks; None leaves pairing and hole value to the format."""

    path: Path
    format: str
    pairing: str | None = None
    hole_value: int | None = None


@dataclass(frozen=True)
class ForeignMasks:
    """Foreign masks of a source.

    Attributes:
        format: name of the mask format.
        path: folder of the mask files, or the authors' .npz file.
        pairing: how masks and images are matched.
        sha256: digest of the masks.
        hole_values: pixel values that mark the hole.
        of: id -> name of the mask file in `path`, or index into the members of the .npz file.
    """

    format: str
    path: Path
    pairing: str
    sha256: str
    hole_values: tuple[int, ...]
    of: dict[ImageId, str | int]

    @property
    def label(self) -> str:
        """Return the text that records these masks in a set: FORMAT:SHA256:PAIRING."""
        return f"{self.format}:{self.sha256}:{self.pairing}"

    def mask(self, image_id: ImageId, variant: str, side: int) -> Mask:
        """Return the mask of an image, (side, side) bool, True = hole.

        Raises:
            SourceError: PB309, the file is not a two-valued lossless image of that size.
        """
        place = self.of[image_id]
        if isinstance(place, int):
            packed = _release_member(self.path, variant, len(self.of))[place]
            bits = np.unpackbits(packed)  # the first pixel is the highest bit
            return bits.reshape(_RELEASE_SIDE, _RELEASE_SIDE).astype(bool)
        return _image_mask(self.path / place, side, self.hole_values)


def open_masks(request: MaskRequest, source: Source) -> ForeignMasks:
    """Return the foreign masks, one for each image of the source.

    Raises:
        UsageError: the format, pairing, hole value or path is not valid.
        SourceError: PB201, images have no mask.
    """
    path, mask_format = request.path, request.format
    if mask_format not in HOLE_VALUES:
        raise UsageError(f"--mask-format {mask_format}: {suggest(mask_format, HOLE_VALUES)}")
    values = HOLE_VALUES[mask_format] or ((request.hole_value,) if request.hole_value in (0, 255) else None)
    if values is None:
        raise UsageError("--mask-format binary needs --hole-value 0 or 255")
    if mask_format == "palette-release":
        pairing = request.pairing or "sorted-by-class"
        # mask i belongs to image i, sorted by class and id, or by id alone
        images = list(source.images)
        if pairing == "sorted-by-class":
            images.sort(key=lambda p: (-1 if p.label is None else p.label, p.id))
        elif pairing != "sorted-by-id":
            known = "palette-release masks pair sorted-by-class or sorted-by-id"
            raise UsageError(f"--pair {pairing}: {known}")
        order: dict[ImageId, str | int] = {image.id: i for i, image in enumerate(images)}
        return ForeignMasks(mask_format, path, pairing, file_sha256(path), values, order)
    if not path.is_dir():
        found = "a file" if path.exists() else "no such folder"
        raise UsageError(f"--masks {path}: {found}; give the folder of the masks")
    names = (p for p in path.iterdir() if not (p.name.startswith(".") or is_litter(p.name)))
    files = sorted(p for p in names if p.suffix.lower() in _LOSSLESS)
    digest = lines_digest(f"{p.name} {file_sha256(p)}".encode("ascii", "replace").decode() for p in files)
    pairing = request.pairing or "stem"
    of: dict[ImageId, str | int] = dict(_paired(files, source, pairing, mask_format))
    missing = sorted(p.id for p in source.images if p.id not in of)
    if missing:
        raise SourceError.of(
            "PB201", str(path), expected="a mask per image", fix="or --pair sorted", ids=missing
        )
    return ForeignMasks(mask_format, path, pairing, digest, values, of)


def _paired(files: list[Path], source: Source, pairing: str, mask_format: str) -> dict[ImageId, str]:
    ids = [image.id for image in source.images]
    if pairing == "sorted":
        return {image_id: file.name for image_id, file in zip(ids, files, strict=False)}
    if pairing == "cyclic":
        return {image_id: files[i % len(files)].name for i, image_id in enumerate(ids) if files}
    if pairing != "stem":
        raise UsageError(f"--pair {pairing}: {suggest(pairing, PAIRINGS)}")
    of = {}
    for file in files:  # LaMa appends `_mask` and digits to the id
        head, separator, tail = file.stem.rpartition("_mask")
        is_lama = mask_format == "lama" and separator and (not tail or tail.isdecimal())
        of[head if is_lama else file.stem] = file.name
    return of


def _image_mask(path: Path, side: int, hole_values: tuple[int, ...]) -> Mask:
    try:
        with PillowImage.open(io.BytesIO(read_file(path)), formats=["PNG", "BMP", "TIFF"]) as image:
            if image.size != (side, side):  # tested before decoding, because a header may claim gigabytes
                raise _not_two_valued(path, side, f"{image.width} x {image.height} pixels")
            values = np.asarray(image.convert("L") if image.mode in ("1", "RGB") else image)
    except UNREADABLE as error:
        raise SourceError.of("PB309", str(path), found=str(error)[:200]) from error
    levels = set(np.unique(values).tolist())
    if values.shape != (side, side) or not (levels <= {0, 255} or levels <= {0, 1}):
        raise _not_two_valued(path, side, f"shape {values.shape}, {len(levels)} values")
    return np.isin(values, hole_values)


def _not_two_valued(path: Path, side: int, found: str) -> SourceError:
    expected = f"{side} x {side}, values 0 and 255 (or 0 and 1)"
    fix = "nothing is resized or thresholded: convert the mask yourself"
    return SourceError.of("PB309", str(path), expected=expected, found=found, fix=fix)


@lru_cache(maxsize=1)
def _release_member(path: Path, variant: str, count: int) -> NDArray[np.uint8]:
    """Return the masks of a variant in the authors' file, (count, 8192) uint8, packed bits.

    The names and shapes of the members are verified before values are read.

    Raises:
        UsageError: the file has no masks of this variant.
        SourceError: PB309, the file is not the released one.
    """
    name = _RELEASE_MEMBERS.get(variant)
    if name is None:
        raise UsageError(f"palette-release holds masks for {', '.join(_RELEASE_MEMBERS)}, not {variant}")
    try:
        members = member_names(path)
        if set(members) != set(_RELEASE_MEMBERS.values()):
            raise NpzError(f"members {', '.join(members[:8])}")
        packed = read_npz(path, {name: (count * _RELEASE_BYTES,)}, ("|u1",))[name]
    except NpzError as error:
        expected = f"{', '.join(_RELEASE_MEMBERS.values())}: ({count * _RELEASE_BYTES:,},) uint8"
        fix = "take imagenet_freeform_masks.npz as released"
        raise SourceError.of("PB309", str(path), expected=expected, found=str(error), fix=fix) from error
    rows: NDArray[np.uint8] = packed.reshape(count, _RELEASE_BYTES)
    return rows


def area_problems(masks: ForeignMasks, variant: str, spec: VariantSpec, side: int) -> list[Problem]:
    """Return PB607 if holes are outside the variant's range of pixels, or if hole and rest look swapped.

    Masks of the authors' release may be outside the range, because some of the released masks are.
    """
    if spec.freeform_pixels is None:
        return []
    low, high = spec.freeform_pixels
    outside, inverted = [], []
    for image_id in sorted(masks.of):
        holes = int(masks.mask(image_id, variant, side).sum())
        if not low <= holes <= high:
            outside.append(image_id)
            if low <= side * side - holes <= high:
                inverted.append(image_id)
    if outside and len(inverted) == len(outside):
        return [
            problem(
                "PB607", str(masks.path), found="polarity looks inverted", fix="another format", ids=inverted
            )
        ]
    if outside and masks.format != "palette-release":
        expected = f"{low} to {high} hole pixels"
        return [problem("PB607", str(masks.path), expected=expected, fix="another variant", ids=outside)]
    return []
