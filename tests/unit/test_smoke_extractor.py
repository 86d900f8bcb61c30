"""The `smoke` extractor: its resize, its file and card, and the trainer that makes them."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from smoke_weights import drawn, random_network, write_classes, write_random
from test_light import GUARD

from palette_bench.baselines.smoke_extractor import making
from palette_bench.baselines.smoke_extractor.pictures import GREY, order, read_labelled, varied
from palette_bench.baselines.smoke_extractor.recipe import Augmentation, SmokeRecipe, read_recipe
from palette_bench.baselines.smoke_extractor.train import Trainer
from palette_bench.baselines.smoke_extractor.weights_file import half_precision, measure
from palette_bench.core.errors import InputError, RecordError, SourceError, UsageError, WeightsError
from palette_bench.core.interrupt import Interrupted
from palette_bench.scoring.features import Wanted, open_extractor, smoke
from palette_bench.scoring.features.smoke import FILE, area64, as_extractor, with_weights
from palette_bench.scoring.features.smoke_card import card_path, read_proven
from palette_bench.scoring.features.tensors import tensor_digest

SHIPPED = Path(smoke.__file__).with_name(FILE)
TOY = """\
schema = "palette-bench/smoke-recipe/1.0"
seed = 3
autocast = "off"
data = { name = "noise of three colours", licence = "CC0-1.0" }
training = { epochs = 2, batch = 8, rate = 0.05, warmup_epochs = 0.5, momentum = 0.9, weight_decay = 5e-4, \
label_smoothing = 0.1, ema_decay = 0.5 }
augmentation = { flip = true, least_area = 0.5, stretch = 1.3, jitter = 0.1, cutout = 8 }
"""
STILL = Augmentation(flip=False, least_area=1.0, stretch=1.0, jitter=0.0, cutout=0)


def toy(**training: object) -> SmokeRecipe:
    recipe = SmokeRecipe.parse(TOY.encode(), "toy.toml")
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=training)})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_classes(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a run without a stop."""
    torch.set_num_threads(1)
    path = making.make(tmp_path_factory.mktemp("straight"), toy(), [data], [data], math.inf)
    assert path is not None
    return path


# the resize


