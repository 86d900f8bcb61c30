"""`score`: check a submission, extract features, compute metrics, and write the scorecard last.

Every rank of a distributed run goes through the same steps. Rank 0 checks, computes final scores and writes.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core import atomic
from palette_bench.core.errors import BenchSetError, Problem, SubmissionError, UsageError, errors_of, problem
from palette_bench.core.processes import stoppable
from palette_bench.core.types import SILENT, AnyPath, Fingerprint, ImageId, Progress
from palette_bench.runtime import distributed
from palette_bench.scoring.card import environment, make_card, make_table
from palette_bench.scoring.evaluate import PARTIAL_NOTE, ScoredMetric, score_all
from palette_bench.scoring.extraction import Extraction, ImageSet, obeying
from palette_bench.scoring.features import DEFAULT_MODE, PAIR_WEIGHTS, Weights
from palette_bench.scoring.features.cache import ArrayCache
from palette_bench.scoring.metrics.diagnostics import Diagnostic, DiagnosticReading
from palette_bench.scoring.metrics.diversity import Diversity
from palette_bench.scoring.metrics.moments import Moments
from palette_bench.scoring.outputs import MeasuredOutput, OutputImages, measure
from palette_bench.scoring.pair_scores import ComparedImages, diversities, paired_scores
from palette_bench.scoring.parts import NO_PARTS, FinishedParts, ScoreParts
from palette_bench.scoring.reference_resolver import ReferenceResolver
from palette_bench.scoring.references import ReferenceRequest
from palette_bench.scoring.scorecard import Score, Scorecard, write_scorecard
from palette_bench.scoring.scoring_plan import ScoringChoice, ScoringPlan
from palette_bench.submission.check import CheckReport, SubmissionCheck
from palette_bench.submission.files import open_submission
from palette_bench.submission.output_reader import CheckedOutput
from palette_bench.tasks import canary

log = logging.getLogger(__name__)

FORGIVEN = frozenset({"PB201", "PB202", "PB206"})  # findings that leave some ids to score


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
    parts: AnyPath | None = None,
    workers: int = 1,
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
        mode: resize mode of the FID network (default: tf1) and of DINOv2 (default: pytorch): tf1, clean or
            pytorch.
        reference: `originals`, `val-full@crop-area-v1`, `val-full@crop256-v1`, or the path of an .npz of
            statistics, which needs mode and n. None uses the cached validation set, or else the originals.
        reference_images: images of the validation set; needed the first time it is requested.
        n: number of images behind an .npz.
        partial: whether to score the ids that are present if ids are missing or unknown. Such a scorecard is
            marked and never ranks.
        fresh: whether to compute features anew even if they are cached.
        export_statistics: .npz to write, with mean and covariance of the outputs' FID features.
        parts: folder in which shards have left what they measured; what it lacks is measured here. An equal
            card that is there already is kept.
        workers: number of processes of rank 0 that check and measure pixels.
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
    folder = Path(reference_images) if reference_images else None
    request = ReferenceRequest(reference, folder, mode, n)
    request.require_sense()
    target = BenchSet.open(benchset)
    choice = ScoringChoice.of(target, out, extractors, metrics, weights)
    selection = choice.selection
    with distributed.scoring_group() as world, stoppable() as stop:
        world.require_equal("set", target.manifest.set_fingerprint)
        progress = obeying(progress if world.is_main else SILENT, stop)
        # Networks are opened before the long check, so that missing weights are reported first.
        plan = ScoringPlan.open(choice, device, precision, mode, world)
        done = ScoreParts.of(plan, Path(parts)).finished() if parts else NO_PARTS
        checked = world.run_on_main(
            lambda: _check(
                submission, target, selection.diagnostics, partial, workers, progress, done.outputs
            )
        )
        world.run_on_main(lambda: atomic.make_folder(out.parent))
        steps, used = plan.steps, plan.used
        if export and not any(step.metric.referenced for step in steps):
            raise UsageError("--export-statistics needs a Fréchet distance among the metrics; there is none")
        cache = ArrayCache("features", fresh=fresh)
        extraction = Extraction(used, cache, device, world, progress, done.features)
        statistics = ArrayCache("statistics", fresh=fresh)
        resolver = ReferenceResolver(target, extraction, statistics, steps, fresh)
        notes = (PARTIAL_NOTE,) if len(checked.ids) < target.manifest.n else ()
        with open_submission(submission, len(target.ids)) as files:
            images = OutputImages(files, target)
            outputs = ImageSet("outputs", checked.digests, images.scored)
            inputs = resolver.inputs(request, checked.ids, lambda: extraction.tables(outputs), notes)
            distances = _distances(images, checked, plan, extraction, notes, done)
            several = _diversities(images, checked, selection.diversities, weights, extraction, notes, done)

        def finish() -> Scorecard:
            matched = resolver.matched(inputs.reference)
            scored = {**score_all(steps, inputs, matched, checked.readings), **distances}
            if export:
                from palette_bench.scoring.statistics_files import write_statistics  # noqa: PLC0415

                step = next(s for s in steps if s.metric.referenced)
                moments = Moments.of(inputs.outputs[step.extractor.id][step.head])
                key = extraction.keys(checked.digests)[step.extractor.id]
                write_statistics(export, moments, mode or DEFAULT_MODE, key)
            card = make_card(
                target,
                checked.report,
                {**{name: one.score for name, one in scored.items()}, **several},
                plan.fingerprints,
                (*checked.problems, *plan.unserved),
                environment(device, precision),
            )
            outcomes = [one.outcome for one in scored.values()]
            table = make_table(target, checked.ids, checked.report.pixels, outcomes)
            return write_scorecard(card, table, out, keep_equal=bool(parts))

        return world.run_on_main(finish)


@dataclass(frozen=True)
class _CheckedSubmission:
    """The results of one pass over every image.

    Attributes:
        ids: ids to score, in the row order of every table.
        report: report of the check.
        digests: id -> pixel digest of the scored image.
        readings: diagnostic id -> one reading per image, in the order of `ids`.
        problems: findings to record with the scores.
    """

    ids: list[ImageId]
    report: CheckReport
    digests: dict[ImageId, Fingerprint]
    readings: dict[str, list[DiagnosticReading]]
    problems: tuple[Problem, ...]


def _measured(
    diagnostics: Sequence[str],
    known: Mapping[tuple[ImageId, Fingerprint], MeasuredOutput],
    output: CheckedOutput,
) -> MeasuredOutput:
    return known.get((output.image_id, output.digest)) or measure(output, diagnostics)


def _check(
    submission: Path,
    target: BenchSet,
    rows: Sequence[Diagnostic],
    partial: bool,
    workers: int,
    progress: Progress,
    known: Mapping[tuple[ImageId, Fingerprint], MeasuredOutput],
) -> _CheckedSubmission:
    """Check a submission and compute its pixel diagnostics from the same decoded images.

    Outputs that a shard has measured, by id and pixel digest, are checked and not measured again.

    Raises:
        SubmissionError: the check found errors; if `partial`, errors other than PB201, PB202 and PB206.
        BenchSetError: PB602, images of the set are not those that its manifest names; all are listed.
    """
    canary.prove()
    with open_submission(submission, len(target.ids)) as files:
        checking = SubmissionCheck(files, target)
        inspect = functools.partial(_measured, [row.id for row in rows], known)
        workers = 1 if known else workers  # the known outputs would travel to every process
        with closing(checking.read_outputs(inspect, workers=workers, progress=progress)) as outputs:
            measured = {one.image_id: one for one in outputs}
        report = checking.report()
    problems = report.problems
    if partial and measured and report.card and {p.code for p in errors_of(problems)} <= FORGIVEN:
        # errors become warnings, and PB205 says how many images are missing
        findings = [replace(p, severity="warning") if p.severity == "error" else p for p in problems]
        if len(measured) < len(target.ids):
            found = f"{len(measured):,} of {len(target.ids):,} images"
            fix = "restore the missing images; a partial card is shown, never ranked"
            findings.insert(0, problem("PB205", "outputs", expected="all", found=found, fix=fix))
        problems = tuple(findings)
    elif not report.ok:
        raise SubmissionError(*problems)
    ids = sorted(measured)
    require_intact(target, [i for i in ids if not measured[i].intact])
    readings = {row.id: [measured[i].readings[row.id] for i in ids] for row in rows}
    return _CheckedSubmission(ids, report, {i: measured[i].digest for i in ids}, readings, problems)


def require_intact(target: BenchSet, damaged: Sequence[ImageId]) -> None:
    """Raise if images of the set are not those that its manifest names.

    Raises:
        BenchSetError: PB602, lists all of them.
    """
    if damaged:
        raise BenchSetError.of(
            "PB602",
            str(target.folder),
            expected="the pixels the manifest names",
            found="other pixels in reference, input or mask",
            fix=f"palette-bench verify {target.folder}",
            ids=damaged,
        )


def _distances(
    images: OutputImages,
    checked: _CheckedSubmission,
    plan: ScoringPlan,
    extraction: Extraction,
    notes: tuple[str, ...],
    done: FinishedParts,
) -> dict[str, ScoredMetric]:
    """Return the paired distances of sample 1 of each image to its original."""
    target, ids = plan.target, checked.ids
    pairs = ComparedImages(ids, images.with_original, extraction.world, extraction.progress, done.distances)
    originals = {i: target.manifest.by_id[i].reference_px for i in ids}
    return paired_scores(pairs, plan.distances, originals, notes)


def _diversities(
    images: OutputImages,
    checked: _CheckedSubmission,
    rows: Sequence[Diversity],
    weights: Weights,
    extraction: Extraction,
    notes: tuple[str, ...],
    done: FinishedParts,
) -> dict[str, Score]:
    """Return the diversity scores; none unless every image has several samples."""
    assert checked.report.card is not None, "a report without errors has a card"
    count = checked.report.card.target.samples_per_image
    if count < 2 or any(p.code == "PB206" for p in checked.problems):
        return {}
    samples = ComparedImages(
        checked.ids,
        lambda image_id: images.samples(image_id, count),
        extraction.world,
        extraction.progress,
        done.distances,
    )
    own = {name: path for name, path in weights.items() if name in PAIR_WEIGHTS}
    return diversities(samples, rows, own, extraction.device, notes)
