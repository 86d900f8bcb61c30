"""crop-area-v1 and crop256-v1: golden pixels, the formula by brute force, refused images."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from palette_bench.core.fingerprint import pixel_digest
from palette_bench.tasks.canary import pattern_p
from palette_bench.tasks.preprocess import DecodeError, crop_area, crop_window, decode, image_size


@pytest.mark.parametrize(
    ("crop", "size", "digest"),
    [
        (crop_area, (100, 70), "6e60bd7c6a9f0f4d"),
        (crop_area, (300, 451), "be6ac8f66a5433ed"),
        (crop_window, (333, 300), "b77d05090bf237f6"),
    ],
)
def test_golden_pixels(crop: Callable[..., np.ndarray], size: tuple[int, int], digest: str) -> None:
    assert pixel_digest(crop(pattern_p(*size), 256))[:16] == digest


@given(st.integers(3, 40), st.integers(3, 40), st.integers(0, 2**32 - 1))
def test_area_averages_are_exact_rational_means_rounded_half_up(height: int, width: int, seed: int) -> None:
    side = 16
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    short = min(height, width)
    top, left = (height - short) // 2, (width - short) // 2
    square = pixels[top : top + short, left : left + short].astype(int)
    step = Fraction(short, side)

    def overlaps(i: int) -> list[tuple[int, Fraction]]:
        shares = [
            (k, min((i + 1) * step, Fraction(k + 1)) - max(i * step, Fraction(k))) for k in range(short)
        ]
        return [(k, share) for k, share in shares if share > 0]

    found = crop_area(pixels, side)
    for i, j in ((0, 0), (5, 11), (side - 1, side - 1)):
        total = sum(a * b * int(square[k, m, 1]) for k, a in overlaps(i) for m, b in overlaps(j))
        assert found[i, j, 1] == int(total / step**2 + Fraction(1, 2))


def test_large_images_do_not_overflow() -> None:
    white = np.full((3000, 3000, 3), 255, np.uint8)
    assert (crop_area(white, 256) == 255).all()


def test_an_image_of_the_right_size_is_untouched() -> None:
    pixels = pattern_p(256, 256)
    np.testing.assert_array_equal(crop_area(pixels, 256), pixels)
    np.testing.assert_array_equal(crop_window(pixels, 256), pixels)


def encoded(image: PillowImage.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


RGB = PillowImage.fromarray(pattern_p(80, 90))


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1"])
def test_gray_palette_and_colour_become_rgb(mode: str) -> None:
    assert decode(encoded(RGB.convert(mode), "PNG")).shape == (80, 90, 3)


def test_cmyk_and_orientation_are_read_as_pixels_stand() -> None:
    exif = PillowImage.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees: ignored
    assert decode(encoded(RGB.convert("CMYK"), "JPEG")).shape == (80, 90, 3)
    assert decode(encoded(RGB, "JPEG", exif=exif)).shape == (80, 90, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded(PillowImage.fromarray(np.zeros((80, 80), np.uint16)), "PNG"), "16 bits"),
        (encoded(RGB, "PNG", save_all=True, append_images=[RGB.rotate(90)]), "more than one frame"),
        (encoded(RGB, "JPEG")[:-400], "truncated"),
        (encoded(RGB, "PNG")[:-400], "truncated"),
        (b"neither", "not a JPEG or PNG"),
    ],
)
def test_refused_images_say_why(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        image_size(data)
    with pytest.raises(DecodeError):
        decode(data)
