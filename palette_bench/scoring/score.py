"""`score`: check a submission, extract features, compute metrics, and write the scorecard last.

Every rank of a distributed run goes through the same steps. Rank 0 checks, computes final scores and writes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core import atomic
from palette_bench.core.errors import Problem, SubmissionError, UsageError, errors_of, problem
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.processes import stoppable
from palette_bench.core.types import SILENT, AnyPath, ImageId, Progress
from palette_bench.runtime import distributed
from palette_bench.scoring.calibration import anchored, paper_row
from palette_bench.scoring.card import make_card, make_table
from palette_bench.scoring.diversity import PAIR_WEIGHTS, SampledOutputs
from palette_bench.scoring.evaluate import (
    MATCHED,
    PARTIAL_NOTE,
    ImageLabels,
    MetricInputs,
    MetricSelection,
    MetricStep,
    ScoredMetric,
    as_score,
    close,
    close_matched,
    needed_extractors,
    plan,
    select_metrics,
    servable,
)
from palette_bench.scoring.extraction import Extraction, ImageSet, obeying
from palette_bench.scoring.features import check_name
from palette_bench.scoring.features.cache import ArrayCache
from palette_bench.scoring.metrics.diagnostics import Diagnostic, summarise
from palette_bench.scoring.metrics.moments import Moments
from palette_bench.scoring.networks import DEFAULT_MODE, Networks, Weights
from palette_bench.scoring.outputs import DiagnosticReadings, OutputImages, PixelDiagnostics
from palette_bench.scoring.reference_resolver import ReferenceResolver
from palette_bench.scoring.references import ReferenceRequest, ReferenceSource, own_originals
from palette_bench.scoring.scorecard import Score, Scorecard, write_scorecard
from palette_bench.scoring.statistics_files import write_statistics
from palette_bench.submission.check import CheckReport, check
from palette_bench.submission.files import open_submission

log = logging.getLogger(__name__)

_BY_ID = frozenset({"PB201", "PB202", "PB206"})  # findings that leave some ids to score


def score(
    submission: AnyPath,
    benchset: AnyPath,
    out: AnyPath,
    *,
    extractors: Sequence[str] = (),
    metrics: Sequence[str] = (),
    weights: Weights = MappingProxyType({}),
    device: str = "cpu",
    precision: str = "fp32",
    mode: str | None = None,
    reference: str | None = None,
    reference_images: AnyPath | None = None,
    n: int | None = None,
    partial: bool = False,
    fresh: bool = False,
    export_statistics: AnyPath | None = None,
    progress: Progress = SILENT,
) -> Scorecard:
    """Score a submission; write its scorecard, with the per-image table beside it.

    Nothing is scored unless every file passes the check, and nothing is downloaded. Under torchrun all ranks
    share the work and return the same scorecard.

    Args:
        submission: a folder or a .zip.
        benchset: folder of the benchmark set.
        out: scorecard to write, `*.json`.
        extractors: ids in order of preference; if empty, those of the protocol.
        metrics: ids of the metrics to compute; if empty, all that the set and the extractors support.
        weights: extractor id -> path of its weights, or `random:SEED`.
        device: cpu or cuda.
        precision: `fp32`; `tf32` and `bf16` for previews; `fp64` for audits.
        mode: resize mode of the FID network: tf1 (the default), clean or pytorch.
        reference: `originals`, `val-full@crop-area-v1`, `val-full@crop256-v1`, or the path of an .npz of
            statistics, which needs mode and n. None uses the cached validation set, or else the originals.
        reference_images: images of the validation set; needed the first time it is requested.
        n: number of images behind an .npz.
        partial: whether to score the ids that are present if ids are missing or unknown. Such a scorecard is
            marked and never ranks.
        fresh: whether to compute features anew even if they are cached.
        export_statistics: .npz to write, with mean and covariance of the outputs' FID features.
        progress: progress display.

    Returns:
        The scorecard as written.

    Raises:
        UsageError: an unknown extractor, metric or reference, or options that do not go together.
        SubmissionError: the check found errors; all are listed.
        BenchSetError: the set is unfinished or damaged.
        SourceError: a reference image cannot be decoded.
        RecordError: PB412, the statistics file is not usable.
        WeightsError: PB705, extractors lack their weights; all are named.
        DeviceError: PB707, this machine lacks the device.
        StorageError: PB802, the scorecard cannot be written.
    """
    submission, out = Path(submission), Path(out)
    export = Path(export_statistics) if export_statistics else None
    images = Path(reference_images) if reference_images else None
    request = ReferenceRequest(reference, images, mode, n)
    request.require_sense()
    target = BenchSet.open(benchset)
    available = tuple(extractors) or target.protocol.extractors
    selection = select_metrics(target, available, metrics)
    if metrics and not extractors:
        available = needed_extractors(selection.features, available) if selection.features else ()
    networks = Networks(
        _names(available, weights, out),
        weights,
        target.protocol.classifier_crop,
        device,
        precision,
        mode or DEFAULT_MODE,
    )
    with distributed.scoring_group() as world, stoppable() as stop:
        world.require_equal("set", target.manifest.set_fingerprint)
        progress = obeying(progress if world.is_main else SILENT, stop)
        opened = world.run_on_all(networks.open)  # report missing weights before the long check
        world.require_equal("extractors", fingerprint([e.fingerprint for e in opened]))
        features, unserved = (selection.features, []) if metrics else servable(selection.features, opened)
        steps = plan(features, opened, ImageLabels.of(target, target.ids) is not None)
        used = [e for e in opened if any(step.extractor is e for step in steps)]
        if idle := [e.id for e in opened if e not in used]:
            log.warning("no metric reads %s: left out", ", ".join(idle))
        checked = world.run_on_main(
            lambda: _check(submission, target, selection.diagnostics, partial, progress)
        )
        checked = replace(checked, problems=(*checked.problems, *unserved))
        world.run_on_main(lambda: atomic.make_folder(out.parent))
        extraction = Extraction(used, ArrayCache("features", fresh=fresh), device, world, progress)
        run = _ScoreRun(
            target, checked, networks, replace(selection, features=features), steps, extraction, fresh
        )
        with open_submission(submission, len(target.ids)) as files:
            return run.card(OutputImages(files, target), request, out, export)


def _names(extractors: Sequence[str], weights: Weights, out: Path) -> list[str]:
    """Return the extractors to open, each once; raise on unusable names or options before any work."""
    names = list(dict.fromkeys(extractors))
    for name in names:
        check_name(name)
    idle = sorted(set(weights) - {*names, *PAIR_WEIGHTS})
    if idle:
        raise UsageError(f"--weights for {', '.join(idle)}, but the extractors are {', '.join(names)}")
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name the card to write, e.g. {out / 'scorecard.json'}")
    return names


@dataclass(frozen=True)
class _CheckedSubmission:
    """The results of one pass over every image: check report, pixel diagnostics and problems."""

    report: CheckReport
    measured: DiagnosticReadings
    problems: tuple[Problem, ...]

    @property
    def ids(self) -> list[ImageId]:
        """Return the ids to score, in the row order of every table."""
        return sorted(self.report.pixels)


def _check(
    submission: Path, target: BenchSet, rows: Sequence[Diagnostic], partial: bool, progress: Progress
) -> _CheckedSubmission:
    """Check a submission and compute its pixel diagnostics from the same decoded images.

    Raises:
        SubmissionError: the check found errors; if `partial`, errors other than PB201, PB202 and PB206.
        BenchSetError: PB602, images of the set are not those that its manifest names.
    """
    look = PixelDiagnostics(target, rows)
    report = check(submission, target.folder, progress=progress, on_output=look)
    problems = report.problems
    if partial and report.pixels and report.card and {p.code for p in errors_of(problems)} <= _BY_ID:
        problems = _partial(report, target)
    elif not report.ok:
        raise SubmissionError(*problems)
    return _CheckedSubmission(report, look.measured(sorted(report.pixels)), problems)


def _partial(report: CheckReport, target: BenchSet) -> tuple[Problem, ...]:
    """Return the findings of an incomplete submission as warnings, with PB205 if images are missing."""
    findings = [replace(p, severity="warning") if p.severity == "error" else p for p in report.problems]
    missing = [i for i in target.ids if i not in report.pixels]
    if missing:
        found = f"{len(report.pixels):,} of {len(target.ids):,} images"
        fix = "restore the missing images; a partial card is shown, never ranked"
        findings.insert(0, problem("PB205", "outputs", expected="all", found=found, fix=fix))
    return tuple(findings)


@dataclass(frozen=True)
class _ScoreRun:
    """A checked submission on one set, with its extractors opened."""

    target: BenchSet
    checked: _CheckedSubmission
    networks: Networks
    selection: MetricSelection
    steps: Sequence[MetricStep]
    extraction: Extraction
    fresh: bool

    def card(
        self, images: OutputImages, request: ReferenceRequest, out: Path, export: Path | None
    ) -> Scorecard:
        """Compute the scores, write the scorecard on rank 0, and return it on every rank."""
        labels = ImageLabels.of(self.target, self.checked.ids)
        steps = self.steps
        if export and not any(step.metric.referenced for step in steps):
            raise UsageError("--export-statistics needs a Fréchet distance among the metrics; there is none")
        statistics = ArrayCache("statistics", fresh=self.fresh)
        resolver = ReferenceResolver(self.target, self.extraction, statistics, steps, self.fresh)
        reference = resolver.choose(request)
        inputs = self._material(images, reference, labels, statistics)
        diversities = self._diversities(images)

        def finish() -> Scorecard:
            closed = self._closed(steps, inputs, resolver)
            if export:
                self._export(export, steps, inputs)
            return self._write(closed, diversities, out)

        return self.extraction.world.run_on_main(finish)

    @property
    def _notes(self) -> tuple[str, ...]:
        return (PARTIAL_NOTE,) if len(self.checked.ids) < self.target.manifest.n else ()

    def _material(
        self,
        images: OutputImages,
        reference: ReferenceSource | None,
        labels: ImageLabels | None,
        statistics: ArrayCache,
    ) -> MetricInputs:
        """Return the features of outputs and originals.

        The originals come first, so that a faulty set fails before time is spent on the outputs.
        """
        digests = {i: self.target.manifest.by_id[i].reference_px for i in self.checked.ids}
        originals = self.extraction.tables(ImageSet("originals", digests, self.target.reference))
        outputs = self.extraction.tables(ImageSet("outputs", self.checked.measured.digests, images.scored))
        keys = self.extraction.keys(digests)
        own = own_originals(self.target, keys, originals, len(digests), statistics)
        return MetricInputs(len(digests), outputs, originals, keys, reference or own, labels, self._notes)

    def _diversities(self, images: OutputImages) -> dict[str, Score]:
        card = self.checked.report.card
        assert card is not None, "a report without errors has a card"
        count = card.target.samples_per_image
        if count < 2 or any(p.code == "PB206" for p in self.checked.problems):
            return {}
        samples = SampledOutputs(
            images, self.checked.ids, count, self.extraction.world, self.extraction.progress
        )
        own = {name: path for name, path in self.networks.weights.items() if name in PAIR_WEIGHTS}
        return samples.scores(self.selection.diversities, own, self.networks.device, self._notes)

    def _closed(
        self, steps: Sequence[MetricStep], inputs: MetricInputs, resolver: ReferenceResolver
    ) -> dict[str, ScoredMetric]:
        """Return the feature scores and pixel diagnostics, in the order of the scorecard."""
        closed = close(steps, inputs)
        matched = resolver.matched(inputs.reference)
        for step in steps:
            if step.metric.id == "fid" and matched is not None:
                closed[MATCHED] = close_matched(step, replace(inputs, reference=matched))
        for row in self.selection.diagnostics:
            outcome = summarise(row, self.checked.measured.readings[row.id])
            closed[row.id] = ScoredMetric(outcome, as_score(row, outcome, inputs.n, notes=self._notes))
        return closed

    def _export(self, path: Path, steps: Sequence[MetricStep], inputs: MetricInputs) -> None:
        """Write the statistics of the outputs in the features that FID reads."""
        step = next(s for s in steps if s.metric.referenced)
        moments = Moments.of(inputs.outputs[step.extractor.id][step.head])
        key = self.extraction.keys(self.checked.measured.digests)[step.extractor.id]
        write_statistics(path, moments, self.networks.mode, key)

    def _write(self, closed: dict[str, ScoredMetric], diversities: dict[str, Score], out: Path) -> Scorecard:
        paper = paper_row(
            self.target.manifest.protocol, self.target.manifest.task, self.target.manifest.source
        )
        scores = {name: _anchored(name, one.score, paper) for name, one in closed.items()}
        card = make_card(
            self.target,
            self.checked.report,
            {**scores, **diversities},
            {e.id: e.fingerprint for e in self.extraction.extractors},
            self.checked.problems,
            self.networks.environment(),
        )
        outcomes = [one.outcome for one in closed.values()]
        table = make_table(self.target, self.checked.ids, self.checked.report.pixels, outcomes)
        return write_scorecard(card, table, out)


def _anchored(name: str, score: Score, paper: dict[str, float]) -> Score:
    """Return the score with the verdict on the paper's scale added to its params, if there is a verdict."""
    return score.model_copy(update={"params": {**score.params, **anchored(name, score, paper)}})
