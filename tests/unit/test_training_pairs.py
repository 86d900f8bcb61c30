"""Training pairs: what the judge's functions make of random crops, with the paper's mixes."""

from __future__ import annotations

from collections import Counter
from math import exp

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from palette_bench.baselines.training.data import TrainingImages
from palette_bench.baselines.training.dataset import (
    QUALITY_WEIGHTS,
    MicroBatches,
    TrainingPairs,
    degrade,
    inpainting_mask,
    random_crop,
    random_quality,
    rectangles,
    shuffled,
    uncropping_mask,
)
from palette_bench.baselines.training.draws import KeyedDraws, stream
from palette_bench.baselines.training.loader import to_examples
from palette_bench.baselines.training.recipe import Task
from palette_bench.core.types import Image
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.degradations.hole import box_mask
from palette_bench.tasks.degradations.jpeg import reference_jpeg
from palette_bench.tasks.preprocess import crop_area
from palette_bench.tasks.protocol import load

DRAWS = np.random.default_rng(11)


class Noise(TrainingImages):
    """Images out of a generator, no files."""

    def __init__(self, count: int, height: int, width: int) -> None:
        self._pixels = DRAWS.integers(0, 256, (count, height, width, 3), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._pixels)

    def name(self, index: int) -> str:
        return str(index)

    def pixels(self, index: int) -> Image:
        found: Image = self._pixels[index]
        return found


@given(st.integers(1, 300), st.integers(0, 3), st.integers(-1, 2))
def test_an_epoch_is_a_permutation(count: int, seed: int, epoch: int) -> None:
    assert sorted(shuffled(i, count, seed, epoch) for i in range(count)) == list(range(count))


