"""From a trained run to scorecards on a board: restore, score, add; each kept once it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import MANIFEST, ContestantSet
from palette_bench.benchset.sources import Request
from palette_bench.board.record import add_card
from palette_bench.board.site import build_site
from palette_bench.core.types import SILENT, Progress
from palette_bench.scoring.run import score
from palette_bench.submission.card import CARD, Method
from palette_bench.submission.contestant import About, Batch, RestoreOptions, Restorer, load_baseline
from palette_bench.submission.restore import restore
from palette_bench.tasks.protocol import set_folder

PROTOCOL, SOURCE = "palette-mini", "folder:held-out"
ANCHORS = ("original", "copy-input")


@dataclass(frozen=True)
class Named:
    """A restorer under the name a study gives it: boards keep its systems apart.

    Attributes:
        restorer: that does the work.
        slug: on the board.
        title: for people.
    """

    restorer: Restorer
    slug: str
    title: str

    @property
    def about(self) -> About:
        """Return what the restorer says of itself, under the study's name."""
        about = self.restorer.about
        method = about.method.model_dump() | {"slug": self.slug, "name": self.title}
        return replace(about, method=Method(**method))

    @property
    def identity(self) -> str:
        """Return that of the restorer."""
        return self.restorer.identity

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return (N, S, S, 3) uint8."""
        return self.restorer.restore(batch)


@dataclass(frozen=True)
class Judge:
    """What scores a study's outputs.

    Attributes:
        extractors: ids, in order of preference.
        weights: extractor id -> path, or `random:SEED`.
        device: cpu or cuda.
    """

    extractors: tuple[str, ...]
    weights: Mapping[str, str]
    device: str


@dataclass(frozen=True)
class Place:
    """Where a study keeps its sets, submissions, cards, record and site."""

    out: Path

    def benchset(self, target: str) -> Path:
        """Return the folder of a set, TASK/VARIANT."""
        task, _, variant = target.partition("/")
        return self.out / "sets" / set_folder(task, variant)

    def submission(self, name: str, target: str) -> Path:
        """Return the folder of a run's outputs for a set."""
        return self.out / "submissions" / name / self.benchset(target).name

    def card(self, name: str, target: str) -> Path:
        """Return the scorecard of a run on a set."""
        return self.out / "cards" / f"{self.benchset(target).name}.{name}.json"


def make_set(place: Place, target: str, pictures: Path, inputs: int, progress: Progress = SILENT) -> None:
    """Make a set of `inputs` held-out pictures, unless it is there."""
    folder = place.benchset(target)
    if not (folder / MANIFEST).is_file():
        request = Request(SOURCE, pictures, limit=inputs)
        generate(PROTOCOL, target, folder, request=request, progress=progress)


def answer(
    place: Place,
    name: str,
    restorer: Restorer,
    target: str,
    *,
    samples: int = 1,
    batch: int = 16,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> None:
    """Restore a set into a submission, or what of it is missing."""
    benchset = ContestantSet.open(place.benchset(target))
    submission = place.submission(name, target)
    restore(
        restorer,
        benchset,
        submission,
        samples=samples,
        batch_size=batch,
        device=device,
        progress=progress,
    )


def is_answered(place: Place, name: str, target: str) -> bool:
    """Return whether a submission is complete."""
    return (place.submission(name, target) / CARD).is_file()


def judge(place: Place, name: str, target: str, judge: Judge, progress: Progress = SILENT) -> None:
    """Score a submission, unless it is scored: a card is never made twice, its day would differ."""
    card = place.card(name, target)
    if not card.is_file():
        score(
            place.submission(name, target),
            place.benchset(target),
            card,
            extractors=judge.extractors,
            weights=judge.weights,
            device=judge.device,
            progress=progress,
        )


def answer_anchors(place: Place, target: str, scorer: Judge, progress: Progress = SILENT) -> None:
    """Put the ceiling and the floor of a set beside the systems."""
    for name in ANCHORS:
        if not is_answered(place, name, target):
            answer(place, name, load_baseline(name).restorer(RestoreOptions()), target)
        judge(place, name, target, scorer, progress)


def build_board(place: Place) -> Path:
    """Put every card on an ordinary record and build its site; return the site's folder."""
    for card in sorted((place.out / "cards").glob("*.json")):
        add_card(card, place.out / "record")
    build_site(place.out / "record", place.out / "site")
    return place.out / "site"