@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 2**32 - 1))
def test_a_pixel_of_64_is_the_mean_of_the_area_it_covers(height: int, width: int, seed: int) -> None:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width))
    fine = np.kron(picture, np.ones((64 // math.gcd(height, 64), 64 // math.gcd(width, 64)), np.int64))
    blocks = fine.reshape(64, fine.shape[0] // 64, 64, fine.shape[1] // 64)
    found = area64(torch.from_numpy(picture).float().expand(1, 3, -1, -1))
    expected = blocks.sum(axis=(1, 3)) / (blocks.shape[1] * blocks.shape[3])
    assert np.array_equal(found[0, 0].numpy(), expected.astype(np.float32))


def test_pictures_of_64_and_enlarged_ones_are_seen_alike() -> None:
    extractor = open_extractor("smoke", "random:0", "center224", "cpu")
    small = drawn(2).pixels
    large = small.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    assert np.array_equal(extractor(small)["pool"], extractor(large)["pool"])
    assert extractor(small[:, :, :10, :7])["logits"].shape == (2, 100)  # any size, any sides


# file and card


def test_a_file_is_read_back_as_it_was_written(straight: Path) -> None:
    stored = safetensors.torch.load_file(straight)
    assert {t.dtype for t in stored.values()} == {torch.float16}
    data, card = read_proven(straight)
    network = with_weights(data, len(card.classes))
    assert half_precision(network) == data
    for name, tensor in stored.items():
        assert torch.equal(network.state_dict()[name], tensor.float())
    assert card.tensors == tensor_digest(stored)
    assert card.bytes == straight.stat().st_size
    assert card.classes == ("bright", "dark", "red")
    assert (card.data.pictures, card.data.validation_pictures) == (24, 24)
    assert SmokeRecipe.model_validate_json(json.dumps(card.recipe)) == toy()


def test_scores_of_a_given_file_say_so(straight: Path) -> None:
    extractor = open_extractor("smoke", str(straight), "center224", "cpu")
    assert extractor.notes == ("small-network", "unpinned-weights")
    assert extractor(drawn(2).pixels)["logits"].shape == (2, 3)


def test_the_file_of_the_package_needs_no_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "files", lambda package: tmp_path)
    with pytest.raises(WeightsError, match="PB705") as caught:
        open_extractor("smoke", None, "center224", "cpu")
    assert "--extractor smoke-random" in str(caught.value)
    write_random(tmp_path, classes=3)
    assert open_extractor("smoke", None, "center224", "cpu").notes == ("small-network",)


def test_a_flipped_bit_is_refused_wherever_it_is(tmp_path: Path) -> None:
    path = write_random(tmp_path, classes=3)
    whole = path.read_bytes()
    for place in (0, 30, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"PB705[\s\S]*as its card says"):
            open_extractor("smoke", str(path), "center224", "cpu")
    path.write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match=f"{len(whole) - 1:,} bytes"):
        open_extractor("smoke", str(path), "center224", "cpu")


def test_a_card_that_is_absent_malformed_or_of_another_network_is_refused(tmp_path: Path) -> None:
    path = write_random(tmp_path, classes=3)
    card = card_path(path).read_text()
    card_path(path).write_text(card.replace("bytes", "size"))
    with pytest.raises(WeightsError, match=r"PB705[\s\S]*PB40"):
        open_extractor("smoke", str(path), "center224", "cpu")
    card_path(path).write_text(card.replace('["c000", "c001", "c002"]', '["c000", "c001"]'))
    with pytest.raises(WeightsError, match="differences, first: classify"):
        open_extractor("smoke", str(path), "center224", "cpu")
    card_path(path).unlink()
    with pytest.raises(WeightsError, match=r"PB705[\s\S]*smoke-v1\.toml"):
        open_extractor("smoke", str(path), "center224", "cpu")
    path.unlink()
    with pytest.raises(WeightsError, match=r"PB705[\s\S]*safetensors"):
        open_extractor("smoke", str(path), "center224", "cpu")


@pytest.mark.skipif(not SHIPPED.is_file(), reason="this version ships no smoke weights")
def test_the_shipped_weights_are_small_and_tell_a_hundred_classes_apart() -> None:
    _, card = read_proven(SHIPPED)
    assert card.bytes <= 5_000_000
    assert len(card.classes) == 100
    assert card.accuracy.top1 >= 45
    assert open_extractor("smoke", None, "center224", "cpu").notes == ("small-network",)


def test_accuracy_counts_the_guesses_of_the_extractor() -> None:
    pictures = drawn(20)
    extractor = as_extractor(random_network(20), Wanted("smoke"))
    logits = np.concatenate([extractor(picture[None])["logits"] for picture in pictures.pixels])
    places = [list(np.argsort(-row)).index(label) for label, row in enumerate(logits)]
    found = measure(extractor, pictures)
    assert found.top1 == 100 * sum(place < 1 for place in places) / 20
    assert found.top5 == 100 * sum(place < 5 for place in places) / 20
    assert found.top1 < found.top5 < 100


# pictures


def test_class_folders_and_tars_are_the_same_pictures(data: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "val.tar", "w") as archive:
        for path in sorted(data.rglob("*.png")):
            archive.add(path, f"val/{path.relative_to(data).as_posix()}")
    folders, shard = read_labelled([data]), read_labelled([tmp_path / "val.tar"])
    assert folders.classes == shard.classes == ("bright", "dark", "red")
    assert torch.equal(folders.pixels, shard.pixels)
    assert torch.equal(folders.labels, torch.arange(3).repeat_interleave(8))
    assert folders.pixels[0, :, ::8, ::8].shape == (3, 8, 8)


def test_pictures_that_cannot_be_used_are_all_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="1 class"):
        read_labelled([data / "red"])
    broken = write_classes(tmp_path / "broken", each=2)
    for name in ("red/0.png", "dark/1.png"):
        (broken / name).write_bytes(b"\x89PNG cut")
    with pytest.raises(SourceError, match=r"PB309[\s\S]*dark/1\.png, red/0\.png"):
        read_labelled([broken])
    other = write_classes(tmp_path / "other", each=1)
    (other / "red").rename(other / "crimson")
    with pytest.raises(SourceError, match=r"PB607[\s\S]*\(crimson, red\)"):
        making.make(tmp_path / "run", toy(), [data], [other], 1)
    with pytest.raises(UsageError, match="24 pictures do not fill a batch of 32"):
        making.make(tmp_path / "run", toy(batch=32), [data], [data], 1)


def test_an_epoch_has_every_picture_once_in_an_order_of_its_own() -> None:
    orders = [order(seed, epoch, 1000) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    assert all(np.array_equal(np.sort(found), np.arange(1000)) for found in orders)
    assert len({found.tobytes() for found in orders}) == 3
    assert orders[0][:4].tolist() == [819, 108, 170, 683]  # on every machine


def test_without_variation_pictures_stay_as_they_are() -> None:
    pixels = drawn(4).pixels
    assert varied(pixels, range(4), 0, 0, STILL).numpy() == pytest.approx(pixels.numpy(), abs=1e-2)


def test_variation_depends_on_picture_and_epoch_and_not_on_company() -> None:
    pixels, how = drawn(6).pixels, toy().augmentation
    together = varied(pixels, range(6), 0, 1, how)
    alone = torch.cat([varied(pixels[i : i + 1], [i], 0, 1, how) for i in range(6)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, varied(pixels, range(6), 0, 2, how))
    assert 0 <= float(together.min()) < float(together.max()) <= 255


def test_half_of_the_pictures_are_mirrored_and_each_hides_one_square() -> None:
    ramp = torch.arange(64, dtype=torch.uint8).expand(200, 3, 64, 64)
    flipped = varied(ramp, range(200), 0, 0, STILL.model_copy(update={"flip": True}))
    assert set(flipped[:, 0, 0, 0].round().tolist()) == {0.0, 63.0}
    assert 70 < int((flipped[:, 0, 0, 0] > 32).sum()) < 130
    hidden = varied(ramp, range(200), 0, 0, STILL.model_copy(update={"cutout": 16})) == GREY
    assert hidden.sum(dim=(1, 2, 3)).tolist() == [3 * 16 * 16] * 200
    assert len({tuple(rows.any(dim=1).tolist()) for rows in hidden[:, 0]}) > 10


def test_crops_keep_the_area_that_was_asked_for() -> None:
    ramp = torch.arange(64, dtype=torch.uint8).expand(100, 3, 64, 64)
    seen = varied(ramp, range(100), 0, 0, STILL.model_copy(update={"least_area": 0.25}))
    spans = (seen[:, 0, 0, -1] - seen[:, 0, 0, 0]) / 63
    assert 0.49 < float(spans.min()) < 0.6  # a quarter of the area is half of a side
    assert 0.9 < float(spans.max()) <= 1


# training


def test_the_rate_climbs_to_its_peak_and_falls_to_nothing() -> None:
    recipe = toy(epochs=10, warmup_epochs=2, rate=1.0)
    rates = [recipe.rate(step, 4) for step in range(40)]
    assert rates[:9] == [pytest.approx((step + 1) / 9) for step in range(8)] + [1.0]
    assert rates[24] == pytest.approx(0.5)
    assert rates[8:] == sorted(rates[8:], reverse=True)
    assert 0 < rates[-1] < 0.01


def test_a_run_stopped_after_every_step_ends_with_the_same_files(
    straight: Path, data: Path, tmp_path: Path
) -> None:
    calls = [making.make(tmp_path, toy(), [data], [data], 0) for _ in range(6)]
    assert calls == [None] * 5 + [tmp_path / FILE]
    assert (tmp_path / FILE).read_bytes() == straight.read_bytes()
    assert card_path(tmp_path / FILE).read_bytes() == card_path(straight).read_bytes()
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2
    lines = [json.loads(line) for line in (straight.parent / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [6]


def test_a_stop_signal_ends_the_step_and_saves_it(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, toy(), read_labelled([data]))

    def check() -> None:
        if trainer.step == 2:
            raise Interrupted(signal.SIGTERM)

    with pytest.raises(Interrupted):
        trainer.train(math.inf, check)
    assert Trainer(tmp_path, toy(), read_labelled([data])).step == 2


def test_a_finished_run_writes_its_file_again_and_another_recipe_is_refused(
    straight: Path, data: Path
) -> None:
    before = straight.read_bytes()
    straight.write_bytes(b"lost")
    assert making.make(straight.parent, toy(), [data], [data], math.inf) == straight
    assert straight.read_bytes() == before
    with pytest.raises(InputError, match=r"PB605[\s\S]*rate = 0\.05 -> 0\.1"):
        making.make(straight.parent, toy(rate=0.1), [data], [data], math.inf)


def test_it_learns_what_a_glance_tells(data: Path, tmp_path: Path) -> None:
    fresh = write_classes(tmp_path / "val", each=4, seed=12)
    recipe = toy(epochs=6).model_copy(update={"autocast": "bf16"})
    path = making.make(tmp_path / "run", recipe, [data], [fresh], math.inf)
    assert path is not None
    assert read_proven(path)[1].accuracy.top1 == 100


def test_the_features_are_standardised_over_the_training_pictures(data: Path, tmp_path: Path) -> None:
    pictures = read_labelled([data])
    network = Trainer(tmp_path, toy(batch=24), pictures).settle()
    pool = network(network.prepare(pictures.pixels.float()))["pool"].detach()
    assert pool.mean(dim=0).numpy() == pytest.approx(np.zeros(64), abs=0.05)
    assert pool.var(dim=0).numpy() == pytest.approx(np.ones(64), abs=0.1)


def test_a_loss_that_is_no_number_stops_the_run(data: Path, tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, toy(), read_labelled([data]))
    torch.nn.init.constant_(trainer.network.classify.bias, math.nan)
    with pytest.raises(InputError, match=r"PB610[\s\S]*nan"):
        trainer.train(math.inf, lambda: None)


def test_the_shipped_recipe_is_complete_and_wrong_keys_are_named(tmp_path: Path) -> None:
    assert read_recipe(None, 7).training.epochs == 7
    assert read_recipe(None, None).training.epochs == 40
    (tmp_path / "mine.toml").write_text(TOY.replace("jitter", "jiter"))
    with pytest.raises(RecordError, match=r"PB402[\s\S]*did you mean jitter"):
        read_recipe(tmp_path / "mine.toml", None)


# the command


def test_the_command_trains_stops_and_goes_on(data: Path, tmp_path: Path) -> None:
    (tmp_path / "toy.toml").write_text(TOY)

    def run(*more: object) -> subprocess.CompletedProcess[str]:
        command = (sys.executable, "-m", "palette_bench.baselines.smoke_extractor")
        given = (
            "--data",
            data,
            data,
            "--val",
            data,
            "-o",
            "run",
            "--recipe",
            "toy.toml",
            "--epochs",
            1,
            *more,
        )
        return subprocess.run(
            list(map(str, command + given)), cwd=tmp_path, capture_output=True, text=True, check=False
        )

    first = run("--minutes", 0)
    assert (first.returncode, first.stdout) == (0, "")
    assert "stopped after 0 minutes" in first.stderr
    second = run()
    assert (second.returncode, second.stdout) == (0, f"run/{FILE}\n")
    assert "going on after step 1" in second.stderr
    assert "top-1" in second.stderr
    assert read_proven(tmp_path / "run" / FILE)[1].data.pictures == 48
    refused = run("--recipe", data)
    assert refused.returncode == 5
    assert "PB801" in refused.stderr


def test_its_help_does_not_load_torch() -> None:
    code = GUARD.replace(
        "from palette_bench.cli import run\nrun()",
        "import runpy\nsys.argv = ['x', '--help']\n"
        "runpy.run_module('palette_bench.baselines.smoke_extractor', run_name='__main__')",
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--minutes" in done.stdout
