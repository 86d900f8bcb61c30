"""What every installed method that can be trained must do, the day it is added."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from questions import HOLED, batch, part
from toy_method import files_of, write_pack

from palette_bench.baselines.training.recipe import MULTI_TASKS, Task, read_recipe, to_toml
from palette_bench.core.errors import UsageError
from palette_bench.submission.methods import (
    ImageRestorer,
    RestoreOptions,
    TrainOptions,
    UserImage,
    baselines,
    load_baseline,
)


def trainable(name: str) -> Any:
    return load_baseline(name)


TRAINABLE = sorted(name for name in baselines() if hasattr(trainable(name), "train"))
RECIPES = [(name, recipe) for name in TRAINABLE for recipe in trainable(name).recipes()]
SIDE = 32  # of the smoke recipes


def test_the_three_trained_methods_are_installed() -> None:
    assert {"palette", "regression", "gan"} <= set(TRAINABLE)


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_method_has_recipes_for_a_laptop_and_one_for_each_task(name: str) -> None:
    recipes = trainable(name).recipes()
    assert {"smoke", "mini-cpu"} <= set(recipes)
    assert all(task in recipes or name in recipes for task in (*get_args(Task), "multi"))
    assert all(text.startswith("# ") for text in recipes.values())  # `ls recipes` shows the remark


@pytest.mark.parametrize(("name", "recipe"), RECIPES)
def test_every_recipe_reads_resolves_and_reads_back(name: str, recipe: str) -> None:
    method = trainable(name).method()
    assert method.name == name
    found = read_recipe(method.recipe_model, method.texts[recipe], recipe)
    for task in (found.task,) if found.task else (*get_args(Task), "multi"):
        resolved = found.resolved(name, task, "host")
        assert resolved.tasks
        assert read_recipe(method.recipe_model, to_toml(resolved)) == resolved
        assert not resolved.training.batch % (resolved.training.micro_batch or 1)


@pytest.fixture(scope="module", params=TRAINABLE)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Two steps of the smoke recipe, of three tasks, straight and stopped in between."""
    torch.set_num_threads(1)
    name, home = request.param, tmp_path_factory.mktemp(request.param)
    pack = write_pack(home / "pack.safetensors", side=SIDE)
    options = TrainOptions("multi", (pack,), home / "straight", "smoke", steps=2, deterministic=True)
    trainable(name).train(options)
    trainable(name).train(replace(options, run=home / "stopped", steps=1))
    trainable(name).train(replace(options, run=home / "stopped"))
    return name, home


def model(runs: tuple[str, Path], **options: Any) -> ImageRestorer:
    name, home = runs
    found = trainable(name).restorer(RestoreOptions(run=home / "straight", **options))
    assert isinstance(found, ImageRestorer)
    return found


def test_a_resumed_run_is_the_straight_run_bit_for_bit(runs: tuple[str, Path]) -> None:
    _, home = runs
    straight, stopped = files_of(home / "straight", 2), files_of(home / "stopped", 2)
    assert {"weights.safetensors", "ema.safetensors", "optimizer.safetensors"} <= set(straight)
    assert straight == stopped
    assert straight["weights.safetensors"] != files_of(home / "stopped", 1)["weights.safetensors"]


@pytest.mark.parametrize("task", MULTI_TASKS)
def test_outputs_have_the_form_the_judge_expects_whatever_the_batch(
    runs: tuple[str, Path], task: str
) -> None:
    asked, restorer = batch(task, SIDE, 3), model(runs)
    output = restorer.restore(asked)
    assert output.shape == (3, SIDE, SIDE, 3)
    assert output.dtype == np.uint8
    assert (model(runs).restore(asked) == output).all()
    alone = restorer.restore(part(asked, 1, 2))
    assert np.abs(alone[0].astype(int) - output[1]).max() <= 1
    if asked.masks is not None:
        assert (output[~asked.masks] == asked.inputs[~asked.masks]).all()


def test_the_card_names_method_weights_and_cost(runs: tuple[str, Path]) -> None:
    about = model(runs).about
    assert about.method.slug == runs[0]
    assert about.method.name.endswith("multi-task, palette-smoke, 2 steps")
    assert about.training.parameters == 1_371_971  # the same network for all
    assert about.sampling.steps is not None
    assert about.sampling.steps >= 1
    assert about.declared.uses_mask


def test_identity_tells_weights_apart(runs: tuple[str, Path]) -> None:
    name, home = runs
    weights = home / "straight" / "checkpoints" / "step-00000002" / "weights.safetensors"
    other = trainable(name).restorer(RestoreOptions(run=weights))
    assert other.identity != model(runs).identity == model(runs).identity


@pytest.mark.parametrize("policy", ["tile", "scale", "native"])
def test_own_images_of_odd_sizes_keep_what_is_known(runs: tuple[str, Path], policy: str) -> None:
    pixels = np.random.default_rng(4).integers(0, 256, (37, 50, 3), np.uint8)
    mask = np.zeros((37, 50), bool)
    mask[5:20, 30:] = True
    output = model(runs).restore_image(UserImage("mine", "inpainting", pixels, mask), policy)
    assert output.shape == pixels.shape
    assert (output[~mask] == pixels[~mask]).all()


def test_what_was_not_trained_or_is_another_methods_is_refused(runs: tuple[str, Path]) -> None:
    name, home = runs
    with pytest.raises(UsageError, match="not for uncropping"):
        model(runs).restore(batch(HOLED[1], SIDE, 1))
    with pytest.raises(UsageError, match=f"train {name}"):
        trainable(name).restorer(RestoreOptions())
    other = next(other for other in TRAINABLE if other != name)
    with pytest.raises(UsageError, match=f"trained as {name}"):
        trainable(other).restorer(RestoreOptions(run=home / "straight"))
    with pytest.raises(UsageError, match="--pipeline"):
        model(runs, pipeline="X")


def test_a_damaged_checkpoint_is_passed_over_and_a_run_without_one_refused(
    runs: tuple[str, Path], tmp_path: Path
) -> None:
    name, home = runs
    run = Path(shutil.copytree(home / "stopped", tmp_path / "run"))
    (run / "checkpoints" / "step-00000002" / "ema.safetensors").write_bytes(b"")
    found = trainable(name).restorer(RestoreOptions(run=run))
    assert found.about.method.name.endswith("1 steps")


@pytest.mark.parametrize("name", TRAINABLE)
def test_every_method_says_in_its_folder_what_it_is(name: str) -> None:
    readme = Path(__file__).parents[2] / "baselines" / name / "README.md"
    text = readme.read_text()
    assert text.startswith(f"# {name}")
    assert all(f"train {name}" in text and word in text for word in ("## Train", "## Expected scores"))
    assert all(recipe.removesuffix("-64") in text for recipe in trainable(name).recipes())
