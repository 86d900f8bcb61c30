"""Are we on the paper's scale? The original images scored as outputs, beside the paper's own row.

Source: protocol, section 9; Palette, tables 2 to 4, 8 and 9.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import Any, Literal

from palette_bench.core.resources import protocol_file
from palette_bench.scoring.references import DEFAULT_FULL
from palette_bench.scoring.scorecard import BARRING, Score, Scorecard

_FILE = "paper_scores.csv"
_SPLITS = {"imagenet-ctest10k": "ctest10k", "places10k-r1": "places10k", "places10k-release": "places10k"}
_TOLERANCE = {"fid": 0.3, "inception_score": 5.0, "classification_accuracy": 1.0}
_RELATIVE = 0.1  # of the paper's FID, where that is more

Verdict = Literal["on", "off"]


@dataclass(frozen=True)
class Anchor:
    """One metric of the original row.

    Attributes:
        metric: id.
        original: ours, or None where it was not computed.
        paper: as printed, or None where the paper has none for these images.
        tolerance: what may lie between the two.
        verdict: `on` or `off` the paper's scale, or None where that cannot be said.
        reason: why there is no verdict.
    """

    metric: str
    original: float | None
    paper: float | None = None
    tolerance: float | None = None
    verdict: Verdict | None = None
    reason: str = ""


def paper_row(protocol: str, task: str, source: str) -> dict[str, float]:
    """Return the paper's scores of the original images by metric, or nothing where it has none.

    The variant does not matter: the originals of a task are the same images.
    """
    split = _SPLITS.get(source)
    if split is None:
        return {}
    try:
        text = protocol_file(protocol, _FILE).decode("utf-8")
    except FileNotFoundError:  # a protocol of our own
        return {}
    return {
        line["metric"]: float(line["value"])
        for line in csv.DictReader(text.splitlines())
        if (line["task"], line["split"], line["method"]) == (task, split, "original")
    }


def tolerance(metric: str, paper: float) -> float:
    """Return how far ours may lie from the paper's: 0.3 FID or 10 % if larger, 5 IS, 1 CA point."""
    return max(_TOLERANCE[metric], _RELATIVE * paper if metric == "fid" else 0.0)


def judge(metric: str, score: Score, paper: dict[str, float]) -> Anchor:
    """Return one metric of the original row with its verdict."""
    ours = score.params.get("original")
    if metric not in paper or metric not in _TOLERANCE:
        return Anchor(metric, ours, reason="the paper has no such number for these images")
    allowed = tolerance(metric, paper[metric])
    reason = _obstacle(metric, score)
    if reason or ours is None:
        return Anchor(metric, ours, paper[metric], allowed, reason=reason or "it was not computed")
    verdict: Verdict = "on" if abs(ours - paper[metric]) <= allowed else "off"
    return Anchor(metric, ours, paper[metric], allowed, verdict)


def _obstacle(metric: str, score: Score) -> str:
    """Return why a number cannot be held against the paper's, or nothing."""
    barring = sorted(set(score.notes) & (BARRING - {"rank-deficient"}))
    if barring:
        return f"the score carries {', '.join(barring)}"
    reference = score.params.get("reference")
    if metric == "fid" and reference != DEFAULT_FULL:
        return f"the paper compares with the full validation set, this score with {reference}"
    return ""


def anchored(metric: str, score: Score, paper: dict[str, float]) -> dict[str, Any]:
    """Return what a scorecard's params say of the anchor, or nothing without a verdict."""
    anchor = judge(metric, score, paper)
    return {} if anchor.verdict is None else {"anchor": anchor.verdict, "paper_original": anchor.paper}


def calibration(card: Scorecard) -> list[Anchor]:
    """Return the original row of a card, each metric beside the paper's number."""
    paper = paper_row(card.protocol, card.task, card.source)
    return [
        judge(metric, score, paper)
        for metric, score in card.scores.items()
        if "original" in score.params or metric in paper
    ]
