"""A study from images to page. Every step's result is kept, so the same command continues after a stop."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from palette_bench.benchset.manifest import BenchSet, ContestantSet
from palette_bench.board.record import add_card
from palette_bench.board.site import build_site
from palette_bench.core.errors import UsageError
from palette_bench.core.journal import locked
from palette_bench.core.types import SILENT, Progress
from palette_bench.scoring.scorecard import read_scorecard
from palette_bench.submission.card import CARD
from palette_bench.submission.restore import restore

from . import evaluation
from .evaluation import ANCHORS, NamedRestorer, StudyFolders, StudyScorer, of_card, of_samples
from .images import HELD_OUT, PACK, SIDE, ImageBudget, Split, split_images
from .page import write_page
from .result import Experiment, Found, experiment
from .runs import PlannedRun, SamplingDemand, advice, batch_of, foretell, recipe_of
from .study import ExperimentStudy, StudyRun, keep_plan, read_presets, read_study, runs_of

logger = logging.getLogger(__name__)

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
    extractors = order.extractors or (DEFAULT_EXTRACTOR,)
    judge = StudyScorer(extractors, order.weights, order.device.partition(":")[0])
    with locked(order.out):
        keep_plan(order.out, study.name, order.size, order.scale, judge.extractors)
        return _ExperimentRun(order, study, judge, progress).make()


class _ExperimentRun:
    """A study being made."""

    def __init__(
        self, order: StudyRequest, study: ExperimentStudy, judge: StudyScorer, progress: Progress
    ) -> None:
        self.order, self.study, self.judge, self.progress = order, study, judge, progress
        presets = read_presets()
        self.caveats = (*presets.caveats, *study.caveats)
        self.preset, self.size = presets.sizes[order.size], study.sizes[order.size]
        self.place = StudyFolders(order.out)
        self.images = order.out / "pictures"
        self.inputs = max(2, round(self.size.inputs * order.scale))

    def make(self) -> Path:
        """Run every step that is not done; return the path of the page."""
        least = max(1, round(self.preset.training_pictures * min(1.0, self.order.scale)))
        wanted = ImageBudget(self.inputs, least, self.preset.most_pictures)
        split = split_images(self.order.data, self.images, wanted, self.progress)
        for target in self.study.sets:
            evaluation.make_set(self.place, target, self.images / HELD_OUT, self.inputs, self.progress)
        self._foretell()
        for trainee in self.trainees.values():
            logger.info("training %s: %d of %d steps done", trainee.run.name, trainee.done, trainee.steps)
            trainee.train(self.images / PACK, progress=self.progress)
        self._answer()
        record = self.order.out / "record"
        for card in sorted((self.order.out / "cards").glob("*.json")):
            add_card(card, record)
        build_site(record, self.order.out / "site")
        result = self._result(split)
        result.write(self.order.out / RESULT)
        return write_page(self.order.out, self.study, result, self.caveats, self._panels())

    @cached_property
    def trainees(self) -> dict[str, PlannedRun]:
        """Return the training runs by name, with their recipes."""
        name = ", ".join(path.name for path in self.order.data)[:200]
        images = self.size.images * self.order.scale
        trainees = {}
        for run in runs_of(self.study, self.size, self.order.seeds or self.size.seeds):
            recipe, folder = (
                recipe_of(run, self.preset.recipe, images, name),
                self.order.out / "runs" / run.name,
            )
            trainees[run.name] = PlannedRun(run, recipe, folder, self.order.device)
        return trainees

    def _targets(self, run: StudyRun) -> list[str]:
        return [target for target in self.study.sets if run.answers(target)]

    def _foretell(self) -> None:
        asked = {name: self._asked(trainee) for name, trainee in self.trainees.items()}
        pack, trial = self.images / PACK, self.preset.trial_steps
        forecast = foretell(self.order.out, self.trainees, asked, pack, trial, self.progress)
        logger.info("%s", advice(forecast, self.order.scale))

    def _asked(self, trainee: PlannedRun) -> SamplingDemand:
        targets = self._targets(trainee.run)
        outputs = len(targets) * self.inputs * self.size.samples
        batch = batch_of(self.place.benchset(targets[0]), self.preset.restore_batch)
        return SamplingDemand(outputs * trainee.evaluations, batch)

    # --- sets answered and scored -------------------------------------------------------------

    def _answer(self) -> None:
        for target in self.study.sets:
            evaluation.answer_anchors(self.place, target, self.judge, self.progress)
        for trainee in self.trainees.values():
            targets = self._targets(trainee.run)
            self._restore(trainee, targets)
            for target in targets:
                evaluation.judge(self.place, trainee.run.name, target, self.judge, self.progress)

    def _restore(self, trainee: PlannedRun, targets: list[str]) -> None:
        run = trainee.run
        missing = [t for t in targets if not (self.place.submission(run.name, t) / CARD).is_file()]
        if not missing:
            return
        title = f"{run.system.title}, {self.study.name} study, seed {run.seed}"
        restorer = NamedRestorer(trainee.restorer(), f"{self.study.name}-{run.system.name}", title)
        for target in missing:
            logger.info("restoring %s by %s", target, run.name)
            restore(
                restorer,
                ContestantSet.open(self.place.benchset(target)),
                self.place.submission(run.name, target),
                samples=self.size.samples,
                batch_size=self.preset.restore_batch,
                device=self.order.device,
                progress=self.progress,
            )

    # --- results ------------------------------------------------------------------------------

    def _found(self) -> Found:
        found = {}
        for run in (trainee.run for trainee in self.trainees.values()):
            for target in self._targets(run):
                ids = BenchSet.open(self.place.benchset(target)).ids
                own = of_samples(self.place.submission(run.name, target), ids, self.size.samples, SIDE)
                readings = of_card(self.place.card(run.name, target)) | own
                found[run.system.name, target, run.seed] = readings
        return found

    def _result(self, split: Split) -> Experiment:
        sets = {t: BenchSet.open(self.place.benchset(t)).manifest.set_fingerprint for t in self.study.sets}
        first = self.place.card(ANCHORS[0], self.study.sets[0])
        return experiment(
            self.study.name,
            self.order.size,
            self.order.scale,
            self.trainees,
            (split.pixels, split.training),
            (read_scorecard(first).fingerprints.extractors, sets),
            self._found(),
            self.study.claims,
        )

    def _panels(self) -> dict[str, dict[str, list[Path]]]:
        """Return set -> caption -> images on the page: inputs, each system's outputs, originals."""
        panels = {}
        for target in self.study.sets:
            benchset = BenchSet.open(self.place.benchset(target))
            ids = benchset.ids[:_SHOWN]
            rows = {"input": [benchset.path("input", i) for i in ids]}
            for run in (trainee.run for trainee in self.trainees.values()):
                if run.seed == 0 and run.answers(target):
                    outputs = self.place.submission(run.name, target) / "outputs"
                    rows[run.system.title] = [outputs / f"{i}.png" for i in ids]
            panels[target] = rows | {"original": [benchset.path("reference", i) for i in ids]}
        return panels
