"""What a run takes is told, and refused where it is not there, before the first step."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest
import torch
from toy_method import Toy, run_toy, write_pack

from palette_bench.baselines.training import resources as module
from palette_bench.baselines.training.presets import PRESETS
from palette_bench.baselines.training.recipe import Recipe, _toml, read_recipe
from palette_bench.baselines.training.resources import (
    activation_bytes,
    forecast,
    memory_available,
    processors,
    threads,
)
from palette_bench.baselines.training.unet import UNet
from palette_bench.core.errors import DeviceError, RecordError, StackError, StorageError
from palette_bench.submission.methods import load_baseline


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("data") / "pack.safetensors")


def test_the_numbers_are_those_of_the_networks() -> None:
    toy = Toy()
    found = forecast(toy, read_recipe(toy.recipe_model, toy.text))
    assert (found.parameters, found.state, found.checkpoint) == (659, 20 * 659, 16 * 659)
    assert found.memory(8) == 36 * 659  # two convolutions: activations are not known


@pytest.mark.parametrize("method", ["palette", "regression", "gan"])
def test_every_method_is_counted_without_memory(method: str) -> None:
    trained = load_baseline(method).method()  # type: ignore[attr-defined]
    name = "colorization" if method != "gan" else "gan"
    recipe = read_recipe(trained.recipe_model, trained.texts[name])
    found = forecast(trained, recipe)
    assert found.parameters >= 552_814_083
    assert found.activations > 10**9  # of one image at 256 px


def test_activations_are_what_autograd_keeps_of_a_real_network() -> None:
    spec = PRESETS["palette-toy"]
    network, kept = UNet(spec), {}
    own = {parameter.data_ptr() for parameter in network.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = network(torch.zeros(1, 6, 16, 16), torch.zeros(1, spec.width))
    found = sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in own)
    del loss
    with torch.device("meta"):  # there attention keeps its matrix, which no device needs to
        assert activation_bytes(UNet(spec)) == pytest.approx(found, rel=0.15)


@pytest.mark.trust("training: too large")
def test_too_little_memory_is_refused_before_anything_is_built(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "memory_available", lambda device: 10_000)
    with caplog.at_level(logging.INFO), pytest.raises(DeviceError, match=r"PB707[\s\S]*--force") as caught:
        run_toy(Toy(), data, tmp_path / "run")
    assert "weights, gradients, Adam, average" in str(caught.value)
    said = "\n".join(caplog.messages)
    assert "659 parameters, 6 steps of 8 images at 16 px" in said
    assert not (tmp_path / "run" / "checkpoints").exists()
    run_toy(Toy(), data, tmp_path / "run", force=True)


def test_a_cpu_recipe_is_named_with_the_task_it_is_for() -> None:
    method = load_baseline("palette").method()  # type: ignore[attr-defined]
    recipe = read_recipe(method.recipe_model, method.texts["colorization"])
    with pytest.raises(DeviceError, match="--recipe mini-cpu --task multi"):
        module.report_and_check(
            module.ResourceForecast(1, 1 << 60, 1, 1, 1),
            recipe,
            16,
            torch.device("cpu"),
            method.texts,
            False,
        )


@pytest.mark.trust("training: too little space")
def test_too_little_space_for_checkpoints_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 20_000})
    monkeypatch.setattr("palette_bench.core.atomic.shutil.disk_usage", lambda folder: usage)
    with pytest.raises(StorageError, match=r"PB804[\s\S]*keep_every"):
        run_toy(Toy(), data, tmp_path / "run")


def test_a_container_s_limits_count(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300000\n")
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert memory_available(torch.device("cpu"), tmp_path) == 400_000
    assert processors(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert processors(tmp_path) >= 1
    assert (memory_available(torch.device("cpu"), tmp_path) or 1 << 40) > 400_000


@pytest.mark.trust("training: busy neighbours")
def test_threads_leave_busy_processors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module.torch, "get_num_threads", lambda: 8)
    set_to: list[int] = []
    monkeypatch.setattr(module.torch, "set_num_threads", set_to.append)
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(6)), raising=False)
    for load, fixed, expected in ((0.1, False, 6), (5.2, False, 3), (40.0, False, 1), (40.0, True, 6)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 0.0, 0.0))
        with threads(None, fixed=fixed):
            assert set_to[-1] == expected
        assert set_to[-1] == 8


def test_threads_are_those_asked_for_and_the_caller_s_again_afterwards() -> None:
    before = torch.get_num_threads()
    with threads(before + 2) as count:
        assert count == torch.get_num_threads() == before + 2
    assert torch.get_num_threads() == before


SILLY = (0, -1, 3, 7, 10**6, 10**12, -0.5, 1.5, 1e300, "x", True, [], [0], [9], [10**9])
KEYS = (
    *("side", "width", "multipliers", "blocks", "attention", "head_width", "groups", "attention_kind"),
    *("batch", "micro_batch", "learning_rate", "warmup_steps", "cooldown_steps", "ema_decay", "epsilon"),
)


@pytest.mark.trust("training: silly recipe values")
@pytest.mark.parametrize("key", KEYS)
def test_a_silly_value_is_refused_or_makes_a_network(key: str) -> None:
    section = "network" if key in KEYS[:8] else "training"
    for value in SILLY:
        text = "\n".join(line for line in Toy().text.splitlines() if not line.startswith(f"{key} ="))
        text = text.replace(f"[{section}]", f"[{section}]\n{key} = {_toml(value)}")
        with contextlib.suppress(RecordError), torch.device("meta"):  # it names what is allowed
            UNet(read_recipe(Recipe, text).network.spec)


@pytest.mark.parametrize("width", [2, 8, 16, 24, 48])
def test_narrow_networks_are_built_with_the_groups_told(width: int) -> None:
    text = Toy().text.replace("[training]", f"width = {width}\ngroups = 2\nhead_width = 2\n[training]")
    spec = read_recipe(Toy().recipe_model, text).network.spec
    network = UNet(spec)
    out = network(torch.zeros(1, 6, 16, 16), torch.zeros(1, width))
    assert out.shape == (1, 3, 16, 16)


@pytest.mark.trust("training: silly recipe values")
def test_compiling_without_a_compiler_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(StackError, match=r"PB711[\s\S]*compile = false"):
        run_toy(Toy(speed="compile = true"), data, tmp_path / "run")
