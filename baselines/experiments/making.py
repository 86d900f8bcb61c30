"""A study from images to page. Every step's result is kept, so the same command continues after a stop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import MANIFEST, BenchSet, ContestantSet
from palette_bench.benchset.sources import Request
from palette_bench.board.record import add_card
from palette_bench.board.site import build_site
from palette_bench.core.errors import UsageError
from palette_bench.core.journal import locked
from palette_bench.core.types import SILENT, Progress
from palette_bench.scoring.score import score
from palette_bench.scoring.scorecard import read_scorecard
from palette_bench.submission.card import CARD
from palette_bench.submission.methods import RestoreOptions, load_baseline
from palette_bench.submission.restore import restore
from palette_bench.tasks.protocol import set_folder

from .evaluation import NamedRestorer, of_card, of_samples
from .images import HELD_OUT, PACK, SIDE, ImageBudget, Split, split_images
from .result import Experiment, experiment, write_page
from .runs import PlannedRun, batch_of, recipe_of, train_all
from .study import ExperimentStudy, StudyRun, keep_plan, read_presets, read_study, runs_of

logger = logging.getLogger(__name__)

PROTOCOL, SOURCE = "palette-mini", "folder:held-out"
ANCHORS = ("original", "copy-input")
RESULT = "experiment.json"
DEFAULT_EXTRACTOR = "efficientnet-lite0"
_SHOWN = 8  # images per set on the page


@dataclass(frozen=True)
class StudyRequest:
    """What the user asked for.

    Attributes:
        study: name of the study.
        size: quick, full or cpu.
        data: images, as `train` takes them.
        out: folder of the study.
        scale: factor for the numbers of images and inputs.
        seeds: training runs per system; None takes the size's number.
        device: device that trains and restores.
        extractors: ids in order of preference; empty for the default extractor.
        weights: extractor id -> path, or `random:SEED`.
    """

    study: str
    size: str
    data: tuple[Path, ...]
    out: Path
    scale: float
    seeds: int | None
    device: str
    extractors: tuple[str, ...]
    weights: Mapping[str, str]


def make(order: StudyRequest, progress: Progress = SILENT) -> Path:
    """Make a study, or continue it; return the path of its page.

    Raises:
        UsageError: the study is unknown, or does not have this size.
        InputError: PB605, the folder holds another study; PB610, PB611, and errors of the images.
        StorageError: PB801-PB804. Interrupted: a stop signal came; finished work is kept.
    """
    study = read_study(order.study)
    if order.size not in study.sizes:
        raise UsageError(f"{study.name} has no size {order.size}: take {', '.join(study.sizes)}")
    with locked(order.out):
        run = _ExperimentRun(order, study, progress)
        keep_plan(order.out, study.name, order.size, order.scale, run.extractors)
        return run.make()


class _ExperimentRun:
    """A study being made."""

    def __init__(self, order: StudyRequest, study: ExperimentStudy, progress: Progress) -> None:
        self.order, self.study, self.progress = order, study, progress
        self.extractors = order.extractors or (DEFAULT_EXTRACTOR,)
        presets = read_presets()
        self.caveats = (*presets.caveats, *study.caveats)
        self.preset, self.size = presets.sizes[order.size], study.sizes[order.size]
        self.images = order.out / "pictures"
        self.inputs = max(2, round(self.size.inputs * order.scale))

    def make(self) -> Path:
        """Run every step that is not done; return the path of the page."""
        out = self.order.out
        least = max(1, round(self.preset.training_pictures * min(1.0, self.order.scale)))
        wanted = ImageBudget(self.inputs, least, self.preset.most_pictures)
        split = split_images(self.order.data, self.images, wanted, self.progress)
        for target in self.study.sets:
            folder = self._set(target)
            if not (folder / MANIFEST).is_file():
                request = Request(SOURCE, self.images / HELD_OUT, limit=self.inputs)
                generate(PROTOCOL, target, folder, request=request, progress=self.progress)
        demands = {}
        for name, trainee in self.trainees.items():
            targets = self._targets(trainee.run)
            evaluations = len(targets) * self.inputs * self.size.samples * trainee.evaluations
            batch = batch_of(self._set(targets[0]), self.preset.restore_batch)
            demands[name] = evaluations, batch
        pack, trial = self.images / PACK, self.preset.trial_steps
        train_all(out, self.trainees, demands, pack, trial, self.order.scale, self.progress)
        self._restore_and_score()
        record = out / "record"
        for card in sorted((out / "cards").glob("*.json")):
            add_card(card, record)
        build_site(record, out / "site")
        benchsets = {target: BenchSet.open(self._set(target)) for target in self.study.sets}
        result = self._result(split, benchsets)
        result.write(out / RESULT)
        return write_page(out, self.study, result, self.caveats, self._panels(benchsets))

    @cached_property
    def trainees(self) -> dict[str, PlannedRun]:
        """Return the training runs by name, with their recipes."""
        name = ", ".join(path.name for path in self.order.data)[:200]
        images = self.size.images * self.order.scale
        trainees, folder = {}, self.order.out / "runs"
        for run in runs_of(self.study, self.size, self.order.seeds or self.size.seeds):
            recipe = recipe_of(run, self.preset.recipe, images, name)
            trainees[run.name] = PlannedRun(run, recipe, folder / run.name, self.order.device)
        return trainees

    def _set(self, target: str) -> Path:
        """Return the folder of a set, given as TASK/VARIANT."""
        task, _, variant = target.partition("/")
        return self.order.out / "sets" / set_folder(task, variant)

    def _submission(self, name: str, target: str) -> Path:
        """Return the folder of a run's outputs for a set."""
        return self.order.out / "submissions" / name / self._set(target).name

    def _card(self, name: str, target: str) -> Path:
        """Return the path of a run's scorecard on a set."""
        return self.order.out / "cards" / f"{self._set(target).name}.{name}.json"

    def _targets(self, run: StudyRun) -> list[str]:
        """Return the sets of the tasks that a run is trained for."""
        return [target for target in self.study.sets if run.answers(target)]

    def _restore_and_score(self) -> None:
        """Let the anchors and all trained runs restore the sets, and score their outputs."""
        for target, name in product(self.study.sets, ANCHORS):
            submission = self._submission(name, target)
            if not (submission / CARD).is_file():
                restorer = load_baseline(name).restorer(RestoreOptions())
                restore(restorer, ContestantSet.open(self._set(target)), submission, device="cpu")
            self._score(name, target)
        for trainee in self.trainees.values():
            self._restore(trainee)
            for target in self._targets(trainee.run):
                self._score(trainee.run.name, target)

    def _restore(self, trainee: PlannedRun) -> None:
        """Restore the sets of a run that have no submission yet; its model is let go before scoring."""
        run = trainee.run
        missing = [t for t in self._targets(run) if not (self._submission(run.name, t) / CARD).is_file()]
        if not missing:
            return
        title = f"{run.system.title}, {self.study.name} study, seed {run.seed}"
        restorer = NamedRestorer(trainee.restorer(), f"{self.study.name}-{run.system.name}", title)
        for target in missing:
            logger.info("restoring %s by %s", target, run.name)
            restore(
                restorer,
                ContestantSet.open(self._set(target)),
                self._submission(run.name, target),
                samples=self.size.samples,
                batch_size=self.preset.restore_batch,
                device=self.order.device,
                progress=self.progress,
            )

    def _score(self, name: str, target: str) -> None:
        """Score a submission, unless its scorecard exists: a new one would have another date."""
        card = self._card(name, target)
        if not card.is_file():
            score(
                self._submission(name, target),
                self._set(target),
                card,
                extractors=self.extractors,
                weights=self.order.weights,
                device=self.order.device.partition(":")[0],
                progress=self.progress,
            )

    def _result(self, split: Split, benchsets: Mapping[str, BenchSet]) -> Experiment:
        """Return the record: every reading of every run, on all sets."""
        found = {}
        for run in (trainee.run for trainee in self.trainees.values()):
            for target in self._targets(run):
                outputs = self._submission(run.name, target)
                own = of_samples(outputs, benchsets[target].ids, self.size.samples, SIDE)
                found[run.system.name, target, run.seed] = of_card(self._card(run.name, target)) | own
        sets = {target: benchset.manifest.set_fingerprint for target, benchset in benchsets.items()}
        extractors = read_scorecard(self._card(ANCHORS[0], self.study.sets[0])).fingerprints.extractors
        size, scale, data = self.order.size, self.order.scale, (split.pixels, split.training)
        return experiment(self.study, size, scale, self.trainees, found, data, sets, extractors)

    def _panels(self, benchsets: Mapping[str, BenchSet]) -> dict[str, dict[str, list[Path]]]:
        """Return set -> caption -> images on the page: inputs, each system's outputs, originals."""
        panels = {}
        for target, benchset in benchsets.items():
            ids = benchset.ids[:_SHOWN]
            rows = {"input": [benchset.path("input", i) for i in ids]}
            for run in (trainee.run for trainee in self.trainees.values()):
                if run.seed == 0 and run.answers(target):
                    outputs = self._submission(run.name, target) / "outputs"
                    rows[run.system.title] = [outputs / f"{i}.png" for i in ids]
            panels[target] = rows | {"original": [benchset.path("reference", i) for i in ids]}
        return panels
