"""The whole chain at toy size: a network learns eight real images and restores them, all four tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from palette_bench.baselines.palette import baseline
from palette_bench.baselines.training.dataset import degrade
from palette_bench.benchset.manifest import ContestantSet, PublicSet
from palette_bench.benchset.sources import Request, open_source
from palette_bench.core import png
from palette_bench.core.rng import Stream
from palette_bench.core.types import Image
from palette_bench.submission.methods import Batch, RestoreOptions, TrainOptions
from palette_bench.tasks.preprocess import crop_area
from palette_bench.tasks.protocol import load

pytestmark = pytest.mark.long  # minutes: make test-all

SIDE = 8  # one core learns it within a minute
TASKS = ("colorization", "inpainting", "uncropping", "jpeg")
WINDOWS = (
    "astronaut",
    "astronaut-face",
    "chelsea",
    "chelsea-face",
    "coffee",
    "coffee-cup",
    "retina",
    "rocket",
)
RECIPE = f"""
schema = "palette-bench/recipe/1.0"
method = "palette"
tasks = {list(TASKS)}

[network]
preset = "palette-toy"
side = {SIDE}
multipliers = [1]
attention = []

[training]
batch = 32
steps = 1200
learning_rate = 4e-3
warmup_steps = 50
ema_decay = 0.995
loss = "l1"
reduction = "pixel"

[log]
every = 100
strip_every = 0

[sampling]
steps = 250
""".replace("'", '"')


def images() -> dict[str, Image]:
    photographs = open_source(load("smoke"), Request("smoke-photos")).images
    return {
        photo.id: crop_area(photo.pixels(photo.place.read()), SIDE)
        for photo in photographs
        if photo.id in WINDOWS
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("overfit")
    data = folder / "pictures"
    data.mkdir()
    for name, image in images().items():
        (data / f"{name}-8.png").write_bytes(png.encode(image))
    (folder / "recipe.toml").write_text(RECIPE)
    options = TrainOptions(task="multi", data=(data,), run=folder / "run", recipe=str(folder / "recipe.toml"))
    baseline.train(options)
    return options.run


def question(task: str) -> tuple[Batch, np.ndarray, np.ndarray]:
    """Return what the model is asked, the references, and the pixels to produce."""
    references = images()
    pairs = [degrade(image, task, Stream(f"overfit|{task}|{name}")) for name, image in references.items()]
    masks = np.stack([mask for _, mask in pairs])
    public = PublicSet(
        schema=PublicSet.schema_name(),
        protocol="smoke",
        task=task,
        variant="default",
        source="smoke-photos",
        set_fingerprint="0" * 64,
        items=(),
    )
    batch = Batch(
        ids=tuple(references),
        inputs=np.stack([source for source, _ in pairs]),
        masks=None if masks.all() else masks,
        benchset=ContestantSet(Path(), public, load("smoke").model_copy(update={"side": SIDE})),
    )
    return batch, np.stack(list(references.values())), masks


@pytest.mark.parametrize("task", TASKS)
def test_restored_images_are_nearer_than_the_input(run: Path, task: str) -> None:
    batch, references, masks = question(task)
    restored = baseline.restorer(RestoreOptions(run=run)).restore(batch)

    def errors(images: np.ndarray) -> np.ndarray:
        squares = np.where(masks[..., None], (images - references.astype(float)) ** 2, 0)
        return np.sqrt(squares.sum((1, 2, 3)) / (3 * masks.sum((1, 2)).clip(1)))

    before, after = errors(batch.inputs), errors(restored)
    # measured: 8 to 43 % of the mean error of the input, medians of 5 to 9 levels
    assert after.mean() < 0.6 * before.mean()
    assert np.median(after) < 16
