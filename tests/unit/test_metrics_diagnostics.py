"""Pixel diagnostics and diversity: by hand, and against scikit-image."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage, stats
from skimage import metrics as skimage_metrics

from palette_bench.core.errors import InputError
from palette_bench.scoring.evaluate import diagnostics
from palette_bench.scoring.metrics.diagnostics import (
    DIAGNOSTICS,
    DiagnosticInput,
    DiagnosticReading,
    colourfulness_of,
    structural_similarity,
    summarise,
)
from palette_bench.scoring.metrics.diversity import DIVERSITIES


def image(scored: Any = 100, reference: Any = 100, condition: Any = 100, raw: Any = None) -> DiagnosticInput:
    side = 16
    images = [np.full((side, side, 3), v, np.uint8) for v in (scored, reference, condition)]
    mask = np.zeros((side, side), bool)
    mask[:8] = True
    return DiagnosticInput(
        images[0] if raw is None else np.full((side, side, 3), raw, np.uint8), *images, mask
    )


def test_psnr_by_hand() -> None:
    # every sample 10 levels off: 10 log10(65025 / 100)
    assert DIAGNOSTICS["psnr"].read(image(110)) == DiagnosticReading(
        pytest.approx(28.130803608679106), 10, (0.5,)
    )


def test_psnr_of_equal_images_is_that_of_one_level_in_one_sample_and_noted() -> None:
    near = image()
    near.scored[0, 0, 0] += 1
    equal = DIAGNOSTICS["psnr"].read(image())
    assert equal.value == DIAGNOSTICS["psnr"].read(near).value == pytest.approx(10 * np.log10(255**2 * 768))
    found = summarise(DIAGNOSTICS["psnr"], [equal, equal])
    assert "capped" in found.notes
    assert found.params["equal"] == 2


def test_known_region_error_looks_at_the_raw_output_outside_the_hole_only() -> None:
    inside = image(raw=100)
    inside.raw[:8] = 255
    assert DIAGNOSTICS["known_region_error"].read(inside) == DiagnosticReading(0.0, 0)
    outside = image(raw=100)
    outside.raw[15, 7, 1] = 90  # one of 8 * 16 * 3 known samples
    assert DIAGNOSTICS["known_region_error"].read(outside) == DiagnosticReading(pytest.approx(10 / 384), 10)


def test_known_region_error_of_a_full_hole_is_zero() -> None:
    full = image(raw=0)
    assert full.mask is not None
    full.mask[:] = True
    assert DIAGNOSTICS["known_region_error"].read(full) == DiagnosticReading(0.0, 0)


def test_gray_consistency_compares_lumas() -> None:
    assert DIAGNOSTICS["gray_consistency"].read(image(103, condition=100)) == DiagnosticReading(3.0, 3)


def test_diagnostics_follow_the_task() -> None:
    ids = {name: [d.id for d in diagnostics(name)] for name in ("jpeg-v1", "hole-v1", "gray-v1")}
    assert ids == {
        "jpeg-v1": ["psnr", "ssim", "colour_shift"],
        "hole-v1": ["psnr", "ssim", "known_region_error", "colour_shift"],
        "gray-v1": [
            *("psnr", "ssim", "gray_consistency", "colour_shift"),
            *("colourfulness", "colourfulness_change"),
        ],
    }


@pytest.mark.parametrize("name", DIAGNOSTICS)
@pytest.mark.parametrize("n", [1, 12])
def test_every_diagnostic_is_json(name: str, n: int) -> None:
    found = summarise(DIAGNOSTICS[name], [DIAGNOSTICS[name].read(image(100 + i)) for i in range(n)])
    json.dumps([found.value, found.params, list(found.notes)], allow_nan=False)
    assert (found.interval is None) == (n == 1)
    assert len(found.columns[name]) == n


@pytest.mark.parametrize("seed", range(4))
def test_level_differences_are_exact_to_the_last_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw, reference, condition = rng.integers(0, 256, (3, 48, 48, 3)).astype(np.uint8)
    condition, mask = condition[:, :, :1].repeat(3, axis=2), rng.random((48, 48)) < 0.3
    read = {
        name: row.read(DiagnosticInput(raw, raw, reference, condition, mask))
        for name, row in DIAGNOSTICS.items()
    }
    error, known = raw.astype(np.int64) - reference, np.abs(raw.astype(np.int64) - condition)[~mask]
    assert read["psnr"].value == 10 * np.log10(255**2 * error.size / (error**2).sum())
    assert read["psnr"].largest == read["ssim"].largest == np.abs(error).max()
    shift = error[mask].mean(axis=0)
    assert read["colour_shift"] == (np.abs(shift).mean(), np.abs(error[mask]).max(), tuple(shift))
    assert read["known_region_error"] == (known.mean(), known.max(), ())


# colourfulness


def test_colourfulness_of_images_known_by_hand() -> None:
    gray = np.full((8, 8, 3), 90, np.uint8)
    gray[:4] = 200
    assert colourfulness_of(gray) == 0.0
    # half red, half blue: rg is 255 or 0, yb is 127.5 or -255
    two = np.zeros((8, 8, 3), np.uint8)
    two[:4, :, 0] = two[4:, :, 2] = 255
    spread, offset = np.hypot(127.5, 191.25), np.hypot(127.5, 63.75)
    assert colourfulness_of(two) == pytest.approx(spread + 0.3 * offset, rel=1e-14)


@pytest.mark.parametrize("seed", range(3))
def test_colourfulness_equals_its_formula_in_plain_numpy(seed: int) -> None:
    drawn = np.random.default_rng(seed).integers(0, 256, (2, 31, 31, 3)).astype(np.uint8)

    def plain(pixels: np.ndarray) -> float:
        r, g, b = pixels.astype(float).reshape(-1, 3).T
        rg, yb = r - g, 0.5 * (r + g) - b
        return float(np.hypot(rg.std(), yb.std()) + 0.3 * np.hypot(rg.mean(), yb.mean()))

    assert colourfulness_of(drawn[0]) == pytest.approx(plain(drawn[0]), rel=1e-12)
    pair = DiagnosticInput(drawn[0], drawn[0], drawn[1], drawn[0], None)
    assert DIAGNOSTICS["colourfulness"].read(pair).value == colourfulness_of(drawn[0])
    change = DIAGNOSTICS["colourfulness_change"].read(pair)
    assert change.value == pytest.approx(plain(drawn[0]) - plain(drawn[1]), abs=1e-10)
    assert DIAGNOSTICS["colourfulness_change"].read(replace(pair, scored=drawn[1])).value == 0.0
    assert summarise(DIAGNOSTICS["colourfulness_change"], [change] * 2).interval is not None


# error by the size of the hole


def test_psnr_is_told_apart_by_the_size_of_the_hole() -> None:
    readings = [DiagnosticReading(40.0 - i, 1, ((i * 7 % 20 + 1) / 40,)) for i in range(20)]
    found = summarise(DIAGNOSTICS["psnr"], readings).params["by_hole"]
    by_share = sorted((reading.detail[0], reading.value) for reading in readings)
    expected = [[by_share[i + 1][0], (by_share[i][1] + by_share[i + 1][1]) / 2] for i in range(0, 20, 2)]
    assert found == [pytest.approx(row) for row in expected]


def test_holes_of_one_size_and_few_images_tell_nothing_apart() -> None:
    assert "by_hole" not in summarise(DIAGNOSTICS["psnr"], [DiagnosticReading(30.0, 1, (0.25,))] * 20).params
    assert (
        "by_hole"
        not in summarise(DIAGNOSTICS["psnr"], [DiagnosticReading(30.0, 1, (i / 9,)) for i in range(9)]).params
    )
    assert "by_hole" not in summarise(DIAGNOSTICS["psnr"], [DiagnosticReading(30.0, 1)] * 20).params


# colour shift


def test_a_tint_is_seen_and_signed() -> None:
    tinted = image(100)
    tinted.scored[:8] = [104, 100, 98]  # in the hole
    found = DIAGNOSTICS["colour_shift"].read(tinted)
    assert found == DiagnosticReading(2.0, 4, (4.0, 0.0, -2.0))
    assert summarise(DIAGNOSTICS["colour_shift"], [found, found]).params["signed"] == [4.0, 0.0, -2.0]


def test_noise_without_a_tint_is_no_shift() -> None:
    noisy = image(100)
    noisy.scored[:8, ::2] += 10
    noisy.scored[:8, 1::2] -= 10
    assert DIAGNOSTICS["colour_shift"].read(noisy) == DiagnosticReading(0.0, 10, (0.0, 0.0, 0.0))


def test_colour_shift_looks_into_the_hole_or_at_everything() -> None:
    half = image(100)
    half.scored[8:] = 200  # the known part
    assert DIAGNOSTICS["colour_shift"].read(half).value == 0.0
    whole = DiagnosticInput(half.raw, half.scored, half.reference, half.condition, None)
    assert DIAGNOSTICS["colour_shift"].read(whole).value == 50.0
    nothing = DiagnosticInput(half.raw, half.scored, half.reference, half.condition, np.zeros((16, 16), bool))
    assert DIAGNOSTICS["colour_shift"].read(nothing) == DiagnosticReading(0.0, 0, (0.0, 0.0, 0.0))


# SSIM


def textured(seed: int, side: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(size=(side, side, 3))
    smooth = ndimage.gaussian_filter(noise, (2, 2, 0))
    return np.asarray((smooth - smooth.min()) / np.ptp(smooth) * 255, np.uint8)


@pytest.mark.parametrize("side", [11, 12, 52, 64, 256])
@pytest.mark.parametrize("noise", [2.0, 40.0])
def test_ssim_equals_scikit_images(side: int, noise: float) -> None:
    one = textured(side, side)
    other = np.clip(one + np.random.default_rng(1).normal(0, noise, one.shape), 0, 255).astype(np.uint8)
    expected = skimage_metrics.structural_similarity(
        one, other, data_range=255, channel_axis=-1, gaussian_weights=True, use_sample_covariance=False
    )
    assert structural_similarity(one, other) == pytest.approx(expected, abs=1e-12)
    assert structural_similarity(other, one) == pytest.approx(expected, abs=1e-12)


def test_ssim_of_equal_images_is_one_and_of_flat_ones_the_luminance_term() -> None:
    same = textured(3, 64)
    assert structural_similarity(same, same) == pytest.approx(1.0, abs=1e-12)
    c = (0.01 * 255) ** 2
    flat, brighter = (np.full((16, 16, 3), v, np.uint8) for v in (100, 150))
    expected = (2 * 100 * 150 + c) / (100**2 + 150**2 + c)
    assert structural_similarity(flat, brighter) == pytest.approx(expected, rel=1e-9)


_READ_SSIM = """
import numpy as np
from palette_bench.scoring.metrics.diagnostics import structural_similarity
images = np.random.default_rng(5).integers(0, 256, (6, 256, 256, 3)).astype(np.uint8)
print([structural_similarity(one, other) for one, other in zip(images, images[1:])])
"""


def test_ssim_does_not_depend_on_the_threads_of_blas() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", _READ_SSIM],
            env=os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
        for threads in ("1", "2", "5")
    }
    assert len(found) == 1


def test_ssim_in_several_threads_is_that_in_one() -> None:
    pairs = [(textured(seed, side), textured(seed + 9, side)) for seed in range(9) for side in (64, 256)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda pair: structural_similarity(*pair), pairs))
    assert found == [structural_similarity(*pair) for pair in pairs]


# diversity


def test_consecutive_and_first_pairs_of_four_samples() -> None:
    assert DIVERSITIES["diversity_lpips"].pairs(4) == [(1, 2), (2, 3), (3, 4)]
    assert DIVERSITIES["diversity_ms_ssim"].pairs(4) == [(1, 2), (1, 3), (1, 4)]
    assert DIVERSITIES["diversity_lpips"].pairs(2) == DIVERSITIES["diversity_ms_ssim"].pairs(2) == [(1, 2)]


@pytest.mark.parametrize("name", DIVERSITIES)
def test_diversity_is_the_mean_over_images_with_a_t_interval(name: str) -> None:
    distances = np.random.default_rng(4).uniform(size=(30, 3))
    found = DIVERSITIES[name].score(distances)
    means = distances.mean(axis=1)
    low, high = stats.t.interval(0.95, 29, means.mean(), stats.sem(means))
    assert found.value == pytest.approx(distances.mean(), rel=1e-12)
    assert found.interval is not None
    assert (found.interval.low, found.interval.high) == pytest.approx((low, high), rel=1e-12)
    assert found.params["samples"] == 4
    one = DIVERSITIES[name].score(distances[:1])
    assert (one.interval, one.notes) == (None, ("n<2",))


def test_diversity_needs_pairs_that_are_finite() -> None:
    row = DIVERSITIES["diversity_lpips"]
    with pytest.raises(InputError, match="K >= 2"):
        row.score(np.empty((5, 0)))
    broken = np.zeros((5, 2))
    broken[3, 1] = np.nan
    with pytest.raises(InputError, match="first in row 3"):
        row.score(broken)
