"""Images of any size: windows, padding, scaling, and what stays untouched."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palette_bench.baselines.training.any_size import (
    TiledNetwork,
    overlap_of,
    restore_any_size,
    starts,
)
from palette_bench.core.errors import InputError, UsageError
from palette_bench.core.types import Image, Mask
from palette_bench.submission.methods import UserImage
from palette_bench.tasks.degradations.gray import luma

CODE = torch.zeros(1, 4)


def test_windows_at_256_overlap_by_64_and_start_on_the_jpeg_grid() -> None:
    assert overlap_of(256) == 64
    assert overlap_of(64) == 16
    assert starts(256, 256) == [0]
    assert starts(640, 256) == [0, 192, 384]
    assert starts(656, 256) == [0, 192, 384, 400]
    assert all(start % 16 == 0 for start in starts(1008, 256))


@given(st.integers(16, 600), st.sampled_from([16, 64, 256]))
def test_windows_cover_and_never_overlap_less(length: int, side: int) -> None:
    length = max(length, side)
    places = starts(length, side)
    assert places[0] == 0
    assert places[-1] + side == length
    assert all(0 < b - a <= side - overlap_of(side) for a, b in pairwise(places))


@pytest.mark.parametrize(("height", "width"), [(64, 64), (100, 64), (97, 131)])
def test_a_pointwise_network_is_not_changed_by_windows(height: int, width: int) -> None:
    images = torch.randn(1, 6, height, width, generator=torch.Generator().manual_seed(0))
    tiled = TiledNetwork(
        lambda x, code: x[:, :3] * 2 - x[:, 3:], torch.ones(height, width, dtype=torch.bool), 64, 3
    )
    assert tiled(images, CODE) == pytest.approx(images[:, :3] * 2 - images[:, 3:], abs=1e-5)


def test_where_windows_disagree_the_blend_passes_smoothly_from_one_to_the_other() -> None:
    def by_place(windows: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        return windows[:, :3, :1, :1].expand(-1, -1, 64, 64)  # the value of the window's corner

    images = torch.arange(112.0).expand(1, 6, 64, 112)  # windows start at columns 0 and 48
    row = TiledNetwork(by_place, torch.ones(64, 112, dtype=torch.bool), 64, 8)(images, CODE)[0, 0, 30]
    assert row[:48] == pytest.approx(torch.zeros(48), abs=1e-5)
    assert row[64:] == pytest.approx(torch.full((48,), 48.0), abs=1e-4)
    assert row[48:64].diff() == pytest.approx(torch.full((15,), 48 / 16), abs=1e-4)


def test_windows_without_a_hole_are_left_out() -> None:
    seen: list[int] = []

    def count(windows: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        seen.append(len(windows))
        return windows[:, :3]

    hole = torch.zeros(208, 208, dtype=torch.bool)
    hole[150, 150] = True  # of the 4 x 4 windows, those that start at 96 and 144 both ways reach it
    TiledNetwork(count, hole, 64, 3)(torch.zeros(1, 6, 208, 208), CODE)
    assert seen == [3, 1]


@dataclass
class Recorder:
    """A model that returns its input made darker, and remembers what it was given."""

    seen: list[tuple[UserImage, bool]] = field(default_factory=list)

    def __call__(self, image: UserImage, by_windows: bool) -> Image:
        self.seen.append((image, by_windows))
        darker = image.input // 2
        return darker if image.mask is None else np.where(image.mask[:, :, None], darker, image.input)


def image(height: int, width: int, task: str = "jpeg", mask: Mask | None = None) -> UserImage:
    pixels = np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)
    return UserImage("mine", task, pixels, mask)


@pytest.mark.parametrize("policy", ["tile", "scale", "native"])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (17, 90), (64, 64), (130, 70)])
@pytest.mark.parametrize("task", ["jpeg", "colorization", "inpainting"])
def test_any_size_comes_back_at_its_size(policy: str, height: int, width: int, task: str) -> None:
    mask = None
    if task == "inpainting":
        mask = np.zeros((height, width), bool)
        mask[3:9, 5:11] = True
    own = image(height, width, task, mask)
    output = restore_any_size(own, policy, Recorder(), 64, 8)
    assert output.shape == (height, width, 3)
    assert output.dtype == np.uint8
    if mask is not None:
        assert (output[~mask] == own.input[~mask]).all()


def test_sizes_given_to_the_model_are_those_it_takes() -> None:
    def given_to(policy: str, height: int, width: int) -> tuple[int, int, bool]:
        model = Recorder()
        restore_any_size(image(height, width), policy, model, 64, 8)
        (seen, by_windows) = model.seen[0]
        return (*seen.input.shape[:2], by_windows)

    assert given_to("tile", 20, 90) == (64, 96, True)
    assert given_to("native", 20, 90) == (24, 96, False)
    assert given_to("scale", 20, 90) == (64, 64, False)
    assert given_to("scale", 20, 30) == (64, 64, False)


def test_policies_by_task() -> None:
    for task, by_windows in (
        ("colorization", False),
        ("jpeg", True),
        ("inpainting", True),
        ("uncropping", True),
    ):
        model = Recorder()
        hole = np.ones((80, 80), bool) if task in ("inpainting", "uncropping") else None
        restore_any_size(image(80, 80, task, hole), None, model, 64, 8)
        assert model.seen[0][1] is by_windows


def test_scaled_colorization_keeps_the_brightness_of_every_pixel() -> None:
    own = image(90, 70, "colorization")
    output = restore_any_size(own, "scale", lambda small, _: np.full_like(small.input, (90, 60, 50)), 64, 8)
    gray = luma(own.input)
    inside = (gray > 60) & (gray < 200)  # elsewhere a channel would leave the range and is clipped
    assert np.abs(luma(output).astype(int) - gray)[inside].max() <= 1
    chroma = output[inside].astype(int) - gray[inside][:, None]
    assert np.ptp(chroma, axis=0).max() <= 1
    assert chroma.mean(0) == pytest.approx(
        np.array([90, 60, 50]) - float(luma(np.array([90, 60, 50]))), abs=1
    )


def test_a_scaled_hole_covers_whatever_it_touched() -> None:
    mask = np.zeros((128, 128), bool)
    mask[41, 77] = True
    model = Recorder()
    restore_any_size(image(128, 128, "inpainting", mask), "scale", model, 64, 8)
    small = model.seen[0][0].mask
    assert small is not None
    assert np.argwhere(small).tolist() == [[20, 38]]


def test_native_warns_off_the_trained_size(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        restore_any_size(image(64, 64), "native", Recorder(), 64, 8)
        assert not caplog.records
        restore_any_size(image(64, 80), "native", Recorder(), 64, 8)
    assert "80 x 64 px by a model trained at 64 px" in caplog.text


def test_what_cannot_be_restored_is_refused() -> None:
    fit = (Recorder(), 64, 8)
    with pytest.raises(InputError, match="mine: 40 x 15 px; the smallest side allowed is 16 px"):
        restore_any_size(image(15, 40), None, *fit)
    with pytest.raises(InputError, match="the mask is 16 x 20 px, the image 20 x 20"):
        restore_any_size(image(20, 20, "inpainting", np.ones((20, 16), bool)), None, *fit)
    with pytest.raises(UsageError, match="did you mean tile"):
        restore_any_size(image(20, 20), "tiles", *fit)
