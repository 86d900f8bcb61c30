"""The loop: resumed is straight, bit for bit; micro-batches add up; what is not finite is skipped."""

from __future__ import annotations

import json
import logging
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from toy_method import Toy, files_of, run_toy, weights_of, write_images, write_pack

from palette_bench.baselines.training import log
from palette_bench.baselines.training import train as loop
from palette_bench.baselines.training import trainer as steps
from palette_bench.baselines.training.checkpoint import CheckpointState, open_run
from palette_bench.baselines.training.optimisation import NetworkTrainer, WeightAverage, decay_at
from palette_bench.baselines.training.recipe import Recipe, read_recipe
from palette_bench.core.errors import InputError, UsageError, WeightsError
from palette_bench.core.processes import Interrupted
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.tasks.preprocess import decode


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("data") / "pack.safetensors")


@pytest.fixture(scope="module")
def straight(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps without a stop."""
    run = tmp_path_factory.mktemp("straight") / "run"
    run_toy(Toy(), data, run)
    return run


def log_of(run: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("stop", range(1, 6))
def test_a_run_resumed_at_any_step_is_the_straight_run_bit_for_bit(
    stop: int, data: Path, straight: Path, tmp_path: Path
) -> None:
    run_toy(Toy(), data, tmp_path / "run", until=stop)
    run_toy(Toy(), data, tmp_path / "run")
    assert files_of(tmp_path / "run", 6) == files_of(straight, 6)
    assert {"ema.safetensors", "optimizer.safetensors", "weights.safetensors"} == set(files_of(straight, 6))
    losses = [line["loss"] for line in log_of(tmp_path / "run")]
    assert losses == [line["loss"] for line in log_of(straight)]
    assert len(losses) == 6


def test_a_finished_run_stays_as_it_is(data: Path, straight: Path) -> None:
    before = weights_of(straight, 6)
    run_toy(Toy(), data, straight)
    assert weights_of(straight, 6) == before


def test_lost_steps_leave_the_log_and_are_taken_again(data: Path, straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_toy(Toy(), data, run, steps=3)
    with (run / "log.jsonl").open("a") as file:  # killed after step 4, before its checkpoint, inside a line
        file.write(json.dumps({"step": 4, "loss": 9.0}) + '\n{"step": 5, "lo')
    run_toy(Toy(), data, run)
    assert [line["step"] for line in log_of(run)] == [1, 2, 3, 4, 5, 6]
    assert [line["loss"] for line in log_of(run)] == [line["loss"] for line in log_of(straight)]


def test_micro_batches_of_uneven_weights_add_up_to_the_whole_batch(
    data: Path, straight: Path, tmp_path: Path
) -> None:
    run_toy(Toy(micro_batch=2), data, tmp_path / "run")
    ours, whole = open_run(tmp_path / "run"), open_run(straight)
    for name, tensor in whole.tensors.items():
        assert torch.allclose(ours.tensors[name], tensor, atol=1e-6)
    for line, expected in zip(log_of(tmp_path / "run"), log_of(straight), strict=True):
        assert line["loss"] == pytest.approx(expected["loss"], abs=1e-6)
        assert line["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-5)


def test_the_log_tells_loss_by_noise_level_rate_and_speed(straight: Path) -> None:
    lines = log_of(straight)
    assert [line["learning_rate"] for line in lines] == pytest.approx(
        [1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2, 1e-2, 1e-2]
    )
    assert [line["images_seen"] for line in lines] == [8, 16, 24, 32, 40, 48]
    for line in lines:
        bins = line["loss_by_lambda"]
        assert isinstance(bins, list)
        assert len(bins) == 10
        assert any(value is not None for value in bins)
        assert {"images_per_second", "data_wait", "memory_bytes", "skipped"} <= line.keys()


def test_the_rate_falls_to_nothing_over_a_recipe_s_last_steps(data: Path, tmp_path: Path) -> None:
    run_toy(Toy(cooldown_steps=2), data, tmp_path / "run")
    rates = [line["learning_rate"] for line in log_of(tmp_path / "run")]
    assert rates == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2, 1e-2, 1e-2, 5e-3])


def test_the_average_starts_short_and_is_what_restores(data: Path, straight: Path) -> None:
    assert [decay_at(step, 0.9999) for step in (0, 8, 90)] == [0.1, 0.5, 0.91]
    assert decay_at(10**6, 0.9999) == 0.9999
    opened = open_run(straight)
    file = straight / "checkpoints" / "step-00000006" / "ema.safetensors"
    expected = safetensors.torch.load_file(file)
    assert all(torch.equal(opened.tensors[name], expected[name]) for name in expected)


def test_an_average_is_the_closed_form_and_lends_its_weights_without_trace() -> None:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, 1.0)
    average = WeightAverage(module, 0.5)
    value = 1.0
    for step in range(4):
        nn.init.constant_(module.weight, step + 2.0)
        average.update(step)
        decay = decay_at(step, 0.5)
        value = decay * value + (1 - decay) * (step + 2.0)
    with average.applied() as applied:
        assert applied.weight.item() == pytest.approx(value, abs=1e-6)  # type: ignore[operator, union-attr]
    assert module.weight.item() == 5.0


def test_what_is_not_finite_is_skipped_and_counted(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_toy(Toy(frozenset({2, 3}), first_loss=None), data, run, steps=2)
    before = weights_of(run, 2)
    run_toy(Toy(frozenset({2, 3}), first_loss=None), data, run, steps=4)
    assert weights_of(run, 4) == before
    state = CheckpointState.read(run / "checkpoints" / "step-00000004" / "state.json")
    assert (state.step, state.skipped, state.skipped_in_a_row) == (4, 2, 2)
    assert [line["loss"] is None for line in log_of(run)] == [False, False, True, True]


@pytest.mark.parametrize("stop", [None, 3])  # three in a row, also across a resumption
def test_three_steps_in_a_row_stop_the_run_and_keep_the_last_checkpoint(
    stop: int | None, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    if stop:
        run_toy(Toy(frozenset({2, 3, 4}), first_loss=None), data, run, steps=stop)
    with pytest.raises(InputError, match=r"PB610.*\n.*steps 3 to 5"):
        run_toy(Toy(frozenset({2, 3, 4}), first_loss=None), data, run)
    assert open_run(run).step == 4


def test_a_network_that_does_not_start_as_promised_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"PB611[\s\S]*first loss of 0.50"):
        run_toy(Toy(first_loss=0.5), data, tmp_path / "run")
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_loss_that_did_not_halve_in_the_warm_up_is_warned_of(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        run_toy(Toy(), data, tmp_path / "run")
    assert sum("the warm-up is over" in message for message in caplog.messages) == 1


def test_another_configuration_is_refused_unless_overridden_which_is_recorded(
    data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    run_toy(Toy(), data, run, until=2)
    more = write_pack(tmp_path / "more.safetensors", count=13)
    with pytest.raises(
        InputError, match=r"PB605[\s\S]*pictures = 12 -> 13[\s\S]*batch = 8 -> 4[\s\S]*seed = 0 -> 1"
    ):
        run_toy(Toy(batch=4, micro_batch=4), more, run, seed=1)
    run_toy(Toy(), data, run, seed=1, override=True)
    state = CheckpointState.read(run / "checkpoints" / "step-00000006" / "state.json")
    assert [(r.step, r.differing) for r in state.resumptions] == [(2, ("seed = 0 -> 1",))]


def test_a_stop_signal_ends_after_the_step_with_a_checkpoint(
    data: Path, straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"

    def stop_at_three(self: steps.Trainer, check: Callable[[], None]) -> int:
        return 15 * (self.progress.step == 3)

    with monkeypatch.context() as patch:
        patch.setattr(steps.Trainer, "_stop_signal", stop_at_three)
        with pytest.raises(Interrupted) as stopped:
            run_toy(Toy(), data, run)
    assert stopped.value.exit_code == 143
    assert open_run(run).step == 3
    run_toy(Toy(), data, run)
    assert weights_of(run, 6) == weights_of(straight, 6)


def test_strips_show_fixed_samples_and_change_no_weight(data: Path, straight: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_toy(Toy(strip_every=3), data, run)
    strips = sorted((run / "strips").iterdir())
    assert [path.name for path in strips] == ["step-00000003.png", "step-00000006.png"]
    first, second = (decode(path.read_bytes()) for path in strips)
    assert first.shape == (8 * 16, 3 * 16, 3)
    left, right = slice(0, 16), slice(32, 48)  # sources and references stay, the middle learns
    assert np.array_equal(first[:, left], second[:, left])
    assert np.array_equal(first[:, right], second[:, right])
    assert not np.array_equal(first[:, 16:32], second[:, 16:32])
    assert weights_of(run, 6) == weights_of(straight, 6)


def test_bf16_trains_nearly_alike(data: Path, straight: Path, tmp_path: Path) -> None:
    run_toy(Toy(speed='autocast = "bf16"'), data, tmp_path / "run")
    for line, expected in zip(log_of(tmp_path / "run"), log_of(straight), strict=True):
        assert line["loss"] == pytest.approx(expected["loss"], rel=0.02)
        assert line["loss"] != expected["loss"] or line["step"] == 1


@pytest.mark.parametrize("speed", ["channels_last = true", "fused_adam = true"])
def test_switches_for_speed_move_roundings_only(
    speed: str, data: Path, straight: Path, tmp_path: Path
) -> None:
    run_toy(Toy(speed=speed), data, tmp_path / "run", steps=3)
    run_toy(Toy(speed=speed), data, tmp_path / "run")
    for line, expected in zip(log_of(tmp_path / "run"), log_of(straight), strict=True):
        assert line["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_noise_of_the_device_is_another_noise_that_trains_too(
    data: Path, straight: Path, tmp_path: Path
) -> None:
    run_toy(Toy(speed='noise = "device"'), data, tmp_path / "run")
    found, host = (open_run(run) for run in (tmp_path / "run", straight))
    assert 'noise = "device"' in found.recipe
    assert 'noise = "host"' in host.recipe
    assert not torch.equal(found.tensors["0.weight"], host.tensors["0.weight"])


class Board:
    """TensorBoard's writer, remembering."""

    def __init__(self) -> None:
        self.scalars: list[tuple[str, int]] = []
        self.images: list[tuple[str, int]] = []
        self.closed = False

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, step))

    def add_image(self, name: str, pixels: object, step: int, dataformats: str) -> None:
        assert dataformats == "HWC"
        self.images.append((name, step))

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_scalars_and_strips(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Board()
    monkeypatch.setattr(log, "_tensorboard", lambda run, step: board)
    run_toy(Toy(strip_every=3), data, tmp_path / "run")
    assert {("loss", 1), ("loss", 6), ("gradient_norm", 3), ("images_per_second", 2)} <= set(board.scalars)
    assert board.images == [("strips", 3), ("strips", 6)]
    assert board.closed


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(45, "45 s"), (89, "89 s"), (720, "12 min"), (12_000, "3 h 20 min"), (439_200, "5 d 2 h")],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert log.duration(seconds) == said


