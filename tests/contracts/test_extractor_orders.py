"""The network that the installation brings sees damage: worse images score worse."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from submissions import ready

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.scoring.score import score
from palette_bench.scoring.scorecard import Scorecard
from palette_bench.submission.restore import restore

pytestmark = pytest.mark.long  # minutes: make test-all

SETS = {
    "jpeg": ("jpeg.qf5", "jpeg.qf10", "jpeg.qf20"),
    "inpainting": ("inpainting.freeform-30-40", "inpainting.freeform-20-30", "inpainting.freeform-10-20"),
}
# what the extent of the damage does not enter; known pixels are touched by neither
NOT_ASKED = {
    "jpeg": {"known_region_error", "classifier_score"},  # it knows no originals: QF 20 beats them here
    "inpainting": {"known_region_error", "colour_shift"},  # a mean over the hole, whatever its area
}


@pytest.mark.parametrize("task", SETS)
def test_less_damage_is_nearer_to_the_originals_by_every_metric_that_asks(
    task: str, mini_sets: Path, tmp_path: Path
) -> None:
    cards = [
        *(_card(mini_sets / name, "copy-input", tmp_path) for name in SETS[task]),
        _card(mini_sets / SETS[task][-1], "original", tmp_path),
    ]
    metrics = set(cards[0].scores) - NOT_ASKED[task]
    assert {"perceptual_distance", "frechet_distance", "kernel_distance", "psnr", "ssim"} <= metrics
    wrong = {}
    for metric in metrics:
        values = [card.scores[metric].value for card in cards]
        sign = 1 if cards[0].scores[metric].direction == "higher" else -1
        if not all(sign * worse < sign * better for worse, better in pairwise(values)):  # type: ignore[operator]
            wrong[metric] = values
    assert not wrong


def _card(folder: Path, method: str, home: Path) -> Scorecard:
    name = f"{folder.name}.{method}"
    restore(ready(method), ContestantSet.open(folder), home / name)
    return score(home / name, folder, home / f"{name}.json", extractors=("efficientnet-lite0",))