def test_epochs_and_seeds_have_orders_of_their_own_and_first_places_are_even() -> None:
    orders = {tuple(shuffled(i, 50, seed, epoch) for i in range(50)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4
    firsts = Counter(shuffled(0, 10, 0, epoch) for epoch in range(2000))
    assert stats.chisquare([firsts[i] for i in range(10)]).pvalue > 0.01


def test_samples_depend_on_their_number_and_every_epoch_shows_every_image() -> None:
    images = Noise(6, 16, 16)
    pairs = TrainingPairs(images, ("colorization",), 16, 4, seed=0)
    for epoch in (0, 1):
        shown = {pairs[epoch * 6 + turn].reference.tobytes() for turn in range(6)}
        assert shown == {images.pixels(i).tobytes() for i in range(6)}
    again = TrainingPairs(images, ("colorization",), 16, 4, seed=0)[7]
    assert np.array_equal(pairs[7].reference, again.reference)


def test_a_crop_is_an_averaged_largest_square_somewhere_along_the_longer_side() -> None:
    pixels = DRAWS.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    squares = {crop_area(pixels[:, left : left + 48], 16).tobytes() for left in range(17)}
    found = {random_crop(pixels, 16, "jpeg", stream(0, 0, i, "crop")).tobytes() for i in range(300)}
    assert found == squares


def test_inpainting_at_256_takes_windows_and_smaller_images_are_enlarged() -> None:
    pixels = DRAWS.integers(0, 256, (257, 300, 3), dtype=np.uint8)
    window = random_crop(pixels, 256, "inpainting", stream(0, 0, 0, "crop"))
    places = [(top, left) for top in range(2) for left in range(45)]
    assert any(np.array_equal(window, pixels[t : t + 256, l : l + 256]) for t, l in places)  # noqa: E741
    assert random_crop(pixels[:200], 256, "inpainting", stream(0, 0, 0, "crop")).shape == (256, 256, 3)


def test_sources_are_what_the_judge_would_make() -> None:
    reference = DRAWS.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    gray, everything = degrade(reference, "colorization", stream(0, 0, 0, "degradation"))
    assert all(np.array_equal(gray[:, :, c], luma(reference)) for c in range(3))
    assert everything.all()
    jpeg, everything = degrade(reference, "jpeg", stream(0, 0, 0, "degradation"))
    quality = random_quality(stream(0, 0, 0, "degradation"))
    assert np.array_equal(jpeg, reference_jpeg(reference, quality))
    assert everything.all()
    for task in ("inpainting", "uncropping"):
        punched, mask = degrade(reference, task, stream(0, 0, 0, "degradation"))  # type: ignore[arg-type]
        assert (punched[mask] == 127).all()
        assert np.array_equal(punched[~mask], reference[~mask])


def test_quality_factors_follow_the_papers_law() -> None:
    law = np.array([exp(-(q - 5) / 10) for q in range(5, 31)])
    assert len(QUALITY_WEIGHTS) == 26
    assert np.abs(np.array(QUALITY_WEIGHTS) - 10_000 * law).max() <= 0.5
    drawn = Counter(random_quality(stream(0, 0, i, "q")) for i in range(20_000))
    assert set(drawn) == set(range(5, 31))
    expected = 20_000 * law / law.sum()
    assert stats.chisquare([drawn[q] for q in range(5, 31)], expected).pvalue > 0.01


def test_rectangles_cover_ten_to_forty_per_cent() -> None:
    masks = [rectangles(stream(0, 0, i, "mask")) for i in range(200)]
    areas = [int(mask.sum()) for mask in masks]
    assert min(areas) >= 6554
    assert max(areas) <= 26214
    single = [mask for mask in masks if mask.sum() == np.ptp(np.where(mask), axis=1).__add__(1).prod()]
    assert all(32 <= side <= 128 for mask in single for side in np.ptp(np.where(mask), axis=1) + 1)


def test_three_of_five_inpainting_masks_are_strokes() -> None:
    masks = [inpainting_mask(stream(0, 0, i, "mask")) for i in range(500)]
    boxes = sum(_is_union_of_boxes(mask) for mask in masks)
    assert stats.binomtest(boxes, 500, 0.4).pvalue > 0.01


def _is_union_of_boxes(mask: np.ndarray) -> bool:
    """At most five boxes change from row to row ten times at most; the round caps of strokes more often."""
    return int((mask[1:] != mask[:-1]).any(axis=1).sum()) <= 10


def test_uncropping_is_half_one_side_and_half_all_four() -> None:
    variants = load("palette-2022").task("uncropping").variants
    known = {
        name: (box_mask(v.hole, 256) if v.hole else ~box_mask(v.kept, 256)).tobytes()  # type: ignore[arg-type]
        for name, v in variants.items()
    }
    names = {data: name for name, data in known.items()}
    drawn = Counter(names[uncropping_mask(stream(0, 0, i, "mask")).tobytes()] for i in range(1000))
    expected = {"four-sides": 500, **dict.fromkeys(("right", "left", "top", "bottom"), 125)}
    assert stats.chisquare([drawn[n] for n in expected], list(expected.values())).pvalue > 0.01


@pytest.mark.parametrize("side", [16, 64, 128])
def test_below_256_a_pixel_is_hole_where_half_of_its_block_is(side: int) -> None:
    pixels = DRAWS.integers(0, 256, (side, side, 3), dtype=np.uint8)
    _, mask = degrade(pixels, "inpainting", stream(0, 0, 9, "degradation"))
    large = inpainting_mask(stream(0, 0, 9, "degradation"))
    factor = 256 // side
    for row in range(side):
        for column in range(side):
            block = large[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            assert mask[row, column] == (block.mean() >= 0.5)


def test_tasks_are_drawn_evenly_and_their_holes_are_filled_with_fresh_normals() -> None:
    tasks: tuple[Task, ...] = ("colorization", "inpainting", "jpeg")
    pairs = TrainingPairs(Noise(50, 16, 16), tasks, 16, 60, seed=0)
    drawn = Counter(pairs[i].task for i in range(600))
    assert stats.chisquare([drawn[task] for task in tasks]).pvalue > 0.01
    prepared = MicroBatches(pairs)[list(range(60))]
    found = to_examples(prepared, KeyedDraws(0), torch.device("cpu"), torch.contiguous_format)
    plain = torch.from_numpy(np.asarray(prepared.source)).permute(0, 3, 1, 2) / 127.5 - 1
    holes = torch.tensor([task == "inpainting" for task in found.tasks])[:, None, None, None] & found.mask
    known = ~holes.expand_as(plain)
    assert torch.allclose(found.source[known], plain[known], atol=1e-6)
    fill = found.source[~known].numpy()
    assert stats.kstest(fill, "norm").pvalue > 0.01
    assert float(found.reference.min()) == -1
    assert float(found.reference.max()) == 1
