"""From feature tables to scores: every metric of a plan, with its reference and the original row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.types import Fingerprint, ImageId
from palette_bench.scoring.features.cache import HeadTables
from palette_bench.scoring.metrics import FEATURE_METRICS, kid
from palette_bench.scoring.metrics.diagnostics import Diagnostic
from palette_bench.scoring.metrics.diversity import Diversity
from palette_bench.scoring.metrics.outcome import Metric, Outcome, Tables
from palette_bench.scoring.plan import Step
from palette_bench.scoring.references import ORIGINALS, ReferenceSource
from palette_bench.scoring.scorecard import ORIGINALS_FORM, Score

MATCHED = "fid_matched"
PARTIAL_NOTE = "partial"


@dataclass(frozen=True)
class Scored:
    """A metric's outcome and the score it becomes."""

    outcome: Outcome
    score: Score


@dataclass(frozen=True)
class Labels:
    """What pictures show.

    Attributes:
        classes: (N,) int64 in id order.
        count: classes of the whole set.
    """

    classes: NDArray[np.int64]
    count: int

    @classmethod
    def of(cls, target: BenchSet, ids: Sequence[ImageId]) -> Labels | None:
        """Return the labels of some pictures of a set, or None if a picture of it has none."""
        known = {i: item.label for i, item in target.manifest.by_id.items() if item.label is not None}
        if len(known) < target.manifest.n:
            return None
        return cls(np.array([known[i] for i in ids], np.int64), len(set(known.values())))


@dataclass(frozen=True)
class Material:
    """Everything metrics read of one submission, rows in id order.

    Attributes:
        n: pictures scored.
        outputs: extractor id -> tables.
        originals: extractor id -> tables of the originals of the same ids.
        originals_keys: extractor id -> fingerprint of these originals seen by it.
        reference: what FID and KID compare with.
        labels: or None.
        notes: what every score carries, e.g. `partial`.
    """

    n: int
    outputs: Mapping[str, HeadTables]
    originals: Mapping[str, HeadTables]
    originals_keys: Mapping[str, Fingerprint]
    reference: ReferenceSource
    labels: Labels | None
    notes: tuple[str, ...] = ()

    def tables(self, step: Step) -> Tables:
        """Return what the metric of a step reads."""
        name, head, metric = step.extractor.id, step.head, step.metric
        kernel = metric.score is kid.kernel
        return Tables(
            self.outputs[name][head],
            self.originals[name][head],
            self.reference.reference(step.extractor, head, kernel) if metric.referenced else None,
            self.labels.classes if self.labels else None,
            self.labels.count if self.labels else None,
        )

    def reference_print(self, step: Step) -> Fingerprint | None:
        """Return the fingerprint of what a metric compares with, or None if it looks at outputs alone."""
        if step.metric.referenced:
            return self.reference.fingerprint(step.extractor)
        return self.originals_keys[step.extractor.id] if step.metric.paired else None


def close(steps: Sequence[Step], material: Material) -> dict[str, Scored]:
    """Return outcomes and scores by metric id; `fid` against own originals is `fid_originals`."""
    named = steps
    if material.reference.id == ORIGINALS:
        own = {name: FEATURE_METRICS[form] for name, form in ORIGINALS_FORM.items()}
        named = [replace(step, metric=own.get(step.metric.id, step.metric)) for step in steps]
    return {step.metric.id: _close(step, material) for step in named}


def close_matched(step: Step, material: Material) -> Scored:
    """Return FID against a reference cropped as the set is: shown beside the default, never ranked."""
    matched = replace(step, metric=replace(step.metric, id=MATCHED))
    scored = _close(matched, material)
    return replace(scored, outcome=replace(scored.outcome, columns={}))  # fid's column is fid's


def _close(step: Step, material: Material) -> Scored:
    tables = material.tables(step)
    outcome = step.metric.score(tables)
    original = {} if step.metric.paired else {"original": _original(step, tables)}
    known = {name: value for name, value in original.items() if value is not None}
    score = as_score(
        step.metric,
        replace(outcome, params={**outcome.params, **known}),
        material.n,
        extractor=step.extractor.id,
        reference=material.reference_print(step),
        notes=(
            *step.extractor.notes,
            *(material.reference.notes if step.metric.referenced else ()),
            *material.notes,
        ),
    )
    return Scored(outcome, score)


def _original(step: Step, tables: Tables) -> float | None:
    """Return the value of the originals taken as outputs, the paper's "Original images" row.

    Against a whole validation set KID has no such row: all pairs would cost more than everything else.
    """
    if tables.reference is not None:
        if tables.reference.paired:
            return 0.0 if tables.reference.n > 1 else None
        if step.metric.score is kid.kernel:
            return None
    return step.metric.score(replace(tables, outputs=tables.originals)).value


def as_score(
    row: Metric | Diagnostic | Diversity,
    outcome: Outcome,
    n: int,
    *,
    extractor: str | None = None,
    reference: Fingerprint | None = None,
    notes: tuple[str, ...] = (),
) -> Score:
    """Return an outcome as a scorecard holds it; a note stands once.

    Args:
        row: the metric's row in its table.
        outcome: its number.
        n: pictures it is over.
        extractor: network it comes from.
        reference: fingerprint of what it compares with.
        notes: of network, reference and run.
    """
    interval = outcome.interval
    return Score(
        value=outcome.value,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        se=interval.se if interval else None,
        interval=interval.method if interval else None,
        n=n,
        direction=row.direction,
        unit=row.unit,
        extractor=extractor,
        reference=reference,
        params=outcome.params,
        notes=tuple(dict.fromkeys((*outcome.notes, *notes))),
    )
