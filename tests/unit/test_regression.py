"""The regression baseline: what its network is told, its loss, and that it learns images by heart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from questions import batch
from toy_method import run_toy

from palette_bench.baselines.regression import baseline
from palette_bench.baselines.regression.method import RegressionObjective, RegressionRecipe, regress
from palette_bench.baselines.training.draws import KeyedDraws
from palette_bench.baselines.training.objective import TrainingBatch
from palette_bench.baselines.training.recipe import read_recipe
from palette_bench.baselines.training.unet import flop
from palette_bench.benchset.images import photo_path
from palette_bench.core import png
from palette_bench.core.errors import UsageError
from palette_bench.core.types import Image
from palette_bench.submission.methods import Batch, RestoreOptions
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.preprocess import crop_area, decode

CPU = torch.device("cpu")
SIDE = 8
RECIPE = """
schema = "palette-bench/recipe/1.0"
method = "regression"
[network]
preset = "palette-toy"
side = 8
multipliers = [1]
attention = []
[training]
batch = 8
steps = 150
learning_rate = 4e-3
warmup_steps = 10
ema_decay = 0.95
reduction = "{reduction}"
[checkpoints]
save_every = 1000
[log]
every = 50
strip_every = 0
"""
PHOTOS = ("astronaut.png", "chelsea.png", "coffee.png", "retina.jpg", "rocket.jpg")


def objective(reduction: str = "image") -> RegressionObjective:
    return RegressionObjective(read_recipe(RegressionRecipe, RECIPE.format(reduction=reduction)), CPU)


def examples() -> TrainingBatch:
    draw = torch.Generator().manual_seed(1)
    mask = torch.zeros(2, 1, SIDE, SIDE, dtype=torch.bool)
    mask[0, :, :4] = True
    mask[1, :, :, :2] = True
    reference, source = torch.randn(2, 2, 3, SIDE, SIDE, generator=draw)
    return TrainingBatch(0, np.arange(2), ("inpainting",) * 2, reference, source, mask)


def test_the_network_is_shown_no_noisy_image_and_told_position_zero() -> None:
    told: list[torch.Tensor] = []

    def network(images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        told.extend((images, code))
        return images[:, 3:]

    source = torch.randn(2, 3, SIDE, SIDE)
    assert torch.equal(regress(network, source, 32), source)
    assert not told[0][:, :3].any()
    assert torch.equal(told[0][:, 3:], source)
    assert torch.equal(told[1], torch.tensor([1.0] * 16 + [0.0] * 16).expand(2, -1))  # cos 0, then sin 0


@pytest.mark.parametrize(("reduction", "weights"), [("image", [1, 1]), ("pixel", [32, 16])])
def test_the_loss_is_the_squared_error_where_pixels_are_to_be_produced(
    reduction: str, weights: list[float]
) -> None:
    some, regressing = examples(), objective(reduction)
    losses = regressing.loss(regressing.trainables[0].module, some, KeyedDraws(0))
    # an untrained network predicts 0
    expected = [some.reference[0, :, :4].square().mean(), some.reference[1, :, :, :2].square().mean()]
    assert losses.values.detach() == pytest.approx(torch.stack(expected), rel=1e-5)
    assert losses.weights.tolist() == weights
    assert losses.log_snr is None


def test_the_preview_keeps_known_pixels() -> None:
    some, regressing = examples(), objective()
    restored = regressing.preview(regressing.trainables[0].module, some, KeyedDraws(0))
    assert torch.equal(restored, torch.where(some.mask, 0.0, some.reference))


def test_the_papers_regression_has_as_many_parameters_as_its_model() -> None:
    recipe = read_recipe(RegressionRecipe, baseline.recipes()["colorization"])
    with torch.device("meta"):
        player = RegressionObjective(recipe, torch.device("meta")).trainables[0]
    assert player.parameters == 552_814_083 == sum(p.numel() for p in player.module.parameters())
    assert (player.learning_rate, recipe.training.batch, recipe.training.steps) == (1e-4, 1024, 1_000_000)
    sr3 = read_recipe(RegressionRecipe, baseline.recipes()["sr3"])
    assert (sr3.training.learning_rate, sr3.checkpoints.keep_every) == (1e-5, 50_000)


# --- learning by heart ----------------------------------------------------------------------------


def images() -> dict[str, Image]:
    decoded = {name: decode(photo_path(name).read_bytes()) for name in PHOTOS}
    return {
        name: crop_area(photo[: min(photo.shape[:2]), : min(photo.shape[:2])], SIDE)
        for name, photo in decoded.items()
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("regression")
    (folder / "data").mkdir()
    for name, image in images().items():
        (folder / "data" / f"{name[:-4]}-small.png").write_bytes(png.encode(image))
    (folder / "recipe.toml").write_text(RECIPE.format(reduction="image"))
    keys = {"task": "colorization", "recipe": str(folder / "recipe.toml")}
    run_toy(baseline.method(), folder / "data", folder / "run", **keys)
    return folder / "run"


@pytest.mark.long
def test_a_few_images_are_learnt_by_heart(run: Path) -> None:
    references = np.stack(list(images().values()))
    grays = np.stack([luma(image) for image in references])[..., None]
    asked = Batch(tuple(PHOTOS), grays, None, batch("colorization", SIDE).benchset)
    restored = baseline.restorer(RestoreOptions(run=run)).restore(asked)

    def error(outputs: np.ndarray) -> float:
        return float(np.sqrt(np.mean((outputs.astype(float) - references) ** 2)))

    print(error(grays), error(restored))
    assert error(restored) < 0.3 * error(grays)


def test_nothing_is_drawn_so_sampling_options_are_refused(run: Path) -> None:
    restorer = baseline.restorer(RestoreOptions(run=run))
    sampling = restorer.about.sampling
    assert (sampling.sampler, sampling.steps, sampling.seed) == ("none", 1, None)
    recipe = read_recipe(RegressionRecipe, RECIPE.format(reduction="image"))
    assert sampling.flop_per_image == flop(recipe.network.spec)
    with pytest.raises(UsageError, match="--seed, --sampler, --steps, --noise"):
        baseline.restorer(RestoreOptions(run=run, seed=1, sampler="ddim", steps=2, noise="device"))
