"""`score`: a submission and its set become a scorecard. Check, plan, extract, compute, write last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core import atomic
from palette_bench.core.errors import SubmissionError, UsageError, WeightsError
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.interrupt import stoppable
from palette_bench.core.records import today
from palette_bench.core.types import SILENT, Fingerprint, Image, ImageId, Progress
from palette_bench.scoring.environment import environment
from palette_bench.scoring.features import check_name, open_extractor
from palette_bench.scoring.features.cache import FeatureCache, HeadTables, cache_key
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.features.tables import MICRO_BATCH, extract
from palette_bench.scoring.metrics.diagnostics import Diagnostic, summarise
from palette_bench.scoring.metrics.outcome import Metric, Outcome, Tables
from palette_bench.scoring.pictures import Measured, Pictures, measure
from palette_bench.scoring.plan import Step, diagnostics, plan
from palette_bench.scoring.scorecard import Fingerprints, Score, Scorecard, TableLink, write_scorecard
from palette_bench.submission.check import CheckReport, check
from palette_bench.submission.files import open_submission

_UNSIGNED = "0" * 64  # digests that `write_scorecard` fills in

Weights = Mapping[str, str]  # extractor id -> path, or random:SEED


def score(
    submission: Path,
    benchset: Path,
    out: Path,
    *,
    extractors: Sequence[str] = (),
    weights: Weights = MappingProxyType({}),
    device: str = "cpu",
    fresh: bool = False,
    progress: Progress = SILENT,
) -> Scorecard:
    """Score a submission and write its card, with the per-image table beside it.

    Nothing is scored unless every file passes the check, and nothing is downloaded.

    Args:
        submission: a folder or a .zip.
        benchset: the set it answers.
        out: the card to write, `*.json`.
        extractors: ids in order of preference; the protocol's if empty.
        weights: extractor id -> path of its weights, or `random:SEED`.
        device: cpu or cuda.
        fresh: compute features anew even if they are cached.
        progress: where to report.

    Returns:
        The card as written.

    Raises:
        UsageError: an extractor or option that cannot be meant.
        SubmissionError: the check found errors; all are listed.
        BenchSetError: the set is unfinished or damaged.
        WeightsError: PB705, for every extractor that lacks its weights.
        DeviceError: PB707.
        StorageError: PB802, the card cannot be written.
    """
    target = BenchSet.open(benchset)
    names = _names(extractors or target.protocol.extractors, weights, out)
    report = check(submission, benchset, progress=progress)
    if not report.ok:
        raise SubmissionError(*report.problems)
    opened = _open_all(names, weights, target.protocol.classifier_crop, device)
    run = _Run(target, report, opened, FeatureCache(fresh=fresh), device, progress)
    atomic.make_folder(out.parent)
    with open_submission(submission, len(target.ids)) as files, stoppable() as stop:
        card, table = run.score(Pictures(files, target), stop)
    return write_scorecard(card.model_copy(update={"environment": _environment(device)}), table, out)


def _names(extractors: Sequence[str], weights: Weights, out: Path) -> list[str]:
    """Return the extractors to open, each once; refuse what cannot be meant before any work."""
    names = list(dict.fromkeys(extractors))
    for name in names:
        check_name(name)
    idle = sorted(set(weights) - set(names))
    if idle:
        raise UsageError(f"--weights for {', '.join(idle)}, but the extractors are {', '.join(names)}")
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name the card to write, e.g. {out / 'scorecard.json'}")
    return names


def _open_all(names: Sequence[str], weights: Weights, crop: str, device: str) -> list[FeatureExtractor]:
    """Return all extractors, or one error naming every one that lacks its weights."""
    opened, missing = [], []
    for name in names:
        try:
            opened.append(open_extractor(name, weights.get(name), crop, device))
        except WeightsError as error:
            missing.append(error)
    if missing:
        raise WeightsError(*(finding for error in missing for finding in error.problems or (str(error),)))
    return opened


def _environment(device: str) -> dict[str, str | bool | None]:
    model = torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()
    return environment(torch.__version__, f"{device} ({model})")


@dataclass(frozen=True)
class _Side:
    """The outputs or the originals: what the networks see, and where it is read."""

    label: str
    digests: Mapping[ImageId, Fingerprint]
    read: Callable[[ImageId], Image]


@dataclass(frozen=True)
class _Features:
    """Tables of both sides by extractor id, and the fingerprint of each extractor's originals."""

    outputs: Mapping[str, HeadTables]
    references: Mapping[str, HeadTables]
    reference_prints: Mapping[str, Fingerprint]

    def tables(self, step: Step, labels: NDArray[np.int64] | None) -> Tables:
        """Return what a metric reads."""
        head, name = step.extractor.heads[step.metric.head], step.extractor.id
        return Tables(self.outputs[name][head], self.references[name][head], labels)


