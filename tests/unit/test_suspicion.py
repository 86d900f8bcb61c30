"""Where suspicion ends: outputs that only look odd, on sets made for one rule each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.types import Image, Mask
from palette_bench.submission.suspicion import FAR, MIN_CELLS, NEARER, Suspicion

SIDE = 64
CELL = SIDE // 16


def texture(seed: int, level: float = 128) -> Image:
    """Return a picture whose cells have mean `level` and differ by some levels."""
    cells = np.random.default_rng(seed).normal(size=(16, 16, 1))
    cells = np.repeat(np.repeat(cells - cells.mean(), CELL, axis=0), CELL, axis=1)
    return np.broadcast_to(np.clip(np.rint(level + 3 * cells), 0, 255), (SIDE, SIDE, 3)).astype(np.uint8)


def findings(
    inputs: dict[str, Image],
    outputs: dict[str, Image],
    references: dict[str, Image] | None = None,
    mask: Mask | None = None,
) -> list[tuple[str, tuple[str, ...]]]:
    """Return code and ids of what is suspected of some outputs."""
    digests = {i: pixel_digest((references or {}).get(i, texture(seed_of(i)))) for i in inputs}
    target: Any = SimpleNamespace(
        manifest=SimpleNamespace(by_id={i: SimpleNamespace(reference_px=d) for i, d in digests.items()}),
    )
    suspicion = Suspicion(cast(BenchSet, target))
    for image_id, output in outputs.items():
        suspicion.add(image_id, output, inputs[image_id], mask, pixel_digest(output))
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
    inputs = {"a": texture(1, 100), "b": texture(1, 100 + gap)}
    outputs = {"a": inputs["b"] ^ 1, "b": inputs["a"] ^ 1}
    assert findings(inputs, outputs) == ([("PB325", ("a", "b"))] if told else [])


@pytest.mark.parametrize(("share", "told"), [(NEARER - 1, False), (NEARER + 1, True)])
def test_ids_are_mixed_up_only_if_another_input_is_much_nearer(share: float, told: bool) -> None:
    least = 8  # levels between each output and the input it resembles; its own is `share` times as far
    far = round(least * share)
    inputs = {
        "a": texture(1, 40),
        "b": texture(2, 200),
        "c": texture(1, 40 + far + least),
        "d": texture(2, 200 - far - least),
    }
    outputs = {
        "a": texture(1, 40 + far),
        "b": texture(2, 200 - far),
        "c": inputs["c"] ^ 1,
        "d": inputs["d"] ^ 1,
    }
    assert findings(inputs, outputs) == ([("PB325", ("a", "b"))] if told else [])


def test_an_output_of_one_colour_shows_no_other_input() -> None:
    inputs = {"a": texture(1, 60), "b": texture(2, 180)}
    outputs = {"a": np.full_like(A, 180), "b": np.full_like(A, 60)}
    assert findings(inputs, outputs) == [("PB326", ("a", "b"))]


@pytest.mark.parametrize("n_known", [MIN_CELLS - 1, MIN_CELLS])
def test_ids_are_compared_over_enough_known_cells_or_not_at_all(n_known: int) -> None:
    known = np.arange(256).reshape(16, 16) < n_known
    mask = ~np.repeat(np.repeat(known, CELL, axis=0), CELL, axis=1)
    inputs = {
        name: np.where(mask[:, :, None], 127, texture(i, 60 + 60 * i)).astype(np.uint8)
        for i, name in enumerate("ab")
    }
    outputs = {"a": inputs["b"] ^ 1, "b": inputs["a"] ^ 1}
    assert findings(inputs, outputs, mask=mask) == ([("PB325", ("a", "b"))] if n_known == MIN_CELLS else [])
