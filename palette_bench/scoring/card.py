"""Assembly of the scorecard, not yet signed, and of its per-image table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import Problem
from palette_bench.core.fingerprint import table_digest
from palette_bench.core.records import today
from palette_bench.core.types import Fingerprint, ImageId
from palette_bench.scoring.calibration import judge, paper_row
from palette_bench.scoring.features.weights import provenance
from palette_bench.scoring.metrics.metric import MetricOutcome
from palette_bench.scoring.scorecard import Fingerprints, Score, Scorecard, TableLink
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
        # paths are reduced to base names; `ID=PATH` keeps its id
        "command": " ".join("=".join(Path(part).name for part in word.split("=")) for word in sys.argv),
    }


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
