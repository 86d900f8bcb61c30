"""Weights that leave their run: packed in half precision, proven by their card, found by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from toy_method import Toy, run_toy, write_pack

from palette_bench.baselines.trained.packing import pack, stated
from palette_bench.baselines.training.checkpoint import WeightsCard, card_path, open_run
from palette_bench.baselines.training.method import PackagedMethod
from palette_bench.baselines.training.recipe import DataOptions, read_recipe
from palette_bench.core.errors import UsageError, WeightsError
from palette_bench.submission.methods import RestoreOptions, load_baseline
from palette_bench.submission.training_runs import find_run, method_of, trained_models

IMAGES = DataOptions(name="images of the tests", saw_test_images="no")
LARGEST = 10_000_000  # bytes of one, and 30 million of all


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run_toy(Toy(), write_pack(folder / "pack.safetensors"), folder / "run")
    return folder / "run"


def test_packed_weights_are_the_runs_to_half_precision_and_open_as_a_run(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "toy-mini.safetensors"
    card = pack(run, file, IMAGES, "CC0-1.0")
    opened, original = open_run(file), open_run(run)
    assert (opened.method, opened.step, opened.recipe) == ("toy", 6, original.recipe)
    for name, tensor in original.tensors.items():
        assert opened.tensors[name].dtype == torch.float32
        torch.testing.assert_close(opened.tensors[name], tensor, rtol=2**-10, atol=2**-24)
    assert WeightsCard.read(card_path(file)) == opened.card == card
    assert (card.images_seen, card.steps, card.method) == (48, 6, "toy")
    assert pack(run, tmp_path / "again.safetensors", IMAGES, "CC0-1.0").sha256 == card.sha256


def test_a_flipped_byte_is_refused(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "toy.safetensors"
    pack(run, file, IMAGES, "CC0-1.0")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(WeightsError, match="as its card says"):
        open_run(file)


def test_only_what_says_what_it_saw_is_packed(run: Path, tmp_path: Path) -> None:
    lone = next((run / "checkpoints").glob("*/ema.safetensors"))
    with pytest.raises(UsageError, match="expected a run folder"):
        pack(lone, tmp_path / "toy.safetensors", IMAGES, "CC0-1.0")


def test_names_mean_trained_models_unless_a_path_of_that_name_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_run(Path("no-such-run")) == Path("no-such-run")
    for name, file in trained_models().items():
        assert find_run(Path(name)) == file
    Path("palette-mini-v1").mkdir()
    assert find_run(Path("palette-mini-v1")) == Path("palette-mini-v1")


@pytest.mark.parametrize("name", trained_models())
def test_what_comes_along_is_small_and_as_its_card_says(name: str) -> None:
    file = trained_models()[name]
    opened, card = open_run(file), WeightsCard.read(card_path(file))
    assert opened.method == card.method == method_of(file) == name.split("-", maxsplit=1)[0]
    assert file.stat().st_size == card.bytes <= LARGEST
    assert sum(tensor.numel() for tensor in opened.tensors.values()) == card.parameters
    assert sum(each.stat().st_size for each in trained_models().values()) <= 3 * LARGEST


RECIPE_OF = {
    "palette-mini-v1": "mini-cpu-finish",
    "regression-mini-v1": "mini-cpu",
    "gan-mini-v1": "mini-cpu",
}


@pytest.mark.parametrize("name", trained_models())
def test_the_recipe_that_comes_along_is_the_one_that_was_run(name: str) -> None:
    file = trained_models()[name]
    card = WeightsCard.read(card_path(file))
    contestant = load_baseline(card.method)
    assert isinstance(contestant, PackagedMethod)
    method = contestant.method()
    recipe = read_recipe(method.recipe_model, method.texts[RECIPE_OF[name]])
    resolved = recipe.resolved(card.method, str(recipe.task), "host")
    assert stated(resolved.choices()) == card.recipe
    assert resolved == read_recipe(method.recipe_model, open_run(file).recipe)
    assert (resolved.training.steps, resolved.training.batch * card.steps) == (card.steps, card.images_seen)


@pytest.mark.parametrize("name", trained_models())
def test_what_a_model_began_with_comes_along_or_is_said_to_be_absent(name: str) -> None:
    card = WeightsCard.read(card_path(trained_models()[name]))
    digests = {WeightsCard.read(card_path(file)).sha256 for file in trained_models().values()}
    assert card.started_from in digests or "not kept" in str(card.started_from_note)


def test_a_card_older_than_the_note_still_loads(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "toy.safetensors"
    note = "a run that is not kept"
    assert pack(run, file, IMAGES, "CC0-1.0", note).started_from_note == note
    text = card_path(file).read_text()
    assert "weights-card/1.1" in text
    old = text.replace("weights-card/1.1", "weights-card/1.0").replace(f'started_from_note = "{note}"\n', "")
    card_path(file).write_text(old)
    assert WeightsCard.read(card_path(file)).started_from_note is None
    assert open_run(file).method == "toy"


@pytest.mark.parametrize("name", trained_models())
def test_a_submission_names_what_its_weights_learnt_from(name: str) -> None:
    file = trained_models()[name]
    training = load_baseline(method_of(file)).restorer(RestoreOptions(run=file)).about.training
    assert training.datasets == (WeightsCard.read(card_path(file)).data,)
    assert training.saw_test_images == "no"
