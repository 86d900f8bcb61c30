"""Images and archives of images: PNG of submissions, zip, tar, sources, masks."""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from kind import Format, inside_zip, noise
from mutations import mutated
from PIL import Image as PillowImage
from submissions import CARD

from palette_bench.benchset import foreign_masks, images
from palette_bench.benchset.images import ImageLocation
from palette_bench.core import png
from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.scoring import folders as compared
from palette_bench.submission.files import open_submission
from palette_bench.tasks import preprocess

LARGEST_IMAGE = 5 * 4 * 179_000_000  # as many pixels as Pillow lets pass, decoded and converted
SIDE = 16


def _read_png(path: Path) -> str:
    return pixel_digest(png.decode_strict(png.read_regular(path), SIDE, SIDE, 3)[0])


def _inside_png(data: bytes, random: Random) -> bytes:
    """Damage header or rows, and write all checksums anew."""
    header, rows = data[16:29], zlib.decompress(data[data.index(b"IDAT") + 4 : -16])
    if random.random() < 0.5:
        header = mutated(header, random)
    else:
        rows = mutated(rows, random)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return png._SIGNATURE + b"".join(png._chunk(*chunk) for chunk in chunks)


def _zip(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("submission.toml", CARD)
        for name in ("a", "b", "c"):
            archive.writestr(f"outputs/{name}.png", png.encode(noise(ord(name), SIDE, SIDE, 3)))
    return buffer.getvalue()


_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def _read_zip(path: Path) -> frozenset[str]:
    """Return the digests of what can be read: a name may be damaged twice alike, a content never."""
    found, refused = set(), 0
    with open_submission(path, n_ids=12) as submission:
        for name in submission.names:
            try:
                found.add(sha256(submission.read(name)))
            except png.PngError:
                refused += 1
    if refused:
        raise png.PngError("PB305", "whole members", f"{refused} refused")
    return frozenset(found)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("x/a.png", "b.jpg"):
            data = _image("PNG", "RGB")
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _read_tar(path: Path) -> list[Any]:
    places = images.find_images(path, "", lambda name: True)
    return [(place.name, len(place.read())) for place in places]


def _image(kind: str, mode: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(noise(3, 70, 66, 3)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
_SOURCES = (
    _image("JPEG", "RGB", quality=90, exif=_EXIF),
    _image("JPEG", "CMYK", progressive=True),
    _image("JPEG", "L", comment=b"a comment"),
    _image("PNG", "P"),
    _image("PNG", "RGB"),
    _image("PNG", "1"),
)


_COMPARED = (*_SOURCES, _image("PNG", "RGBA"), _image("PNG", "LA"))


def _read_source(path: Path) -> str:
    data = ImageLocation(path.name, path).read()
    size = preprocess.image_size(data)
    pixels = preprocess.decode(data)
    assert pixels.shape == (*size, 3), "decoded in another size than announced"
    preprocess.decode_upright(data)
    return pixel_digest(pixels)


def _read_compared(path: Path) -> str:
    side = compared.FolderImages([path], alpha="drop", sixteen_bit="div257")
    side.by_size()
    return pixel_digest(side.read(0))


def _read_mask(path: Path) -> str:
    return sha256(foreign_masks._image_mask(path, SIDE, (255,)).tobytes())


def _masks() -> tuple[bytes, ...]:
    mask = PillowImage.fromarray((noise(5, SIDE, SIDE) > 127).astype(np.uint8) * 255)
    buffers = {kind: io.BytesIO() for kind in ("PNG", "BMP", "TIFF")}
    for kind, buffer in buffers.items():
        mask.save(buffer, kind)
    return tuple(buffer.getvalue() for buffer in buffers.values())


def formats_of_images() -> dict[str, Format]:
    """Return the formats that hold images."""
    return {
        "png": Format("a.png", (png.encode(noise(1, SIDE, SIDE, 3)),), _read_png, _inside_png, True),
        "zip": Format("a.zip", tuple(map(_zip, _METHODS)), _read_zip, inside_zip, True),
        "tar": Format("a.tar", (_tar(),), _read_tar),
        "source-image": Format("a.jpg", _SOURCES, _read_source, memory=LARGEST_IMAGE),
        "compared-image": Format("a.png", _COMPARED, _read_compared, memory=LARGEST_IMAGE),
        "mask-image": Format("a.png", _masks(), _read_mask, memory=LARGEST_IMAGE),
    }
