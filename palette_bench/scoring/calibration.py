"""Comparison with the paper's scale: the originals scored as outputs, beside the paper's own row.

Source: protocol, section 9; Palette, tables 2 to 4, 8 and 9.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Literal

from palette_bench.core.resources import protocol_file
from palette_bench.scoring.metrics import FEATURE_METRICS
from palette_bench.scoring.references import DEFAULT_FULL
from palette_bench.scoring.scorecard import BARRING, Score, Scorecard

_FILE = "paper_scores.csv"
# source id -> split in the file of the paper's scores
_SPLITS = {"imagenet-ctest10k": "ctest10k", "places10k-r1": "places10k", "places10k-release": "places10k"}

Verdict = Literal["on", "off"]


@dataclass(frozen=True)
class Anchor:
    """One metric of the row "original images", compared with the paper.

    Attributes:
        metric: metric id.
        original: our value, or None if it was not computed.
        paper: value printed in the paper, or None if the paper has none for these images.
        tolerance: largest allowed difference between the two.
        verdict: `on` or `off` the paper's scale, or None if this cannot be decided.
        reason: why there is no verdict.
    """

    metric: str
    original: float | None
    paper: float | None = None
    tolerance: float | None = None
    verdict: Verdict | None = None
    reason: str = ""


def paper_row(protocol: str, task: str, source: str) -> dict[str, float]:
    """Return the paper's scores of the original images by metric id, or {} if the paper has none.

    All variants of a task have the same originals, so the variant does not matter.
    """
    split = _SPLITS.get(source)
    if split is None:
        return {}
    try:
        text = protocol_file(protocol, _FILE).decode("utf-8")
    except FileNotFoundError:  # a protocol that is not the paper's
        return {}
    return {
        line["metric"]: float(line["value"])
        for line in csv.DictReader(text.splitlines())
        if (line["task"], line["split"], line["method"]) == (task, split, "original")
    }


def tolerance(metric: str, paper: float) -> float | None:
    """Return the allowed difference from the paper's value; None if the metric has no such tolerance."""
    row = FEATURE_METRICS.get(metric)
    return max(row.tolerance[0], row.tolerance[1] * paper) if row and row.tolerance else None


def judge(metric: str, score: Score, paper: dict[str, float]) -> Anchor:
    """Return the comparison of one metric's original row with the paper, including the verdict."""
    ours = score.params.get("original")
    allowed = tolerance(metric, paper[metric]) if metric in paper else None
    if allowed is None:
        return Anchor(metric, ours, reason="the paper has no such number for these images")
    reason = _obstacle(metric, score)
    if reason or ours is None:
        return Anchor(metric, ours, paper[metric], allowed, reason=reason or "it was not computed")
    verdict: Verdict = "on" if abs(ours - paper[metric]) <= allowed else "off"
    return Anchor(metric, ours, paper[metric], allowed, verdict)


def _obstacle(metric: str, score: Score) -> str:
    """Return why a score cannot be compared with the paper's, or an empty string."""
    barring = sorted(set(score.notes) & (BARRING - {"rank-deficient"}))
    if barring:
        return f"the score carries {', '.join(barring)}"
    reference = score.params.get("reference")
    if FEATURE_METRICS[metric].referenced and reference != DEFAULT_FULL:
        return f"the paper compares with the full validation set, this score with {reference}"
    return ""


def calibration(card: Scorecard) -> list[Anchor]:
    """Return the original row of a scorecard, each metric beside the paper's value."""
    paper = paper_row(card.protocol, card.task, card.source)
    return [
        judge(metric, score, paper)
        for metric, score in card.scores.items()
        if "original" in score.params or metric in paper
    ]
