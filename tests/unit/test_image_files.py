"""Damaged and odd images: no door takes pixels that a decoder made up, and none refuses a whole file."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage
from skimage import data as photographs

from palette_bench.core.png import encode
from palette_bench.tasks.image_files import fault_of
from palette_bench.tasks.preprocess import DecodeError, decode, decode_upright, image_size

PHOTO = PillowImage.fromarray(photographs.chelsea()).crop((100, 60, 246, 165))
READERS = (decode, decode_upright)


def encoded(image: PillowImage.Image = PHOTO, form: str = "JPEG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


JPEGS = {
    "4:2:0": encoded(quality=85),
    "4:4:4": encoded(quality=95, subsampling=0),
    "gray": encoded(PHOTO.convert("L")),
    "CMYK": encoded(PHOTO.convert("CMYK")),
    "progressive": encoded(progressive=True),
    "progressive gray": encoded(PHOTO.convert("L"), progressive=True),
    "optimised": encoded(optimize=True),
    "restarts": encoded(restart_marker_rows=1),
    "quality 5": encoded(quality=5),
}
PNGS = {
    **{mode: encoded(PHOTO.convert(mode), "PNG") for mode in ("L", "RGB", "P", "1")},
    "ours": encode(np.asarray(PHOTO)),
    "palette of 4 bits": encoded(PHOTO.quantize(16), "PNG", bits=4),
}
WHOLE = JPEGS | PNGS


@pytest.mark.trust("images: damage")
@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize(
    "more", [b"", bytes(3), b"film" * 5000, JPEGS["4:2:0"], encode(np.zeros((8, 8, 3), np.uint8))]
)
def test_a_whole_image_is_read_whatever_follows_its_end(name: str, more: bytes) -> None:
    for read in (*READERS, lambda data: decode(data, proven=True)):
        np.testing.assert_array_equal(read(WHOLE[name] + more), read(WHOLE[name]))
    assert image_size(WHOLE[name] + more) == (105, 146)


@pytest.mark.trust("images: damage")
@pytest.mark.parametrize("name", JPEGS)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 0.97])
@pytest.mark.parametrize("end", [b"\xff\xd9", b"", b"\0" * 5000])
def test_a_jpeg_that_was_cut_is_refused_however_it_was_closed(name: str, share: float, end: bytes) -> None:
    data = JPEGS[name]
    start = data.index(b"\xff\xda")
    cut = data[: start + int(share * (len(data) - start))] + end
    for read in READERS:
        with pytest.raises(DecodeError, match=r"truncated|damaged|broken"):
            read(cut)


@given(st.sampled_from(sorted(JPEGS)), st.integers(1, 400))
def test_any_cut_and_closed_jpeg_is_refused_or_shows_the_whole(name: str, lost: int) -> None:
    data = JPEGS[name]
    try:
        pixels = decode(data[: -2 - lost] + b"\xff\xd9")
    except DecodeError:
        return
    np.testing.assert_array_equal(pixels, decode(data))


@pytest.mark.trust("images: damage")
@pytest.mark.parametrize("name", ["4:2:0", "4:4:4", "gray", "optimised"])
def test_a_jpeg_that_lost_its_very_last_bytes_is_refused(name: str) -> None:
    for lost in range(2, 40):
        with pytest.raises(DecodeError, match=r"truncated|broken"):
            decode(JPEGS[name][: -2 - lost] + b"\xff\xd9")


@pytest.mark.trust("images: damage")
def test_a_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    data = JPEGS["progressive"]
    scans = [at for at in range(len(data) - 1) if data[at : at + 2] == b"\xff\xda"]
    assert len(scans) > 4
    for at in scans[1:]:
        with pytest.raises(DecodeError, match="truncated"):
            decode(data[:at] + b"\xff\xd9")


@pytest.mark.trust("images: damage")
@pytest.mark.parametrize("level", [127, 128, 129])
def test_an_image_that_really_ends_in_gray_is_whole(level: int) -> None:
    gray = np.full((64, 64, 3), level, np.uint8)
    gray[:20, :20] = np.asarray(PHOTO)[:20, :20]
    for options in ({"quality": 90}, {"quality": 90, "progressive": True}):
        data = encoded(PillowImage.fromarray(gray), **options)
        assert fault_of(data) == ""
        assert decode(data).shape == (64, 64, 3)


def png_of(
    rows: bytes, height: int, width: int, depth: int = 8, colour: int = 2, interlaced: int = 0
) -> bytes:
    """Return a PNG whose stream holds just these rows, with right checksums."""
    header = struct.pack(">2L5B", width, height, depth, colour, 0, 0, interlaced)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))
        for kind, body in chunks
    )


@pytest.mark.trust("images: damage")
@pytest.mark.parametrize(("depth", "colour", "bits"), [(8, 2, 24), (8, 0, 8), (1, 0, 1), (8, 6, 32)])
def test_a_png_of_40_of_96_rows_is_refused(depth: int, colour: int, bits: int) -> None:
    row = b"\0" + b"\xff" * (-(-96 * bits // 8))
    assert decode(png_of(row * 96, 96, 96, depth, colour)).shape == (96, 96, 3)
    for read in READERS:
        with pytest.raises(DecodeError, match=r"truncated|transparent"):  # what is not there has no alpha
            read(png_of(row * 40, 96, 96, depth, colour))


@pytest.mark.trust("images: damage")
def test_an_interlaced_png_is_whole_with_all_its_passes() -> None:
    sizes = [(12, 12), (12, 12), (12, 24), (24, 24), (24, 48), (48, 48), (48, 96)]  # rows, columns of 96 x 96
    passes = [b"".join(b"\0" + b"\x64" * 3 * columns for _ in range(rows)) for rows, columns in sizes]
    whole = png_of(b"".join(passes), 96, 96, interlaced=1)
    assert (decode(whole) == 0x64).all()
    with pytest.raises(DecodeError, match="truncated"):
        decode(png_of(b"".join(passes[:-1]), 96, 96, interlaced=1))


@pytest.mark.trust("images: damage")
@pytest.mark.parametrize("kind", [b"IHDR", b"IDAT", b"IEND", b"tEXt"])
def test_a_wrong_checksum_is_refused(kind: bytes) -> None:
    from PIL import PngImagePlugin

    text = PngImagePlugin.PngInfo()
    text.add_text("a", "b")
    data = bytearray(encoded(PHOTO, "PNG", pnginfo=text))
    at = data.index(kind)
    end = at + 4 + int.from_bytes(data[at - 4 : at], "big")
    data[end] ^= 1
    for read in READERS:
        with pytest.raises(DecodeError, match=r"damaged|truncated|broken"):
            read(bytes(data))


@pytest.mark.trust("images: kinds")
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (png_of((b"\0" + bytes(96 * 6)) * 96, 96, 96, depth=16), "16 bits per channel"),
        (png_of((b"\0" + bytes(96 * 2)) * 96, 96, 96, depth=16, colour=0), "16 bits per channel"),
        (encoded(PHOTO, "TIFF"), "a TIFF image"),
        (encoded(PHOTO, "WEBP"), "a WebP image"),
        (encoded(PHOTO, "BMP"), "a BMP image"),
        (encoded(PHOTO, "GIF"), "a GIF image"),
        (encoded(PHOTO, "PNG", save_all=True, append_images=[PHOTO.rotate(90)]), "an animation"),
        (b"", "an empty file"),
        (bytes(9000), "only zero bytes"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"\0\0\0\x18ftypheic", "a HEIC or AVIF image"),
    ],
)
def test_what_is_refused_is_named(data: bytes, told: str) -> None:
    for read in (*READERS, image_size):
        with pytest.raises(DecodeError, match=told):
            read(data)


def rgba(alpha: int) -> PillowImage.Image:
    image = PHOTO.convert("RGBA")
    image.putalpha(alpha)
    return image


@pytest.mark.trust("images: kinds")
@pytest.mark.parametrize("read", READERS)
def test_opaque_alpha_is_dropped_and_other_alpha_refused(read: Callable[[bytes], object]) -> None:
    np.testing.assert_array_equal(read(encoded(rgba(255), "PNG")), read(encoded(PHOTO, "PNG")))
    with pytest.raises(DecodeError, match="transparent pixels"):
        read(encoded(rgba(254), "PNG"))
    palette = PHOTO.quantize(16)
    with pytest.raises(DecodeError, match="transparent pixels"):
        read(encoded(palette, "PNG", transparency=palette.getpixel((3, 3))))


@pytest.mark.trust("images: kinds")
def test_a_camera_s_jpeg_with_a_second_image_inside_is_its_first(tmp_path: Path) -> None:
    PHOTO.save(tmp_path / "a.mpo", "MPO", save_all=True, append_images=[PHOTO.rotate(180)], quality=90)
    data = (tmp_path / "a.mpo").read_bytes()
    with PillowImage.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2
        expected = np.asarray(image.convert("RGB"))
    for read in (decode, decode_upright):
        np.testing.assert_array_equal(read(data), expected)
