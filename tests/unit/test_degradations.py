"""The degradations: golden pixels of appendix B, oracles and properties."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.core.rng import Stream, stream_key
from palette_bench.tasks.canary import pattern_k
from palette_bench.tasks.degradations import DEGRADATIONS
from palette_bench.tasks.degradations.blur import binomial
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.degradations.hole import (
    CANVAS,
    HOLE_VALUE,
    draw_mask,
    freeform_in,
    punch,
    recomposite,
)
from palette_bench.tasks.degradations.jpeg import fast_jpeg, quantisation_tables, reference_jpeg
from palette_bench.tasks.protocol import VariantSpec, load


def short(mask: np.ndarray) -> str:
    return pixel_digest(mask.astype(np.uint8) * 255)[:16]


def test_gray_golden() -> None:
    assert pixel_digest(luma(pattern_k()))[:16] == "78873bed474c4614"


@pytest.mark.parametrize(
    ("quality", "digest"), [(5, "7cdb8d88bac8c0f6"), (10, "5510fbcf770da7e2"), (20, "b17ce0c4462519c0")]
)
def test_jpeg_golden(quality: int, digest: str) -> None:
    assert pixel_digest(reference_jpeg(pattern_k(), quality))[:16] == digest
    assert pixel_digest(fast_jpeg(pattern_k(), quality))[:16] == digest


@given(st.integers(0, 2**32 - 1), st.integers(1, 100), st.sampled_from(["noise", "saturated", "flat"]))
def test_libjpeg_equals_the_integer_definition(seed: int, quality: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
    if kind == "saturated":
        pixels = (pixels > 127).astype(np.uint8) * 255
    if kind == "flat":
        pixels = np.broadcast_to(pixels[:1, :1], (32, 48, 3)).copy()
    np.testing.assert_array_equal(fast_jpeg(pixels, quality), reference_jpeg(pixels, quality))


def test_quantisation_tables_scale_as_libjpeg_does() -> None:
    luminance, chrominance = quantisation_tables(50)
    assert luminance[0, 0] == 16
    assert chrominance[7, 7] == 99
    assert (quantisation_tables(100)[0] == 1).all()
    assert quantisation_tables(5)[0][0, 0] == 160


def degraded(degradation: str, pixels: np.ndarray, **parameters: int) -> np.ndarray:
    variant = VariantSpec(title="any", parameters=parameters)
    return DEGRADATIONS[degradation].apply(pixels, variant, Stream("unused")).input


@pytest.mark.parametrize(
    ("degradation", "parameters", "digest"),
    [
        ("area-v1", {"factor": 2}, "4c9f3c63f4ba6cb4"),
        ("area-v1", {"factor": 4}, "cce5f3f52a297b9b"),
        ("area-v1", {"factor": 8}, "b87dc045818f5144"),
        ("blur-v1", {"sigma": 1}, "50ac354328582226"),
        ("blur-v1", {"sigma": 2}, "a72854512588564c"),
        ("blur-v1", {"sigma": 3}, "4a6debd4fabb2889"),
    ],
)
def test_area_and_blur_golden(degradation: str, parameters: dict[str, int], digest: str) -> None:
    assert pixel_digest(degraded(degradation, pattern_k(), **parameters))[:16] == digest


PIXELS = arrays(np.uint8, (16, 16, 3))


@given(PIXELS, st.sampled_from([2, 4, 8, 16]))
def test_area_is_the_exact_mean_of_each_block_and_repeats_it(pixels: np.ndarray, factor: int) -> None:
    found = degraded("area-v1", pixels, factor=factor)
    for row, column, channel in np.ndindex(16 // factor, 16 // factor, 3):
        block = (
            slice(row * factor, (row + 1) * factor),
            slice(column * factor, (column + 1) * factor),
            channel,
        )
        mean = Fraction(int(pixels[block].sum()), factor**2)
        assert (found[block] == floor(mean + Fraction(1, 2))).all()
    np.testing.assert_array_equal(degraded("area-v1", found, factor=factor), found)


@given(PIXELS, st.sampled_from([1, 2, 3]))
def test_blur_is_scipys_correlation_with_the_same_kernel(pixels: np.ndarray, sigma: int) -> None:
    kernel = binomial(sigma) / 2.0 ** (4 * sigma**2)
    exact = pixels.astype(np.float64)
    for axis in (0, 1):
        exact = ndimage.correlate1d(exact, kernel, axis, mode="reflect")
    # half a level of the last rounding, and half a 256th of the first, which the second pass averages
    assert np.abs(degraded("blur-v1", pixels, sigma=sigma) - exact).max() <= 0.5 + 1 / 512 + 1e-9


@pytest.mark.parametrize("sigma", [1, 2, 3])
def test_the_blur_kernel_has_the_variance_of_its_gaussian(sigma: int) -> None:
    weights = [int(weight) for weight in binomial(sigma)]
    middle, total = len(weights) // 2, sum(weights)
    assert total == 2 ** (4 * sigma**2)
    assert weights == weights[::-1]
    assert Fraction(sum(w * (k - middle) ** 2 for k, w in enumerate(weights)), total) == sigma**2


@pytest.mark.parametrize("value", [0, 1, 127, 254, 255])
@pytest.mark.parametrize(
    ("degradation", "parameters"), [("area-v1", {"factor": 4}), ("blur-v1", {"sigma": 3})]
)
def test_flat_images_stay_as_they_are(degradation: str, parameters: dict[str, int], value: int) -> None:
    flat = np.full((16, 16, 3), value, np.uint8)
    np.testing.assert_array_equal(degraded(degradation, flat, **parameters), flat)


@pytest.mark.parametrize("sigma", [1, 2, 3])
def test_a_blurred_image_turns_and_mirrors_with_its_image(sigma: int) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    found = degraded("blur-v1", pixels, sigma=sigma)
    np.testing.assert_array_equal(degraded("blur-v1", pixels[::-1], sigma=sigma), found[::-1])
    np.testing.assert_array_equal(degraded("blur-v1", pixels[:, ::-1], sigma=sigma), found[:, ::-1])


FIXED = {
    "palette-2022": {
        "inpainting/center128": "8010ab353e7a1c56",
        "uncropping/right": "91c80f8c22c4053c",
        "uncropping/left": "54629d7588bbf9b2",
        "uncropping/top": "84873f859238ffbd",
        "uncropping/bottom": "4b97eacb0a98e68c",
        "uncropping/four-sides": "017919c13bf1df68",
    },
    "palette-mini": {
        "inpainting/center32": "55bea7c184904182",
        "uncropping/right": "82c885f5cbd775a6",
        "uncropping/left": "a644c9df59aadb12",
        "uncropping/top": "f3c94ba05a9f3a76",
        "uncropping/bottom": "938258f1ab041deb",
        "uncropping/four-sides": "7107087385cc8d5c",
    },
}


@pytest.mark.parametrize(
    ("protocol", "name", "digest"), [(p, name, d) for p, table in FIXED.items() for name, d in table.items()]
)
def test_fixed_masks(protocol: str, name: str, digest: str) -> None:
    rules = load(protocol)
    mask, drawn = draw_mask(rules.variant(*name.split("/")), rules.side, Stream("unused"))
    assert short(mask) == digest
    assert not drawn


def test_four_sides_keeps_180_of_256() -> None:
    mask, _ = draw_mask(load("palette-2022").variant("uncropping", "four-sides"), 256, Stream("unused"))
    assert int(mask.sum()) == 33_136


def test_freeform_golden() -> None:
    key = stream_key(
        "palette-2022", "inpainting", "freeform-20-30", "imagenet-ctest10k", "ILSVRC2012_val_00025275", "mask"
    )
    mask, draws = freeform_in((13108, 19660), CANVAS, Stream(key))
    assert (draws, int(mask.sum()), short(mask)) == (20, 15_452, "8cf87b474b7f15f8")


@pytest.mark.parametrize(
    ("variant", "draws", "pixels", "digest"),
    [
        ("freeform-10-20", 1, 766, "bac9f6d22aa14bd7"),
        ("freeform-20-30", 1, 896, "4751b418bbc0481b"),
        ("freeform-30-40", 2, 1233, "1d180ba45ce6338d"),
    ],
)
def test_small_freeform_golden(variant: str, draws: int, pixels: int, digest: str) -> None:
    rules = load("palette-mini")
    key = stream_key("palette-mini", "inpainting", variant, "photos-64", "astronaut-012", "mask")
    mask, drawn = draw_mask(rules.variant("inpainting", variant), 64, Stream(key))
    assert (drawn, int(mask.sum()), short(mask)) == ({"draws": draws}, pixels, digest)


@given(st.text("abcdef", min_size=1, max_size=6))
def test_a_drawn_mask_falls_in_its_bin(item: str) -> None:
    mask, _ = freeform_in((6554, 13107), CANVAS, Stream(stream_key("p", "t", "v", "s", item, "mask")))
    assert 6554 <= mask.sum() <= 13107


def test_holes_are_cut_and_known_pixels_come_back() -> None:
    rng = np.random.default_rng(1)
    reference = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    mask = rng.random((16, 16)) < 0.3
    punched = punch(reference, mask)
    assert (punched[mask] == HOLE_VALUE).all()
    np.testing.assert_array_equal(punched[~mask], reference[~mask])
    scored = recomposite(np.zeros_like(reference), punched, mask)
    assert (scored[mask] == 0).all()
    np.testing.assert_array_equal(scored[~mask], reference[~mask])


def packed_digest(ids: list[str], variant: str) -> str:
    rules = load("palette-2022")
    spec = rules.variant("inpainting", variant)
    masks = (
        draw_mask(
            spec,
            256,
            Stream(stream_key("palette-2022", "inpainting", variant, "imagenet-ctest10k", i, "mask")),
        )[0]
        for i in ids
    )
    return sha256(b"".join(np.packbits(mask).tobytes() for mask in masks))


MASK_SETS = {
    "freeform-10-20": (
        "4b45602b9e211fa9",
        "53669aac068e667ede1c228d3c7ac648af468db10ac326247d887d344fa72941",
    ),
    "freeform-20-30": (
        "fd2fb198a6ba45d4",
        "47c1caed5f89bc7df5b6b8498f64f7b5f77dabc7d1a9f8b4a51310d353d668e1",
    ),
    "freeform-30-40": (
        "2f8689ae0dcfdfce",
        "fe1fe2495713ead55c703da4625e367bdb22ced299d3601ffb31881d9f9c4bde",
    ),
}


@pytest.mark.parametrize("variant", MASK_SETS)
def test_the_first_hundred_masks_of_ctest10k(variant: str, ctest10k_ids: list[str]) -> None:
    assert packed_digest(ctest10k_ids[:100], variant)[:16] == MASK_SETS[variant][0]


@pytest.mark.slow
@pytest.mark.parametrize("variant", MASK_SETS)
def test_all_masks_of_ctest10k(variant: str, ctest10k_ids: list[str]) -> None:
    assert packed_digest(ctest10k_ids, variant) == MASK_SETS[variant][1]
