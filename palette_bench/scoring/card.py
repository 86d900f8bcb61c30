"""Assembly of the scorecard, not yet signed, and of its per-image table; comparison with the paper's scale.

Source: protocol, section 9; Palette, tables 2 to 4, 8 and 9.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import torch

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import Problem
from palette_bench.core.fingerprint import table_digest
from palette_bench.core.records import today
from palette_bench.core.resources import protocol_file, protocol_ids
from palette_bench.core.types import Fingerprint, ImageId
from palette_bench.scoring.features.weights import provenance
from palette_bench.scoring.metrics import FEATURE_METRICS
from palette_bench.scoring.metrics.metric import MetricOutcome
from palette_bench.scoring.references import DEFAULT_FULL
from palette_bench.scoring.scorecard import BARRING, Fingerprints, Score, Scorecard, TableLink
from palette_bench.submission.check import CheckReport
from palette_bench.tasks import canary

# precision -> dtype of the arithmetic, whether TF32 is on, level of determinism (trust, section 1.1)
_PRECISION = {
    "fp32": ("float32", False, "L0"),
    "tf32": ("float32", True, "L2"),
    "bf16": ("bfloat16", False, "L2"),
    "fp64": ("float64", False, "L0"),
}


def environment(device: str, precision: str) -> dict[str, str | bool | None]:
    """Return the environment of a scorecard; it enters no fingerprint.

    Args:
        device: device of the networks.
        precision: precision of the networks, e.g. `fp32`.
    """
    gpu = device.startswith("cuda")
    model = torch.cuda.get_device_name(device) if gpu else torch.backends.cpu.get_cpu_capability()
    versions = canary.environment()
    commit = _git("rev-parse", "HEAD")
    dtype, tf32, level = _PRECISION[precision]
    return {
        **{key: versions[key] for key in ("palette_bench", "python", "numpy", "pillow", "os")},
        "libjpeg": versions["libjpeg_turbo"],
        "torch": torch.__version__,
        "device": f"{device} ({model})",
        "dtype": dtype,
        "tf32": tf32,
        "level": level,
        "git": commit,
        "dirty": bool(commit and _git("status", "--porcelain")),
        "command": _command(sys.argv),
    }


def _command(words: Sequence[str]) -> str:
    """Return a command line as cards state it: without folders, and without the place of a shard.

    All shards and a run of one process write the same card, so the card names the command without them.
    """
    rest = iter(words)
    kept = []
    for word in rest:
        if word == "--shard":
            next(rest, None)
        elif word != "--merge" and not word.startswith("--shard="):
            # paths are reduced to base names; `ID=PATH` keeps its id
            kept.append("=".join(Path(part).name for part in word.split("=")))
    return " ".join(kept)


def _git(*arguments: str) -> str | None:
    """Return git's output for the checkout that this package runs from; None without a checkout or git."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
    except OSError:  # git is not installed
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


_UNSIGNED = "0" * 64  # placeholder for digests that `write_scorecard` fills in


def make_card(
    target: BenchSet,
    report: CheckReport,
    scores: dict[str, Score],
    extractors: Mapping[str, Fingerprint],
    problems: Sequence[Problem],
    environment: dict[str, str | bool | None],
) -> Scorecard:
    """Return a scorecard whose own digest and table link are still placeholders.

    Args:
        target: the benchmark set.
        report: report of a check without errors that prevent scoring.
        scores: metric id -> score.
        extractors: extractor id -> fingerprint.
        problems: findings to record with the scores.
        environment: environment of this machine.
    """
    manifest, declared = target.manifest, report.card
    assert declared is not None, "a report without errors has a card"
    # params of each score get the verdict on the paper's scale, if there is one
    paper = paper_row(manifest.protocol, manifest.task, manifest.source)
    scores = dict(scores)
    for name, score in scores.items():
        anchor = judge(name, score, paper)
        if anchor.verdict is not None:
            added = {"anchor": anchor.verdict, "paper_original": anchor.paper}
            scores[name] = score.model_copy(update={"params": {**score.params, **added}})
    return Scorecard(
        schema=Scorecard.schema_name(),
        content_sha256=_UNSIGNED,
        date=today(),
        method=declared.method,
        training=declared.training,
        sampling=declared.sampling,
        declared=declared.declared,
        protocol=manifest.protocol,
        declaration=manifest.declaration,
        source=manifest.source,
        task=manifest.task,
        variant=None if manifest.variant == "default" else manifest.variant,
        fingerprints=Fingerprints(
            protocol=manifest.protocol_fingerprint,
            set=manifest.set_fingerprint,
            outputs=table_digest(report.pixels),
            references={name: s.reference for name, s in scores.items() if s.reference},
            extractors=dict(extractors),
        ),
        n_expected=manifest.n,
        n_scored=len(report.pixels),
        scores=scores,
        per_image=TableLink(file="", sha256=_UNSIGNED, rows=0),
        problems=tuple(p.brief() for p in problems),
        environment=environment,
        networks={name: words for name in sorted(extractors) if (words := provenance(name))},
    )


def make_table(
    target: BenchSet,
    ids: Sequence[ImageId],
    pixels: Mapping[ImageId, Fingerprint],
    outcomes: Sequence[MetricOutcome],
) -> pd.DataFrame:
    """Return the per-image table: one row per id, and one column for each per-image value of a metric."""
    by_id = target.manifest.by_id
    columns = {
        "image_id": list(ids),
        "label": pd.array([by_id[i].label for i in ids], dtype="Int64"),
        "pixels": [pixels[i] for i in ids],
    }
    for outcome in outcomes:
        columns.update(outcome.columns)
    return pd.DataFrame(columns)


# --- the originals scored as outputs, beside the paper's own row ---

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
    if split is None or protocol not in protocol_ids():
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
