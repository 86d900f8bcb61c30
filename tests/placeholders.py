"""Small real things behind the names that the documentation uses for what a reader has: SET, SUB, RUN ..."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import numpy as np
from common import REPOSITORY
from PIL import Image as PillowImage
from plans import write_plan
from raters import SCREEN
from submissions import copied, submit, zipped
from toy_method import write_images

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import export_public
from palette_bench.benchset.sources import Request
from palette_bench.board.record import add_card
from palette_bench.board.site import build_site
from palette_bench.core.png import encode
from palette_bench.core.types import SILENT
from palette_bench.scoring.score import score
from palette_bench.scoring.scorecard import read_scorecard, read_table
from palette_bench.study.design import design
from palette_bench.study.folder import StudyFolder
from palette_bench.study.store import STORE, VoteStore
from palette_bench.submission.methods import TrainOptions, load_baseline

# A network whose cost does not matter, which knows every task; two steps make a whole run.
RECIPE = """\
schema = "palette-bench/recipe/1.0"
method = "{method}"
tasks = ["colorization", "inpainting", "uncropping", "jpeg"]
[network]
preset = "palette-toy"
side = {side}
multipliers = [1, 1]
attention = []
[training]
batch = 1
steps = 2
learning_rate = 1e-3
[log]
strip_every = 0
{sampling}
"""
# A plan that four images are enough for.
PLAN = {"images": 2, "raters": 2, "trials_per_method": 2, "practice": 1, "catch": 1}
PLAN |= {"exclude.catch_min_correct": 1}


def own_protocol() -> str:
    """Return the protocol file that docs/protocols.md shows."""
    page = (REPOSITORY / "docs" / "protocols.md").read_text(encoding="utf-8")
    return page.partition("```toml\n")[2].partition("```")[0]


class Placeholders:
    """Makes each thing once, when it is first asked for, and puts copies where commands expect them.

    A thing is known by the name that pages print; `NAME@KIND` is another thing that some pages print as NAME.
    """

    def __init__(self, folder: Path) -> None:
        """Keep the things, and a cache of features, below `folder`."""
        self._folder = folder
        self.cache = folder / "cache"
        self._makers: dict[str, Callable[[Path], object]] = {
            "DIR": lambda at: write_images(at, 4, (260, 300)),
            "SET": lambda at: self._set(at, "smoke", "inpainting/center128"),
            "SET@64px": lambda at: self._set(at, "palette-mini", "inpainting/center32"),
            "SUB": lambda at: submit(self.path("SET"), at, slug="my-method"),
            "PUBLIC": lambda at: export_public(self.path("SET"), at),
            "SUB.zip": lambda at: zipped(self.path("SUB"), at),
            "SUB_A": lambda at: submit(self.path("SET"), at, slug="method-a"),
            "SUB_B": lambda at: submit(self.path("SET"), at, copied, slug="method-b"),
            "CARD.json": lambda at: self._card(at, "SUB"),
            "VALUES.csv": lambda at: self._values(at, "CARD.json"),
            "A.json": lambda at: self._card(at, "SUB_A"),
            "B.json": lambda at: self._card(at, "SUB_B"),
            "FLOOR.json": lambda at: self._card(at, "SUB_B"),
            "CEILING.json": lambda at: self._card(at, "SUB_A"),
            "OLD": lambda at: self._site(at, "A.json"),
            "NEW": lambda at: self._site(at, "A.json", "B.json"),
            "RUN": lambda at: self._run(at, "palette"),
            "RUN@256px": lambda at: self._run(at, "palette", side=256),
            "RUN@gan": lambda at: self._run(at, "gan"),
            "RUN@regression": lambda at: self._run(at, "regression"),
            "GAN": lambda at: self._run(at, "gan"),
            "REGRESSION": lambda at: self._run(at, "regression"),
            "my-protocol.toml": lambda at: at.write_text(own_protocol()),
            "study.toml": lambda at: write_plan(at.parent, **PLAN),
            "STUDY": self._study,
            "answers-1.csv": lambda at: self._answers(at, slot=0),
            "answers-2.csv": lambda at: self._answers(at, slot=1),
            "RESULTS": lambda at: shutil.copytree(self.path("SET") / "reference", at),
            "IN_FOLDER": lambda at: write_images(at, 2, (40, 48)),
            **dict.fromkeys(("photo.png", "photo.jpg", "old.jpg"), _write_photo),
            "hole.png": lambda at: at.write_bytes(encode(np.pad(np.full((9, 9), 255, np.uint8), (20, 35)))),
            # commands that read these are parsed and not run: they must exist, no more
            **dict.fromkeys(("TRAINING_IMAGES", "IMAGES", "FIRST", "SECOND"), Path.mkdir),
            "ILSVRC2012": lambda at: [(at / part).mkdir(parents=True) for part in ("train", "val")],
            "shards": lambda at: [at.mkdir(), (at / "train-000.tar").touch()],
        }

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names that pages print."""
        return iter(dict.fromkeys(key.partition("@")[0] for key in self._makers))

    def path(self, key: str) -> Path:
        """Return where a thing lies, in a folder of its own; read-only."""
        place = self._folder / key / key.partition("@")[0]
        if not place.parent.exists():
            place.parent.mkdir(parents=True)
            self._makers[key](place)
        return place

    def copy(self, key: str, workspace: Path) -> None:
        """Put a fresh copy of a thing, and of the files that belong beside it, into a workspace."""
        place = self.path(key)
        remove(workspace / place.name)
        shutil.copytree(place.parent, workspace, dirs_exist_ok=True)

    def _set(self, at: Path, protocol: str, task: str) -> None:
        generate(protocol, task, at, request=Request("folder:few", self.path("DIR")))

    def _card(self, at: Path, submission: str) -> None:
        """Score a submission as pages do: a card names its command, and by another it is another card."""
        with patch.object(sys, "argv", f"palette-bench score {submission} --set SET -o {at.name}".split()):
            score(self.path(submission), self.path("SET"), at)

    def _values(self, at: Path, card: str) -> None:
        """Write a number per image, as another program's CSV."""
        table = read_table(read_scorecard(self.path(card)), self.path(card))
        table.assign(value=range(len(table)))[["image_id", "value"]].to_csv(at, index=False)

    def _site(self, at: Path, *cards: str) -> None:
        for card in cards:
            add_card(self.path(card), at.parent / f"{at.name}-record")
        build_site(at.parent / f"{at.name}-record", at)

    def _run(self, at: Path, method: str, side: int = 64) -> None:
        recipe = at.parent / "recipe.toml"
        sampling = "[sampling]\nsteps = 3\n" if method == "palette" else ""
        recipe.write_text(RECIPE.format(method=method, side=side, sampling=sampling))
        options = TrainOptions(task="multi", data=(self.path("DIR"),), run=at, recipe=str(recipe))
        load_baseline(method).train(options, SILENT)

    def _study(self, at: Path) -> None:
        design(self.path("study.toml"), self.path("SET"), [self.path("SUB")], at)
        VoteStore(at / STORE).close()  # as `study serve` leaves it if nobody comes

    def _answers(self, at: Path, slot: int) -> None:
        """Write what a page of the study saves when its reader always chooses left."""
        study = StudyFolder.open(self.path("STUDY"))
        who = {"study_id": study.study.id, "participant": f"p{slot}", "session": f"s{slot}"}
        said = {"choice": "L", "rt_ms": 650, "shown_ms": 3002, "decoded": 1, "focus_lost": 0}
        rows = [
            {**who, "trial": row.trial, "left": row.left, **said, "day": "2026-01-02", **SCREEN}
            for row in study.truth()
            if row.slot == slot
        ]
        with at.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _write_photo(at: Path) -> None:
    gradient = np.linspace(0, 255, 64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)
    PillowImage.fromarray(gradient).save(at)


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
