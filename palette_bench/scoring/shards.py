"""A shard of a scoring run measures its part of a submission; the last one writes the card.

A shard decodes, measures and extracts whole micro-batches, so every image meets the neighbours that it has in
a run of one process. The run that closes the card checks the whole submission and measures what no shard has.
Hence a lost, repeated or late shard costs time and changes no number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core import atomic
from palette_bench.core.errors import (
    InputError,
    Problem,
    SubmissionError,
    UsageError,
    WeightsError,
    errors_of,
    problem,
)
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.core.journal import Shard, locked
from palette_bench.core.png import PngError
from palette_bench.core.processes import in_threads, is_main_process, launched, stoppable
from palette_bench.core.types import SILENT, AnyPath, Image, ImageId, Progress
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.scoring.extraction import Extraction, ImageSet
from palette_bench.scoring.features import PAIR_WEIGHTS, Weights, open_pair_distance
from palette_bench.scoring.features.cache import ArrayCache
from palette_bench.scoring.features.pairs import PairDistance
from palette_bench.scoring.metrics.diversity import Diversity
from palette_bench.scoring.outputs import OutputImages, measure
from palette_bench.scoring.pair_scores import PairRow, distances, distances_key
from palette_bench.scoring.parts import ScoreParts, entry_of, parts_folder
from palette_bench.scoring.score import FORGIVEN, require_intact, score
from palette_bench.scoring.scorecard import Scorecard
from palette_bench.scoring.scoring_plan import ScoringChoice, ScoringPlan
from palette_bench.submission.check import SubmissionCheck, read_output
from palette_bench.submission.files import Submission, open_submission, output_name
from palette_bench.submission.output_reader import CheckedOutput
from palette_bench.tasks import canary


def score_shard(
    submission: AnyPath,
    benchset: AnyPath,
    out: AnyPath,
    shard: Shard,
    *,
    extractors: Sequence[str] = (),
    metrics: Sequence[str] = (),
    weights: Weights | None = None,
    device: str = "cpu",
    precision: str = "fp32",
    mode: str | None = None,
    partial: bool = False,
    fresh: bool = False,
    progress: Progress = SILENT,
    **closing: Any,
) -> Scorecard | None:
    """Measure a part of a submission; if all parts are there, write the scorecard and return it.

    Args:
        submission: a folder or a .zip, the same for all shards.
        benchset: folder of the benchmark set.
        out: the scorecard, `*.json`; the parts lie beside it, in a folder that all shards can write.
        shard: the part to measure.
        extractors: ids in order of preference; this and what follows is as in `score`.
        metrics: ids of the metrics to compute.
        weights: extractor id -> path of its weights, or `random:SEED`.
        device: cpu or cuda, the same for all shards.
        precision: arithmetic of the networks.
        mode: resize mode of the FID network.
        partial: whether to score the ids that are present.
        fresh: whether to measure this part anew.
        progress: progress display.
        closing: further options of `score`, which the shard that writes the card uses.

    Returns:
        The card, or None while other shards are missing.

    Raises:
        UsageError: under torchrun, whose ranks share the work already; otherwise as `score`.
        SubmissionError: the submission lacks files, or files of this part break a rule.
        InputError: PB605, the parts beside the card are those of another run.
        StorageError: PB803, this shard is running already. PB802.
        BenchSetError, WeightsError, DeviceError: as `score`.
    """
    if launched():
        raise UsageError("leave out --shard under torchrun: its ranks share the work already")
    submission, out, weights = Path(submission), Path(out), weights or {}
    target = BenchSet.open(benchset)
    choice = ScoringChoice.of(target, out, extractors, metrics, weights)
    plan = ScoringPlan.open(choice, device, precision, mode, ProcessGroup())
    parts = ScoreParts.of(plan, parts_folder(out))
    canary.prove()
    with locked(parts.folder, shard):
        for folder in (parts.folder, parts.folder / "features"):
            atomic.sweep(folder)
        with open_submission(submission, len(target.ids)) as files, stoppable() as stop:
            ids, samples = _answered(files, target, partial)
            run = _ShardRun(plan, parts, files, shard, ids, samples, weights, fresh)
            run.work(progress, stop)
        if not parts.journal(shard).entries.keys() >= set(ids):
            return None
        return score(
            submission,
            benchset,
            out,
            extractors=extractors,
            metrics=metrics,
            weights=weights,
            device=device,
            precision=precision,
            mode=mode,
            partial=partial,
            parts=parts.folder,
            progress=progress,
            **closing,
        )


def merge_shards(submission: AnyPath, benchset: AnyPath, out: AnyPath, **options: Any) -> Scorecard:
    """Write the scorecard from the parts that shards have left; what they lack is measured here.

    Raises:
        UsageError: there are no parts beside the card; otherwise as `score`.
        StorageError: PB803, a shard is running.
    """
    folder = parts_folder(Path(out))
    if not folder.is_dir():
        raise UsageError(f"--merge: there is no {folder}; `score --shard I/N` with the same -o makes it")
    with locked(folder) if is_main_process() else nullcontext():
        return score(submission, benchset, out, parts=folder, **options)


def _answered(files: Submission, target: BenchSet, some: bool) -> tuple[list[ImageId], int]:
    """Return the ids that the submission answers, and its samples per image.

    Args:
        files: the submission.
        target: the benchmark set.
        some: whether ids may be missing.

    Raises:
        SubmissionError: card or file names break a rule; all such problems are listed.
    """
    report = SubmissionCheck(files, target).report()
    faults = [p for p in errors_of(report.problems) if not (some and p.code in FORGIVEN)]
    if faults or report.card is None:
        raise SubmissionError(*report.problems)
    names = set(files.names)
    samples = report.card.target.samples_per_image
    complete = not any(p.code == "PB206" for p in report.problems)
    return sorted(i for i in target.ids if output_name(i) in names), samples if complete else 1


@dataclass
class _ShardRun:
    """One call of `score_shard`, after the submission is opened."""

    plan: ScoringPlan
    parts: ScoreParts
    files: Submission
    shard: Shard
    ids: Sequence[ImageId]
    samples: int
    weights: Weights
    fresh: bool
    faults: list[Problem] = field(default_factory=list)
    damaged: list[ImageId] = field(default_factory=list)

    def work(self, progress: Progress, stop: Callable[[], None]) -> None:
        """Measure the micro-batches of this shard that are not measured yet; stop signals wait for one.

        Raises:
            SubmissionError: files break a rule; all of this shard are listed.
            BenchSetError: PB602, images of the set are not those of its manifest.
            Interrupted: a stop signal came; finished micro-batches are kept.
        """
        size = self.parts.batch
        mine = ProcessGroup(self.shard.index, self.shard.count).shard(self.ids, size)
        journal = self.parts.journal(self.shard)
        kept = {} if self.fresh else {i: journal.entries[i] for i in mine if i in journal.entries}
        journal.start(kept.values())
        # Read the journals again: of two shards that start together with different settings, one finds the
        # other's header and raises PB605.
        journal = self.parts.journal(self.shard)
        with progress("measuring", len(mine)) as advance:
            for start in range(0, len(mine), size):
                chunk = mine[start : start + size]
                outputs = self._read(chunk)
                if len(outputs) == len(chunk):
                    known = [kept[i] for i in chunk if i in kept and kept[i]["px"] == outputs[i].digest]
                    if entries := self._measured(outputs, known):
                        journal.add(entries)
                advance(len(chunk))
                stop()
        if self.faults:
            raise SubmissionError(*self.faults)
        require_intact(self.plan.target, self.damaged)

    def _read(self, chunk: Sequence[ImageId]) -> dict[ImageId, CheckedOutput]:
        """Return the outputs of a micro-batch that are valid; note the faults of the others."""
        target, found = self.plan.target, {}

        def read(image_id: ImageId) -> CheckedOutput | PngError:
            try:
                image = read_output(self.files, image_id, target.protocol.side)
            except PngError as error:
                return error
            condition, mask = target.condition(image_id), target.mask(image_id)
            digests = pixel_digest(image), pixel_digest(condition)
            return CheckedOutput(image_id, image, condition, mask, *digests, target)

        for image_id, output in zip(chunk, in_threads(read, chunk), strict=True):
            if isinstance(output, CheckedOutput):
                found[image_id] = output
                continue
            fix = f"palette-bench check {self.files.path} --set {target.folder} says what to do"
            where, wrong = output_name(image_id), output.found
            self.faults.append(problem(output.code, where, expected=output.expected, found=wrong, fix=fix))
        return found

    def _measured(
        self, outputs: Mapping[ImageId, CheckedOutput], known: Sequence[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Store the features of a micro-batch, and return its journal entries.

        Args:
            outputs: the outputs of the micro-batch.
            known: their entries in the journal. If all are there, only features that were lost are made.

        Returns:
            New entries; none if all are known, or if images of the set are damaged, which is noted.
        """
        target, ids = self.plan.target, list(outputs)
        whole = len(known) == len(ids)
        if whole:
            digests = {entry["id"]: entry["scored"] for entry in known}
        else:
            names = [row.id for row in self.plan.selection.diagnostics]
            found = in_threads(lambda output: measure(output, names), outputs.values())
            measured = {one.image_id: one for one in found}
            if damaged := [i for i in ids if not measured[i].intact]:
                self.damaged += damaged
                return []
            digests = {i: measured[i].digest for i in ids}
        self._networks.store_part(ImageSet("outputs", digests, self._images.scored))
        pixels = {i: target.manifest.by_id[i].reference_px for i in ids}
        self._networks_for_originals.store_part(ImageSet("originals", pixels, target.reference))
        if whole:
            return []
        return [entry_of(outputs[i].digest, measured[i], dict(self._compared(i))) for i in ids]

    def _compared(self, image_id: ImageId) -> Iterator[tuple[str, list[float]]]:
        """Yield (key, distances) of the images of an id, for each pair distance that knows this size."""
        compared: list[tuple[PairRow, PairDistance, list[Image]]] = []
        if self._diversities:
            samples = self._images.samples(image_id, self.samples)
            compared += [(row, distance, samples) for row, distance in self._diversities]
        if self.plan.distances:
            both = self._images.with_original(image_id)
            compared += [(row, distance, both) for row, distance in self.plan.distances if distance]
        for row, distance, images in compared:
            with suppress(InputError):  # the images are too small; the card says so
                yield distances_key(row, distance, images), distances(row, distance, images).tolist()

    @cached_property
    def _images(self) -> OutputImages:
        return OutputImages(self.files, self.plan.target)

    @cached_property
    def _networks(self) -> Extraction:
        features = self.parts.features(fresh=self.fresh)
        return Extraction(self.plan.used, ArrayCache("features"), self.plan.device, parts=features)

    @cached_property
    def _networks_for_originals(self) -> Extraction:
        """Return the networks whose features of the set's originals are not in this machine's cache."""
        cache = self._networks.cache
        keys = self._networks.keys({i: self.plan.target.manifest.by_id[i].reference_px for i in self.ids})
        lacking = [e for e in self.plan.used if self.fresh or cache.load(keys[e.id]) is None]
        return replace(self._networks, extractors=lacking)

    @cached_property
    def _diversities(self) -> list[tuple[Diversity, PairDistance]]:
        """Return the diversities that can be computed here, with their distances."""
        own = {name: path for name, path in self.weights.items() if name in PAIR_WEIGHTS}
        found = []
        for row in self.plan.selection.diversities if self.samples > 1 else ():
            with suppress(WeightsError):  # the card says so; it is written without this score
                found.append((row, open_pair_distance(row.distance, own, self.plan.device)))
        return found