def test_weights_to_start_from_enter_network_and_average(data: Path, straight: Path, tmp_path: Path) -> None:
    run_toy(Toy(), data, tmp_path / "run", init=straight, until=1)
    given, after = open_run(straight).tensors, open_run(tmp_path / "run").tensors
    for name, tensor in given.items():  # one small step away, and not a random network away
        assert torch.allclose(after[name], tensor, atol=5e-3)
    state = CheckpointState.read(tmp_path / "run" / "checkpoints" / "step-00000001" / "state.json")
    assert state.configuration["init"] == open_run(straight).sha256


def test_weights_of_another_network_are_refused(data: Path, straight: Path, tmp_path: Path) -> None:
    file = straight / "checkpoints" / "step-00000006" / "ema.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors["0.weight"] = tensors["0.weight"][:4]
    tensors["9.bias"] = tensors.pop("0.bias")
    metadata = {"recipe": "", "method": "toy", "step": "1"}
    safetensors.torch.save_file(tensors, tmp_path / "other.safetensors", metadata)
    with pytest.raises(WeightsError, match=r"PB712[\s\S]*3 differences"):
        run_toy(Toy(), data, tmp_path / "run", init=tmp_path / "other.safetensors")


def test_unknown_recipes_get_a_neighbour(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no recipe 'inpaintin'.*did you mean inpainting"):
        run_toy(Toy(), data, tmp_path / "run", recipe="inpaintin")


def test_what_the_run_is_made_of_is_written(straight: Path) -> None:
    text = (straight / loop.RECIPE).read_text()
    assert 'task = "inpainting"' in text
    assert open_run(straight).recipe == text
    assert json.loads((straight / loop.ENVIRONMENT).read_text())["deterministic"] == "true"


def test_unreadable_images_of_a_large_folder_are_listed_in_the_state(tmp_path: Path) -> None:
    data = write_images(tmp_path / "d", 3, (4, 4))
    (data / "p001.png").write_bytes(b"no image")
    (tmp_path / "list.txt").write_text(
        "\n".join(["d/p000.png"] * 1500 + ["d/p001.png"] + ["d/p002.png"] * 10)
    )
    toy = Toy(batch=252, micro_batch=252)
    run_toy(toy, tmp_path / "list.txt", tmp_path / "run")  # six steps are one epoch
    state = CheckpointState.read(tmp_path / "run" / "checkpoints" / "step-00000006" / "state.json")
    assert state.unreadable == (1500,)


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_the_log_tells_memory_in_bytes_on_every_platform(
    platform: str, unit: int, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=7))
    run_toy(Toy(), data, tmp_path / "run", until=1)
    assert [line["memory_bytes"] for line in log_of(tmp_path / "run")] == [7 * unit]


