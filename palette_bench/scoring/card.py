"""From scores to records: the card, not yet signed, and its per-image table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import Problem
from palette_bench.core.fingerprint import table_digest
from palette_bench.core.records import today
from palette_bench.core.types import Fingerprint, ImageId
from palette_bench.scoring.features.weights import provenance
from palette_bench.scoring.metrics.outcome import Outcome
from palette_bench.scoring.scorecard import Fingerprints, Score, Scorecard, TableLink
from palette_bench.submission.check import CheckReport

_UNSIGNED = "0" * 64  # digests that `write_scorecard` fills in

Environment = dict[str, str | bool | None]


def make_card(
    target: BenchSet,
    report: CheckReport,
    scores: dict[str, Score],
    extractors: Mapping[str, Fingerprint],
    problems: Sequence[Problem],
    environment: Environment,
) -> Scorecard:
    """Return a card without digests.

    Args:
        target: the set.
        report: of a check without errors that count.
        scores: by metric.
        extractors: id -> fingerprint.
        problems: findings to keep with the scores.
        environment: of this machine.
    """
    manifest, declared = target.manifest, report.card
    assert declared is not None, "a report without errors has a card"
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
    outcomes: Sequence[Outcome],
) -> pd.DataFrame:
    """Return the per-image table: a row per id, a column for whatever a metric says of one picture."""
    by_id = target.manifest.by_id
    columns = {
        "image_id": list(ids),
        "label": pd.array([by_id[i].label for i in ids], dtype="Int64"),
        "pixels": [pixels[i] for i in ids],
    }
    for outcome in outcomes:
        columns.update(outcome.columns)
    return pd.DataFrame(columns)
