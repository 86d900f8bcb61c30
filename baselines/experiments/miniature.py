"""The miniature of study l1-l2: draw squares, train runs, sample them, count colours, write a page."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from importlib.resources import files
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from palette_bench.benchset.manifest import ContestantSet, PublicSet
from palette_bench.core import atomic
from palette_bench.core.fingerprint import lines_digest, pixel_digest
from palette_bench.core.intervals import wilson
from palette_bench.core.journal import locked
from palette_bench.core.records import Part, Text, read_file
from palette_bench.core.rng import Stream
from palette_bench.core.types import SILENT, Progress
from palette_bench.submission.methods import Batch
from palette_bench.tasks.degradations.gray import luma

from ..training.recipe import Count
from .evaluation import Readings, SystemReading, of_values
from .images import PACK
from .result import experiment, write_page
from .runs import PlannedRun, recipe_of, train_all
from .study import Sections, StudyDeclaration, StudyRun, keep_plan

# --- squares ---

SIDE, SQUARE = 16, 8  # pixels
COLOURS = np.array([(208, 72, 96), (56, 150, 86)])  # of equal luma; the second is rarer
RARER = 3  # of 10 squares have the rarer colour
_GROUNDS = (160, 224)  # range of gray levels, far from that of the squares
# in distances between the two colours: the mean of all squares, 0.3 away from one colour, counts as neither
_NEAR = 0.25


@dataclass(frozen=True)
class Squares:
    """Gray images with a coloured square.

    Attributes:
        images: (N, 16, 16, 3) uint8.
        masks: (N, 16, 16) bool, True = square.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]

    @property
    def inputs(self) -> NDArray[np.uint8]:
        """Return the inputs of colorization, (N, 16, 16, 1) uint8."""
        return np.stack([luma(image) for image in self.images])[..., None]


def draw(count: int, purpose: str) -> Squares:
    """Return `count` images with keyed position, background and colour."""
    images, masks = np.zeros((count, SIDE, SIDE, 3), np.uint8), np.zeros((count, SIDE, SIDE), bool)
    for number in range(count):
        stream = Stream(f"pb-squares-v1|{purpose}|{number}")
        ground = _GROUNDS[0] + stream.below(_GROUNDS[1] - _GROUNDS[0])
        top, left = stream.below(SIDE - SQUARE + 1), stream.below(SIDE - SQUARE + 1)
        masks[number, top : top + SQUARE, left : left + SQUARE] = True
        colour = COLOURS[int(stream.below(10) < RARER)]
        images[number] = np.where(masks[number, :, :, None], colour, ground)
    return Squares(images, masks)


def measure(outputs: NDArray[np.uint8], squares: Squares) -> Readings:
    """Return which colours a model gave the squares, and its error on the background.

    Args:
        outputs: (N, 16, 16, 3) uint8.
        squares: the original images.

    Returns:
        `minority_share` and `neither_colour`, shares of all squares by their mean colour, and
        `background_error`, the mean absolute difference in the [-1, 1] scale.
    """
    inside = squares.masks[..., None]
    means = np.where(inside, outputs, 0).sum(axis=(1, 2)) / SQUARE**2
    gaps = np.linalg.norm(means[:, None] - COLOURS, axis=2)
    near = gaps <= _NEAR * np.linalg.norm(COLOURS[0] - COLOURS[1])
    errors = np.abs(outputs.astype(np.float64) - squares.images) / 127.5
    ground = np.where(inside, 0, errors).sum(axis=(1, 2, 3)) / (3 * (SIDE**2 - SQUARE**2))
    return {
        "minority_share": _share("minority_share", near[:, 1]),
        "neither_colour": _share("neither_colour", ~near.any(axis=1)),
        "background_error": of_values("background_error", ground, "lower"),
    }


def _share(key: str, hits: NDArray[np.bool_]) -> SystemReading:
    reach = wilson(int(hits.sum()), len(hits))
    value, column = float(hits.mean()), hits.astype(np.float64)
    return SystemReading(key, value, reach.low, reach.high, reach.se, len(hits), column=column)


# --- the study ---

RESULT, SIZE = "experiment.json", "cpu"


class SquaresQuery(Part):
    """How models are sampled: steps and sampler, for methods that sample, and the number of squares."""

    name: Text
    steps: Count
    sampler: str
    squares: Count


class Miniature(StudyDeclaration):
    """Declaration of the miniature, `studies/miniature.toml`."""

    kind: ClassVar[str] = "study-miniature"
    pictures: Count  # number of training images
    trial_steps: Count
    batch: Count
    recipe: Sections
    images: dict[str, Count]  # seen in training, by system
    answers: tuple[SquaresQuery, ...]


