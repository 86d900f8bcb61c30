"""No clock, locale, seed, folder, thread or vector unit changes a digest."""

from __future__ import annotations

from pathlib import Path

import pytest
from environments import Row, difference, images, rows_of_variables, run, strange


@pytest.mark.long
@pytest.mark.trust("all: clock, locale, TZ", "generate: odd images")
def test_digests_are_equal_when_everything_around_them_changes(tmp_path: Path) -> None:
    folder = images(tmp_path / "pictures")
    first = run(Row("as installed"), folder)
    assert first["canaries"] == []
    assert len(first) > 24 * 8 + 13
    assert difference(first, run(strange(), folder)) == "equal"


def test_differences_are_counted_and_measured() -> None:
    first = {"a": "1", "score psnr": 20.0}
    assert difference(first, first) == "equal"
    assert difference(first, {"a": "2", "score psnr": 20.0}) == "1 digests differ, first a"
    assert difference(first, {"a": "1", "score psnr": 20.002}).startswith(
        "all digests equal; scores within 1.0e-04"
    )


def test_every_row_has_a_name_of_its_own() -> None:
    names = [row.name for row in rows_of_variables()]
    assert len(set(names)) == len(names)
