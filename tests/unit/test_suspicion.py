"""Where suspicion ends: outputs that only look odd, on sets made for one rule each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage

from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.types import Image, Mask
from palette_bench.submission.anomalies import AnomalyCheck, appearance
from palette_bench.submission.thumbnails import FAR, MIN_CELLS, NEARER, shift

SIDE = 64
CELL = SIDE // 16


def cells_of(seed: int) -> NDArray[np.float64]:
    """Return (16, 16, 1) normals of mean 0 and spread 1."""
    cells = np.random.default_rng(seed).normal(size=(16, 16, 1))
    return (cells - cells.mean()) / cells.std()


def drawn(cells: NDArray[np.float64], level: float, spread: float) -> Image:
    """Return an image of (16, 16, 1 or 3) cells."""
    pixels = np.repeat(np.repeat(level + spread * cells, CELL, axis=0), CELL, axis=1)
    return np.broadcast_to(np.clip(np.rint(pixels), 0, 255), (SIDE, SIDE, 3)).astype(np.uint8)


def texture(seed: int, level: float = 128, spread: float = 3) -> Image:
    """Return an image whose cells have mean `level` and differ by some levels."""
    return drawn(cells_of(seed), level, spread)


def findings(
    inputs: dict[str, Image],
    outputs: dict[str, Image],
    references: dict[str, Image] | None = None,
    mask: Mask | None = None,
) -> list[tuple[str, tuple[str, ...]]]:
    """Return code and ids of what is suspected of some outputs."""
    digests = {i: pixel_digest((references or {}).get(i, texture(seed_of(i)))) for i in inputs}
    suspicion = AnomalyCheck(digests)
    for image_id, output in outputs.items():
        given = inputs[image_id]
        found = appearance(output, given, mask, given, seek_shift=suspicion.seeks_shifts)
        suspicion.add(image_id, pixel_digest(output), pixel_digest(given), found)
    return [(p.code, p.ids) for p in suspicion.problems()]


def seed_of(image_id: str) -> int:
    return 1000 + ord(image_id[0])


A, B = texture(1), texture(2)


def test_no_outputs_are_not_suspicious() -> None:
    assert findings({}, {}) == []


def test_an_input_that_is_its_own_target_may_be_returned() -> None:
    assert findings({"a": A}, {"a": A}, references={"a": A}) == []


def test_twin_inputs_may_have_twin_outputs() -> None:
    output = A ^ 4
    assert findings({"a": A, "b": A}, {"a": output, "b": output}) == []
    assert findings({"a": A, "b": B}, {"a": output, "b": output}) == [("PB323", ("a", "b"))]


def test_an_output_of_one_colour_is_right_where_the_original_is() -> None:
    black = np.zeros_like(A)
    assert findings({"a": texture(1, 5)}, {"a": black}, references={"a": black}) == [("PB321", ("a",))]
    assert findings({"a": texture(1, 5)}, {"a": black}) == [("PB326", ("a",))]


HALF: Mask = np.broadcast_to(np.arange(SIDE)[:, None] >= SIDE // 2, (SIDE, SIDE))


@pytest.mark.parametrize(("n_lossy", "told"), [(1, False), (2, False), (3, True)])
def test_a_lossy_step_is_told_if_it_shows_in_more_than_half(n_lossy: int, told: bool) -> None:
    inputs = {name: texture(i) for i, name in enumerate("abcd")}
    outputs = {name: image + np.uint8(3 * (i < n_lossy)) for i, (name, image) in enumerate(inputs.items())}
    outputs = {name: np.where(HALF[:, :, None], texture(9) ^ ord(name), o) for name, o in outputs.items()}
    expected = [("PB324", tuple("abcd"[:n_lossy]))] if told else []
    assert findings(inputs, outputs, mask=HALF) == expected


@pytest.mark.parametrize(("gap", "told"), [(FAR - 2, False), (FAR + 2, True)])
def test_ids_are_mixed_up_only_if_the_own_input_is_far(gap: float, told: bool) -> None:
    spread = gap / 2**0.5  # of two textures that have nothing in common
    inputs = {"a": texture(1, spread=spread), "b": texture(2, spread=spread)}
    outputs = {"a": inputs["b"] ^ 1, "b": inputs["a"] ^ 1}
    assert findings(inputs, outputs) == ([("PB325", ("a", "b"))] if told else [])


@pytest.mark.parametrize(("share", "told"), [(NEARER - 0.7, False), (NEARER + 1, True)])
def test_ids_are_mixed_up_only_if_another_input_is_much_nearer(share: float, told: bool) -> None:
    noise = 1 / (share**2 - 1) ** 0.5  # leaves 1 / share of the spread unexplained
    inputs = {"a": texture(1, spread=35), "b": texture(2, spread=35)}
    outputs = {
        "a": drawn(cells_of(2) + noise * cells_of(3), 128, 25),
        "b": drawn(cells_of(1) + noise * cells_of(4), 128, 25),
    }
    assert findings(inputs, outputs) == ([("PB325", ("a", "b"))] if told else [])


def test_a_plain_input_is_shown_by_no_output() -> None:
    inputs = {"a": texture(1, spread=40), "b": texture(2, spread=0.4), "c": texture(3, spread=40)}
    outputs = {"a": texture(5, spread=40), "b": texture(6, spread=40), "c": texture(7, spread=40)}
    assert findings(inputs, outputs) == []


def coloured(seed: int) -> Image:
    return drawn(np.concatenate([cells_of(seed + more) for more in (1, 50, 90)], axis=2), 128, 30)


COLOURS = {name: coloured(i) for i, name in enumerate("abcd")}


def gamma(image: Image) -> Image:
    return np.rint(255 * (image / 255) ** (1 / 2.2)).astype(np.uint8)


def brighter(image: Image, levels: int) -> Image:
    return np.clip(image.astype(int) + levels, 0, 255).astype(np.uint8)


def ycbcr(image: Image) -> Image:
    return np.asarray(PillowImage.fromarray(image).convert("YCbCr"))


@pytest.mark.trust("images: diagnosis")
@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (lambda x: x // 2 + 64, ["PB327"]),  # half contrast
        (gamma, ["PB327"]),
        (lambda x: brighter(x, 30), ["PB327"]),
        (lambda x: (x > 127).astype(np.uint8), ["PB327"]),  # 0 to 1, not 0 to 255
        (lambda x: x[:, :, ::-1], ["PB328"]),
        (lambda x: x[:, ::-1], ["PB329"]),
        (lambda x: x[::-1], ["PB329"]),
        (lambda x: x.transpose(1, 0, 2), ["PB329"]),
        (lambda x: np.rot90(x, 3), ["PB329"]),
        (lambda x: 255 - x, ["PB327"]),  # a negative is no swap
        (ycbcr, ["PB328"]),
        (lambda x: ycbcr(x)[:, :, [0, 2, 1]], ["PB328"]),
        (lambda x: np.roll(x, 1, axis=1), ["PB329"]),
        (lambda x: np.roll(x, (-5, 9), axis=(0, 1)), ["PB329"]),
        (lambda x: x ^ 1, []),
        (lambda x: brighter(x, 6), []),
        (lambda x: np.rint(0.9 * (x - 128.0) + 128).astype(np.uint8), []),  # a model that smooths
    ],
)
def test_each_fault_of_writing_has_its_own_name(change: Callable[[Image], Image], codes: list[str]) -> None:
    outputs = {name: np.ascontiguousarray(change(image)) for name, image in COLOURS.items()}
    assert [code for code, _ in findings(COLOURS, outputs)] == codes


@pytest.mark.trust("images: diagnosis")
@pytest.mark.parametrize("place", [(0, 3), (2, 0), (-4, 7)])
def test_a_shift_is_measured_beside_a_hole(place: tuple[int, int]) -> None:
    image, mask = coloured(1), HALF
    given = np.where(mask[:, :, None], 127, image).astype(np.uint8)
    made = np.where(mask[:, :, None], coloured(2), image).astype(np.uint8)
    assert shift(np.roll(made, place, axis=(0, 1)), given, mask) == place
    assert shift(made, given, mask) == (0, 0)


@pytest.mark.trust("images: diagnosis")
def test_one_odd_output_among_many_is_a_failure_of_the_model() -> None:
    outputs = {name: image ^ 1 for name, image in COLOURS.items()}
    outputs["a"] = np.ascontiguousarray(COLOURS["a"][:, :, ::-1])
    assert findings(COLOURS, outputs) == []


@pytest.mark.trust("images: diagnosis")
def test_a_model_that_leaves_known_pixels_black_is_not_told_of_tones() -> None:
    hole = HALF[:, :, None]
    outputs = {name: np.where(hole, image, 0).astype(np.uint8) for name, image in COLOURS.items()}
    inputs = {name: np.where(hole, 127, image).astype(np.uint8) for name, image in COLOURS.items()}
    assert findings(inputs, outputs, mask=HALF) == []


def test_an_output_of_one_colour_shows_no_other_input() -> None:
    inputs = {"a": texture(1, 60), "b": texture(2, 180)}
    outputs = {"a": np.full_like(A, 180), "b": np.full_like(A, 60)}
    assert findings(inputs, outputs) == [("PB326", ("a", "b"))]


@pytest.mark.parametrize("n_known", [MIN_CELLS - 1, MIN_CELLS])
def test_ids_are_compared_over_enough_known_cells_or_not_at_all(n_known: int) -> None:
    known = np.arange(256).reshape(16, 16) < n_known
    mask = ~np.repeat(np.repeat(known, CELL, axis=0), CELL, axis=1)
    inputs = {
        name: np.where(mask[:, :, None], 127, texture(i, 128, 40)).astype(np.uint8)
        for i, name in enumerate("ab")
    }
    outputs = {"a": inputs["b"] ^ 1, "b": inputs["a"] ^ 1}
    assert findings(inputs, outputs, mask=mask) == ([("PB325", ("a", "b"))] if n_known == MIN_CELLS else [])
