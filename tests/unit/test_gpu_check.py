"""The check of a GPU: a failing part is a row, and scores are compared by what each is granted."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from common import REPOSITORY


@pytest.fixture
def gpu_check(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    before = set(sys.modules)
    import gpu_check

    yield gpu_check
    for name in set(sys.modules) - before:
        if name in {path.stem for path in (REPOSITORY / "benchmarks").glob("*.py")}:
            sys.modules.pop(name)


def test_a_failing_part_is_a_row_and_the_others_still_run(
    gpu_check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def breaks(bench: Any) -> Iterator[Any]:
        yield gpu_check.Row("speed", "begun", "well", True, {})
        bench.run(["-c", "import sys; sys.exit('the reason')"], "a child")

    def lasts(bench: Any) -> Iterator[Any]:
        bench.run(["-c", "import time; time.sleep(60)"], "a child")
        yield gpu_check.Row("group", "never", "", True, {})

    def works(bench: Any) -> Iterator[Any]:
        yield gpu_check.Row("resume", "done", bench.run(["-c", "print('told')"], "a child"), True, {})

    monkeypatch.setattr(gpu_check, "PARTS", {"speed": breaks, "group": lasts, "resume": works})
    monkeypatch.setitem(gpu_check.BUDGETS, "group", 0.5)
    options = argparse.Namespace(only=["speed", "group", "resume"], device="cpu", small=True)
    rows, seconds = gpu_check.checked(tmp_path, options)
    assert [(row.part, row.sound) for row in rows] == [
        *(("speed", True), ("speed", False)),
        *(("group", False), ("resume", True)),
    ]
    assert "exit 1: the reason" in rows[1].result
    assert "no time left" in rows[2].result
    assert rows[3].result == "told\n"
    assert 0.5 <= seconds["group"] < 30


def card(distance: float, share: float) -> dict[str, Any]:
    scores = {
        "frechet_distance": {"value": distance, "extractor": "x", "unit": ""},
        "classification_agreement": {"value": share, "extractor": "x", "unit": "%"},
        "psnr": {"value": 3 * distance, "extractor": None, "unit": "dB"},
    }
    return {"n_scored": 50, "scores": scores}


def test_a_share_may_differ_by_one_image_and_a_distance_by_a_thousandth(gpu_check: ModuleType) -> None:
    near = gpu_check.score_gaps(card(10.0, 40.0), card(10.009, 42.0))
    assert set(near) == {"frechet_distance", "classification_agreement"}
    assert all(gap <= granted for gap, granted in near.values())
    far = gpu_check.score_gaps(card(10.0, 40.0), card(10.02, 44.0))
    assert all(gap > granted for gap, granted in far.values())


def test_a_card_without_scores_of_a_network_is_no_agreement(gpu_check: ModuleType) -> None:
    with pytest.raises(gpu_check.PartError, match="no scores of a network"):
        gpu_check.score_gaps({"scores": {}}, {"scores": {}})