@pytest.mark.parametrize("stem", ["weights", "ema", "optimizer"])
def test_a_checkpoint_that_does_not_fit_changes_nothing(stem: str) -> None:
    cpu, toy = torch.device("cpu"), Toy()
    recipe = read_recipe(Recipe, toy.text)

    def trainer() -> NetworkTrainer:
        return NetworkTrainer(toy.build(recipe, cpu).trainables[0], recipe, ProcessGroup(device=cpu))

    ours, theirs = trainer(), trainer()
    before = {part: {name: t.clone() for name, t in ours.state()[part].items()} for part in ours.state()}
    given = theirs.state()
    given["optimizer"] = {f"{name}/step": torch.ones(()) for name in theirs.names}
    given[stem] = {}
    with pytest.raises(WeightsError, match="PB712"):
        ours.load(given, moved=True)
    for part, tensors in ours.state().items():
        assert all(torch.equal(tensor, before[part][name]) for name, tensor in tensors.items())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_on_a_gpu_resumes_to_the_very_weights(data: Path, tmp_path: Path) -> None:
    run_toy(Toy(), data, tmp_path / "straight", device="cuda")
    run_toy(Toy(), data, tmp_path / "run", device="cuda", steps=3)
    run_toy(Toy(), data, tmp_path / "run", device="cuda")
    assert files_of(tmp_path / "run", 6) == files_of(tmp_path / "straight", 6)


@pytest.mark.trust("training: silence")
def test_a_run_says_that_it_lives_within_ten_seconds_and_every_thirty(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heart = log.Heartbeat()
    start = heart._spoke
    with caplog.at_level(logging.INFO):
        assert heart.sign(start + 5) > 0
        assert caplog.messages == []
        heart.begin("step 1 of 9")
        times = [start + 10 + 5 * n for n in range(20)]
        waits = [heart.sign(now) for now in times]
    assert all(message.startswith("step 1 of 9: ") for message in caplog.messages)
    assert len(caplog.messages) == 4  # at 10, 35, 60 and 85 seconds
    assert max(waits) <= 25


def test_every_progress_line_tells_rate_and_pace(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        run_toy(Toy(), data, tmp_path / "run")
    lines = [line for line in caplog.messages if line.startswith("step 6 of 6")]
    assert len(lines) == 1
    assert "rate 1.0e-02" in lines[0]
    assert "images/s" in lines[0]