def read_miniature() -> Miniature:
    """Return the declaration that ships with the package."""
    file = files(__package__).joinpath("studies", "miniature.toml")
    return Miniature.parse(file.read_bytes(), file.name)


@dataclass(frozen=True)
class MiniatureRun:
    """The miniature being made.

    Attributes:
        out: folder of the miniature.
        scale: factor for the numbers of images and of squares to restore.
        seeds: training runs per system.
        device: device that trains and samples.
        progress: where to report progress.
        study: declaration of the miniature.
    """

    out: Path
    scale: float = 1.0
    seeds: int = 1
    device: str = "cpu"
    progress: Progress = SILENT
    study: Miniature = field(default_factory=read_miniature)

    def make(self) -> Path:
        """Run every step that is not done; return the path of the page.

        Raises:
            InputError: PB605, the folder holds another study. Interrupted: finished work is kept.
        """
        with locked(self.out):
            keep_plan(self.out, self.study.name, SIZE, self.scale)
            study, pack = self.study, self.out / PACK
            # a larger number of squares includes those of a smaller number
            count = max(study.recipe["training"]["batch"], round(study.pictures * min(1, self.scale)))
            images = draw(count, "training").images
            if not pack.is_file():
                atomic.write_bytes(pack, safetensors.numpy.save({"pictures": images}))
            tests = {
                query.name: draw(max(2, round(query.squares * self.scale)), "test") for query in study.answers
            }
            batch = batch_of(tests[study.answers[0].name].inputs[: study.batch], 0)
            demands = {}
            for name, trainee in self.trainees.items():
                steps = {q.name: q.steps if trainee.samples else 1 for q in study.answers}
                demands[name] = sum(len(tests[query].images) * n for query, n in steps.items()), batch
            trial = study.trial_steps
            train_all(self.out, self.trainees, demands, pack, trial, self.scale, self.progress)
            found = {
                (trainee.run.system.name, query.name, trainee.run.seed): measure(
                    self._outputs(trainee, query, tests[query.name].inputs), tests[query.name]
                )
                for trainee, query in product(self.trainees.values(), study.answers)
            }
            data = lines_digest(map(pixel_digest, images)), len(images)
            sets = {name: lines_digest(map(pixel_digest, test.images)) for name, test in tests.items()}
            result = experiment(study, SIZE, self.scale, self.trainees, found, data, sets, {})
            result.write(self.out / RESULT)
            return write_page(self.out, study, result, study.caveats, {}, site=False)

    @cached_property
    def trainees(self) -> dict[str, PlannedRun]:
        """Return the training runs by name."""
        trainees = {}
        for seed, system in product(range(self.seeds), self.study.systems):
            run = StudyRun(f"{system.name}.{seed}", system, system.tasks, seed)
            recipe = recipe_of(run, self.study.recipe, self.study.images[system.name] * self.scale, "squares")
            trainees[run.name] = PlannedRun(run, recipe, self.out / "runs" / run.name, self.device)
        return trainees

    def _outputs(
        self, trainee: PlannedRun, query: SquaresQuery, inputs: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """Return the outputs of a run, (N, 16, 16, 3) uint8; sample them unless they are stored."""
        file = self.out / "answers" / f"{trainee.run.name}.{query.sampler}-{query.steps}.safetensors"
        if file.is_file():
            return safetensors.numpy.load(read_file(file))["outputs"]
        restorer = trainee.restorer(
            **({"steps": query.steps, "sampler": query.sampler} if trainee.samples else {})
        )
        parts = []
        with self.progress(f"{trainee.run.name}: {query.name}", len(inputs)) as advance:
            for start in range(0, len(inputs), self.study.batch):
                batch = batch_of(inputs[start : start + self.study.batch], start)
                parts.append(restorer.restore(batch))
                advance(len(batch.ids))
        outputs = np.concatenate(parts)
        atomic.write_bytes(file, safetensors.numpy.save({"outputs": outputs}))
        return outputs


def batch_of(inputs: NDArray[np.uint8], first: int) -> Batch:
    """Return squares as a batch of a set; their numbers become ids, which key the noise.

    Args:
        inputs: (N, 16, 16, 1) uint8.
        first: number of the first square.
    """
    public = PublicSet(
        schema=PublicSet.schema_name(),
        protocol="palette-mini",
        task="colorization",
        variant="default",
        source="folder:squares",
        set_fingerprint=lines_digest([]),
        items=(),
    )
    ids = tuple(f"square-{first + number:05d}" for number in range(len(inputs)))
    return Batch(ids, inputs, None, ContestantSet(Path(), public, public.rules))