@dataclass(frozen=True)
class _Run:
    """One submission on one set, checked, with its networks ready."""

    target: BenchSet
    report: CheckReport
    extractors: Sequence[FeatureExtractor]
    cache: FeatureCache
    device: str
    progress: Progress

    @property
    def ids(self) -> list[ImageId]:
        """Return the ids in the order of every table."""
        return sorted(self.target.ids)

    def score(self, pictures: Pictures, stop: Callable[[], None]) -> tuple[Scorecard, pd.DataFrame]:
        """Return the card, not yet signed, and the per-image table."""
        labels = self._labels()
        wanted = self.target.protocol.ranked_metrics(self.target.manifest.source)
        steps = plan(wanted, self.extractors, labels is not None)
        rows = diagnostics(self.target.task.degradation)
        with self.progress("reading", len(self.ids)) as advance:
            measured = measure(pictures, self.ids, rows, _both(advance, stop))
        features = self._features(pictures, measured, stop)
        found: dict[str, Outcome] = {s.metric.id: s.metric.score(features.tables(s, labels)) for s in steps}
        scores = {s.metric.id: self._feature_score(s, found[s.metric.id], features) for s in steps}
        for row in rows:
            found[row.id] = summarise(row, measured.readings[row.id])
            scores[row.id] = _as_score(row, found[row.id], len(self.ids))
        return self._card(scores, steps, features), self._table(list(found.values()))

    def _labels(self) -> NDArray[np.int64] | None:
        """Return (N,) class indices, or None if a picture has none."""
        labels = [self.target.manifest.by_id[i].label for i in self.ids]
        known = [label for label in labels if label is not None]
        return np.array(known, np.int64) if len(known) == len(labels) else None

    def _features(self, pictures: Pictures, measured: Measured, stop: Callable[[], None]) -> _Features:
        originals = {i: self.target.manifest.by_id[i].reference_px for i in self.ids}
        references = self._side(_Side("originals", originals, self.target.reference), stop)
        outputs = self._side(_Side("outputs", measured.digests, pictures.scored), stop)
        prints = {
            e.id: fingerprint({"pictures": sorted(originals.items()), "extractor": e.fingerprint})
            for e in self.extractors
        }
        return _Features(outputs, references, prints)

    def _side(self, side: _Side, stop: Callable[[], None]) -> dict[str, HeadTables]:
        """Return the tables of one side by extractor id: cached ones, and the others in one pass."""
        keys = {e.id: cache_key(side.digests, e.fingerprint) for e in self.extractors}
        stored = {e.id: self.cache.load(keys[e.id]) for e in self.extractors}
        tables = {name: table for name, table in stored.items() if table is not None}
        missing = [e for e in self.extractors if e.id not in tables]
        if missing:
            with self.progress(side.label, len(self.ids)) as advance:
                computed = extract(missing, map(side.read, self.ids), len(self.ids), _both(advance, stop))
            for extractor, table in zip(missing, computed, strict=True):
                self.cache.store(
                    keys[extractor.id], table, {"batch": str(MICRO_BATCH), "device": self.device}
                )
                tables[extractor.id] = table
        return tables

    def _feature_score(self, step: Step, outcome: Outcome, features: _Features) -> Score:
        return _as_score(
            step.metric,
            outcome,
            len(self.ids),
            extractor=step.extractor.id,
            reference=features.reference_prints[step.extractor.id] if step.metric.paired else None,
            notes=step.extractor.notes,
        )

    def _card(self, scores: dict[str, Score], steps: Sequence[Step], features: _Features) -> Scorecard:
        manifest, declared = self.target.manifest, self.report.card
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
                outputs=self.report.outputs,
                references={
                    s.metric.id: features.reference_prints[s.extractor.id] for s in steps if s.metric.paired
                },
                extractors={e.id: e.fingerprint for e in self.extractors},
            ),
            n_expected=manifest.n,
            n_scored=len(self.ids),
            scores=scores,
            per_image=TableLink(file="", sha256=_UNSIGNED, rows=0),
            problems=tuple(p.brief() for p in self.report.problems),
            environment={},
        )

    def _table(self, outcomes: Sequence[Outcome]) -> pd.DataFrame:
        """Return the per-image table: a row per id, a column for whatever a metric says of one picture."""
        by_id = self.target.manifest.by_id
        columns = {
            "image_id": self.ids,
            "label": pd.array([by_id[i].label for i in self.ids], dtype="Int64"),
            "pixels": [self.report.pixels[i] for i in self.ids],
        }
        for outcome in outcomes:
            columns.update(outcome.columns)
        return pd.DataFrame(columns)


def _both(advance: Callable[[int], object], stop: Callable[[], None]) -> Callable[[int], None]:
    """Return a step that reports progress and obeys Ctrl-C and SIGTERM."""

    def step(count: int) -> None:
        advance(count)
        stop()

    return step


def _as_score(
    row: Metric | Diagnostic,
    outcome: Outcome,
    n: int,
    *,
    extractor: str | None = None,
    reference: Fingerprint | None = None,
    notes: tuple[str, ...] = (),
) -> Score:
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
        notes=(*outcome.notes, *notes),
    )
