"""The classical baseline: closed forms, extremes, mirrors, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as PillowImage

from palette_bench.baselines.classical import average, baseline, deconvolve, fill, harmonic, mirrored
from palette_bench.benchset.manifest import BenchSet, ContestantSet
from palette_bench.core.errors import UsageError
from palette_bench.submission.methods import RestoreOptions
from palette_bench.submission.restore import restore
from palette_bench.tasks.degradations.blur import blur

SIDE = 24


def holed(seed: int, share: float = 0.4) -> np.ndarray:
    return np.random.default_rng(seed).random((SIDE, SIDE)) < share


@given(seed=st.integers(0, 99), down=st.integers(-4, 4), right=st.integers(-4, 4))
def test_a_ramp_is_harmonic_and_comes_back(seed: int, down: int, right: int) -> None:
    """Where no hole touches the border, a linear function solves Laplace's equation exactly."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    levels = 128 + down * (rows - 12) + right * (columns - 12)
    ramp = np.repeat(levels[..., None], 3, axis=2).astype(np.uint8)
    mask = holed(seed)
    mask[[0, -1]] = mask[:, [0, -1]] = False
    given_image = np.where(mask[..., None], 127, ramp).astype(np.uint8)
    assert np.array_equal(harmonic(given_image, mask), ramp)


@given(seed=st.integers(0, 99))
def test_a_hole_holds_nothing_beyond_what_surrounds_it_and_known_pixels_stay(seed: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    mask = holed(seed + 1)
    mask[0, 0] = False
    filled = harmonic(image, mask)
    assert np.array_equal(filled[~mask], image[~mask])
    for channel in range(3):
        known = image[..., channel][~mask]
        assert known.min() <= filled[..., channel].min() <= filled[..., channel].max() <= known.max()


def test_each_pixel_of_a_hole_is_the_mean_of_its_neighbours() -> None:
    image = np.zeros((3, 3, 3), np.uint8)
    image[0, 1], image[1, 0], image[1, 2], image[2, 1] = 100, 20, 40, 80
    mask = np.zeros((3, 3), bool)
    mask[1, 1] = True
    assert (harmonic(image, mask)[1, 1] == 60).all()
    mask[:] = False
    mask[0, 0] = True  # a corner has two neighbours
    assert (harmonic(image, mask)[0, 0] == 60).all()


def test_a_border_is_continued_by_mirrors() -> None:
    image = np.arange(SIDE * SIDE * 3, dtype=np.uint8).reshape(SIDE, SIDE, 3)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[:, SIDE // 2 :] = True
    filled = fill(image, mask)
    assert np.array_equal(filled[:, : SIDE // 2], image[:, : SIDE // 2])
    assert np.array_equal(filled[:, SIDE // 2 :], image[:, : SIDE // 2][:, ::-1])
    narrow = mirrored(image, (slice(10, 12), slice(0, SIDE)))  # further than its own height
    assert np.array_equal(narrow[6:10], image[[10, 11, 11, 10]])


@pytest.mark.parametrize(
    "name", ["inpainting.center128", "inpainting.freeform-20-30", "uncropping.four-sides"]
)
def test_known_pixels_are_kept_and_runs_agree(name: str, smoke_sets: Path, tmp_path: Path) -> None:
    target = BenchSet.open(smoke_sets / name)
    for home in ("one", "two"):
        restore(baseline.restorer(RestoreOptions()), ContestantSet.open(smoke_sets / name), tmp_path / home)
    for image_id in target.ids:
        files = [tmp_path / home / "outputs" / f"{image_id}.png" for home in ("one", "two")]
        assert files[0].read_bytes() == files[1].read_bytes()
        mask = target.mask(image_id)
        output = np.asarray(PillowImage.open(files[0]))
        assert np.array_equal(output[~mask], target.condition(image_id)[~mask])


@pytest.mark.parametrize(("quality", "gain"), [(5, 0.9), (10, 0.9), (20, 0.65)])
def test_averaging_brings_jpeg_nearer_to_the_original(quality: int, gain: float, smoke_sets: Path) -> None:
    target = BenchSet.open(smoke_sets / f"jpeg.qf{quality}")
    gains = []
    for image_id in target.ids:
        given_image, original = target.condition(image_id), target.reference(image_id).astype(float)
        images = (given_image, average(given_image, quality))
        before, after = (((image - original) ** 2).mean() for image in images)
        gains.append(10 * np.log10(before / after))
    assert np.mean(gains) >= gain  # dB PSNR


@pytest.mark.parametrize(("name", "gain"), [("super-resolution.x4", 1.8), ("deblurring.sigma3", 3.6)])
def test_reduced_and_blurred_inputs_come_nearer_to_the_original(
    name: str, gain: float, smoke_sets: Path, tmp_path: Path
) -> None:
    target = BenchSet.open(smoke_sets / name)
    restore(baseline.restorer(RestoreOptions()), ContestantSet.open(smoke_sets / name), tmp_path / "sub")
    gains = []
    for image_id in target.ids:
        original = target.reference(image_id).astype(float)
        output = np.asarray(PillowImage.open(tmp_path / "sub" / "outputs" / f"{image_id}.png"))
        before, after = (((image - original) ** 2).mean() for image in (target.condition(image_id), output))
        gains.append(10 * np.log10(before / after))
    assert np.mean(gains) >= gain  # dB PSNR


@pytest.mark.parametrize("sigma", [1, 2, 3])
def test_deconvolving_brings_back_what_was_blurred(sigma: int) -> None:
    rows, columns = np.mgrid[:64, :64]
    waves = 127 + 60 * np.sin(columns / (3 * sigma)) + 60 * np.cos(rows / (4 * sigma))
    image = np.repeat(np.rint(waves).astype(np.uint8)[:, :, None], 3, axis=2)
    blurred = blur(image, sigma)
    before, after = (
        np.abs(found.astype(int) - image).mean() for found in (blurred, deconvolve(blurred, sigma))
    )
    assert after < 0.7 * before


def test_it_refuses_to_colour(smoke_sets: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no rule that colours"):
        restore(
            baseline.restorer(RestoreOptions()),
            ContestantSet.open(smoke_sets / "colorization"),
            tmp_path / "s",
        )
    assert not (tmp_path / "s").exists()
