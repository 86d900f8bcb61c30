"""Masks of other tools: imported by name, never repaired."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from palette_bench.benchset.foreign_masks import ForeignMasks, MaskRequest, area_problems, open_masks
from palette_bench.benchset.generate import generate
from palette_bench.benchset.images import ImageLocation, SourceImage
from palette_bench.benchset.manifest import BenchSet
from palette_bench.benchset.sources import Request, Source, open_source
from palette_bench.benchset.verify import verify
from palette_bench.core.errors import SourceError, UsageError
from palette_bench.core.rng import Stream, stream_key
from palette_bench.tasks.degradations.hole import freeform_in
from palette_bench.tasks.protocol import load

SMOKE = load("smoke")
SOURCE = open_source(SMOKE, Request("smoke-photos"))
BIN = SMOKE.variant("inpainting", "freeform-20-30")


def drawn(image_id: str) -> np.ndarray:
    stream = Stream(stream_key("other-tool", "inpainting", "x", "x", image_id, "mask"))
    return freeform_in((13108, 19660), 256, stream)[0]


def opened(path: Path, mask_format: str, **options: Any) -> ForeignMasks:
    return open_masks(MaskRequest(path, mask_format, **options), SOURCE)


def write_masks(folder: Path, name: str = "{}.png", hole: int = 255, rest: int = 0) -> Path:
    folder.mkdir()
    for image in SOURCE.images:
        values = np.where(drawn(image.id), hole, rest).astype(np.uint8)
        PillowImage.fromarray(values).save(folder / name.format(image.id))
    return folder


@pytest.mark.parametrize(
    ("mask_format", "name", "hole", "rest"),
    [
        ("lama", "{}_mask001.png", 255, 0),
        ("janspiry", "{}.png", 1, 0),
        ("repaint", "{}.png", 0, 255),
        ("mat", "{}.png", 0, 255),
        ("binary", "{}.png", 255, 0),
    ],
)
def test_every_format_gives_the_same_holes(
    mask_format: str, name: str, hole: int, rest: int, tmp_path: Path
) -> None:
    folder = write_masks(tmp_path / "masks", name, hole, rest)
    masks = opened(folder, mask_format, hole_value=255 if mask_format == "binary" else None)
    for image in SOURCE.images[:3]:
        np.testing.assert_array_equal(masks.mask(image.id, "freeform-20-30", 256), drawn(image.id))
    assert area_problems(masks, "freeform-20-30", BIN, 256) == []


def test_a_set_with_foreign_masks_says_so_and_verifies(tmp_path: Path) -> None:
    request = MaskRequest(write_masks(tmp_path / "masks"), "lama")
    [done] = generate("smoke", "inpainting/freeform-20-30", tmp_path / "set", masks=request)
    masks = open_masks(request, SOURCE)
    assert done.published is None
    benchset = BenchSet.open(tmp_path / "set")
    assert benchset.manifest.masks == f"lama:{masks.sha256}:stem"
    mask = benchset.mask("rocket")
    assert mask is not None
    np.testing.assert_array_equal(mask, drawn("rocket"))
    assert verify(tmp_path / "set") == []


def test_swapped_polarity_and_other_areas_are_named(tmp_path: Path) -> None:
    inverted = opened(write_masks(tmp_path / "masks", hole=0, rest=255), "lama")
    assert "polarity looks inverted" in str(area_problems(inverted, "freeform-20-30", BIN, 256)[0])
    right = opened(tmp_path / "masks", "repaint")
    other = SMOKE.variant("inpainting", "freeform-10-20")
    [problem] = area_problems(right, "freeform-10-20", other, 256)
    assert problem.count == 12


@pytest.mark.parametrize(
    "values",
    [np.zeros((64, 64), np.uint8), np.arange(65536, dtype=np.uint8).reshape(256, 256)],
    ids=["size", "values"],
)
def test_masks_are_neither_resized_nor_thresholded(values: np.ndarray, tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks")
    PillowImage.fromarray(values).save(folder / "rocket.png")
    masks = opened(folder, "lama")
    with pytest.raises(SourceError, match="PB309"):
        masks.mask("rocket", "freeform-20-30", 256)


def test_missing_masks_are_all_named(tmp_path: Path) -> None:
    folder = write_masks(tmp_path / "masks")
    (folder / "rocket.png").unlink()
    (folder / "coffee.png").unlink()
    with pytest.raises(SourceError, match="coffee, rocket"):
        opened(folder, "lama")


def test_unknown_formats_get_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean repaint"):
        opened(tmp_path, "re-paint")
    with pytest.raises(UsageError, match="--hole-value"):
        opened(tmp_path, "binary")


# --- the authors' file, at three images


def three() -> Source:
    place = ImageLocation("x", Path("x"))
    return Source("s", (SourceImage("a", 2, place), SourceImage("b", 1, place), SourceImage("c", 1, place)))


def release(path: Path, **changes: np.ndarray) -> Path:
    members = {
        f"{b}% freeform": np.packbits(np.stack([drawn(f"{b}{i}") for i in range(3)]))
        for b in ("10-20", "20-30", "30-40")
    }
    np.savez(path, **{**members, **changes})
    return path


def test_the_released_file_pairs_by_class_then_name(tmp_path: Path) -> None:
    masks = open_masks(MaskRequest(release(tmp_path / "m.npz"), "palette-release"), three())
    order = ["b", "c", "a"]  # labels 1, 1, 2
    for i, image_id in enumerate(order):
        found = masks.mask(image_id, "freeform-20-30", 256)
        np.testing.assert_array_equal(found, drawn(f"20-30{i}"))


@pytest.mark.parametrize(
    "changes",
    [
        {"20-30% freeform": np.zeros(10, np.uint8)},
        {"20-30% freeform": np.zeros(3 * 8192, np.int8)},
        {"20-30% freeform": np.array([object()] * 3)},
        {"more": np.zeros(3 * 8192, np.uint8)},
    ],
    ids=["short", "dtype", "pickle", "member"],
)
def test_a_released_file_that_is_not_one_is_refused(changes: dict[str, np.ndarray], tmp_path: Path) -> None:
    masks = open_masks(MaskRequest(release(tmp_path / "m.npz", **changes), "palette-release"), three())
    with pytest.raises(SourceError, match="PB309"):
        masks.mask("a", "freeform-20-30", 256)
