"""Restoring with a run: which weights, which noise, which pixels, and what is refused."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import questions
import torch
from questions import part

from palette_bench.baselines.palette import baseline
from palette_bench.baselines.palette.diffusion import Diffusion, PaletteRecipe
from palette_bench.baselines.palette.restore import (
    GAMMA,
    KeyedNoise,
    ahead,
    denoising_gain,
    expected_to_denoise,
)
from palette_bench.baselines.training import checkpoint
from palette_bench.baselines.training.presets import PRESETS
from palette_bench.baselines.training.recipe import read_recipe, to_toml
from palette_bench.baselines.training.unet import UNet, flop
from palette_bench.core.errors import InputError, UsageError, WeightsError
from palette_bench.core.rng import sampling_noise
from palette_bench.submission.methods import Batch, ImageRestorer, RestoreOptions, UserImage
from palette_bench.submission.restore import restore

SIDE = 16
SMOKE = baseline.recipes()["smoke"].replace("palette-smoke", "palette-toy")
TASKS = ("colorization", "inpainting", "uncropping", "jpeg")
ALL = SMOKE.replace("\n[network]", f"\ntasks = {list(TASKS)}\n\n[network]".replace("'", '"'), 1)


def weights(recipe: PaletteRecipe, seed: int) -> dict[str, torch.Tensor]:
    """Random weights that answer strongly, so that differences show."""
    draws = torch.Generator().manual_seed(seed)
    state = UNet(recipe.network.spec).state_dict()
    return {name: torch.randn(value.shape, generator=draws) * 0.1 for name, value in state.items()}


def write_run(folder: Path, text: str = ALL, task: str = "multi", step: int = 20) -> Path:
    """A run folder with one checkpoint: raw weights of seed 1, averaged ones of seed 2."""
    recipe = read_recipe(PaletteRecipe, text).resolved("palette", task, "host")
    state = checkpoint.CheckpointState(
        schema=checkpoint.CheckpointState.schema_name(),
        method="palette",
        step=step,
        images_seen=step * 8,
        skipped=0,
        skipped_in_a_row=0,
        parameters=1,
        configuration={},
        environment={},
        files={},
    )
    checkpoint.save(
        folder, state, {"weights": weights(recipe, 1), "ema": weights(recipe, 2)}, to_toml(recipe)
    )
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"))


def model(run: Path, **options: Any) -> ImageRestorer:
    return baseline.restorer(RestoreOptions(run=run, **{"steps": 4, **options}))


def batch(task: str) -> Batch:
    """Images of a set that exists in memory only, of the network's size."""
    return questions.batch(task, SIDE)


@pytest.mark.parametrize("sampler", ["ancestral", "dpmpp-2m"])
@pytest.mark.parametrize("size", [1, 3, 8])
@pytest.mark.parametrize("task", ["jpeg", "inpainting"])
def test_images_do_not_depend_on_the_batch_by_more_than_a_level(
    run: Path, sampler: str, size: int, task: str
) -> None:
    restorer = model(run, sampler=sampler, steps=8)
    whole = batch(task)
    expected = restorer.restore(whole)
    parts = [restorer.restore(part(whole, start, start + size)) for start in range(0, 8, size)]
    assert np.abs(np.concatenate(parts).astype(int) - expected).max() <= 1
    assert len({image.tobytes() for image in expected}) == 8


def test_restoring_keeps_no_activations_for_gradients(run: Path) -> None:
    restorer: Any = model(run)
    restorer.network.requires_grad_(True)
    kept: list[bool] = []
    restorer.network.register_forward_hook(lambda module, given, made: kept.append(made.requires_grad))
    restorer.restore(batch("jpeg"))
    restorer.restore_image(own_image("jpeg", 24, 20), "tile")
    assert kept
    assert not any(kept)


def test_the_same_call_gives_the_same_bits_and_another_seed_or_sample_others(run: Path) -> None:
    some = batch("jpeg")
    first = model(run).restore(some)
    assert (model(run).restore(some) == first).all()
    assert (model(run, seed=1).restore(some) != first).any()
    other = Batch(some.ids, some.inputs, None, some.benchset, sample=1)
    assert (model(run).restore(other) != first).any()


@pytest.mark.parametrize(("policy", "side"), [(None, 2 * SIDE), ("native", SIDE)])
def test_a_set_of_another_size_is_refused_unless_a_policy_says_how(
    run: Path, tmp_path: Path, policy: str | None, side: int
) -> None:
    restorer = model(run, size_policy=policy)
    other = questions.batch("jpeg", side)
    with pytest.raises(UsageError, match=r"PB302[\s\S]*--size-policy"):
        restorer.restore(other)
    with pytest.raises(UsageError, match=f"PB302[\\s\\S]*found *{side} x {side} px"):
        restore(restorer, other.benchset, tmp_path / "sub")
    assert not (tmp_path / "sub").exists()


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("policy", ["tile", "scale", "native"])
def test_a_size_policy_restores_a_set_as_own_images_and_the_card_says_so(
    run: Path, policy: str, task: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain, restorer = model(run), model(run, size_policy=policy)
    some = questions.batch(task, 2 * SIDE, n=2)
    output = restorer.restore(some)
    assert not [record for record in caplog.records if record.levelname == "WARNING"]  # not one per image
    assert output.shape == (2, 2 * SIDE, 2 * SIDE, 3)
    if some.masks is not None:
        assert (output[~some.masks] == some.inputs[~some.masks]).all()
    source = np.broadcast_to(some.inputs, output.shape)
    for at, name in enumerate(some.ids):
        own = UserImage(name, task, source[at], None if some.masks is None else some.masks[at])
        assert (output[at] == plain.restore_image(own, policy)).all()
    again = restorer.restore(Batch(some.ids, some.inputs, some.masks, some.benchset, sample=1))
    assert (again != output).any()
    card = restorer.about
    assert card.declared.postprocess == f"size policy {policy}: trained at {SIDE} px"
    assert card.sampling.flop_per_image is None
    assert restorer.identity != plain.identity


@pytest.mark.parametrize("task", TASKS)
def test_outputs_have_the_promised_form_and_known_pixels_bit_for_bit(run: Path, task: str) -> None:
    some = batch(task)
    output = model(run).restore(some)
    assert output.shape == (8, SIDE, SIDE, 3)
    assert output.dtype == np.uint8
    if some.masks is not None:
        assert (output[~some.masks] == some.inputs[~some.masks]).all()
        assert (output[some.masks] != some.inputs[some.masks]).any()


def test_the_hole_of_the_source_holds_the_items_fill(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    sample = Diffusion.sample

    def spy(self: Diffusion, *args: Any) -> torch.Tensor:
        seen.append(args[3])
        return sample(self, *args)

    monkeypatch.setattr(Diffusion, "sample", spy)
    some = batch("inpainting")
    model(run).restore(some)
    assert some.masks is not None
    source = seen[0].permute(0, 2, 3, 1).numpy()
    assert (source[some.masks] == some.hole_noise()[some.masks]).all()
    assert source[~some.masks] == pytest.approx(some.inputs[~some.masks] / 127.5 - 1, abs=1e-6)


def test_noise_is_that_of_the_contract() -> None:
    some = batch("jpeg")
    noise = KeyedNoise(5, some.ids, 0, (SIDE, SIDE), torch.device("cpu"), "host")
    for step in (0, 3):
        np.testing.assert_array_equal(noise(step).numpy(), some.noise(5, step))


def test_noise_drawn_ahead_is_the_noise_in_order() -> None:
    with ahead(torch.tensor, 5) as normal:
        assert [int(normal(step)) for step in range(5)] == [0, 1, 2, 3, 4]


def test_device_noise_differs_from_host_noise_and_is_keyed_alike(run: Path) -> None:
    some = batch("jpeg")
    here, there = (model(run, noise=where).restore(some) for where in ("host", "device"))
    assert (here != there).any()
    again = model(run, noise="device").restore(part(some, 2, 5))
    assert np.abs(again.astype(int) - there[2:5]).max() <= 1


def test_averaged_weights_are_sampled(run: Path) -> None:
    some = batch("jpeg")
    folder = run / "checkpoints" / "step-00000020"
    expected = model(run).restore(some)
    assert (model(folder / "ema.safetensors").restore(some) == expected).all()
    assert (model(folder).restore(some) == expected).all()
    assert (model(folder / "weights.safetensors").restore(some) != expected).any()


def test_fast_is_near_and_says_so(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[UNet] = []

    def compile_later(self: UNet) -> None:  # now it would take most of a minute
        compiled.append(self)

    monkeypatch.setattr(UNet, "compile", compile_later)
    some = batch("jpeg")
    exact, fast = model(run), model(run, fast=True)
    assert len(compiled) == 1
    assert fast.identity != exact.identity
    gap = np.abs(fast.restore(some).astype(int) - exact.restore(some))
    assert 0 < gap.mean() < 16


def test_the_card_tells_run_sampler_and_steps(run: Path) -> None:
    about = model(run, steps=10, seed=4).about
    assert (about.sampling.sampler, about.sampling.steps, about.sampling.seed) == (
        "dpmpp-2m/log-snr/static",
        10,
        4,
    )
    assert about.sampling.flop_per_image == 10 * flop(PRESETS["palette-toy"])
    assert about.training.parameters == 828_355
    assert about.training.task_specific is False
    assert about.training.saw_test_images == "unknown"
    assert about.declared.uses_mask is True
    assert "multi-task, palette-toy, 20 steps" in about.method.name


def test_identity_tells_apart_whatever_decides_a_pixel(run: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", ALL + '\n[noise]\nknown = "noised"\n')
    models = [
        model(run),
        model(run, steps=5),
        model(run, seed=1),
        model(run, sampler="ddim"),
        model(run, sampler="dpmpp-2m/log-snr/off"),
        model(run, noise="device"),
        model(run / "checkpoints" / "step-00000020" / "weights.safetensors"),
        model(other),
    ]
    assert len({found.identity for found in models}) == len(models)
    assert model(run).identity == models[0].identity


def test_steps_and_sampler_come_from_the_options_then_the_recipe_then_the_steps(tmp_path: Path) -> None:
    text = ALL.replace("[sampling]\nsteps = 3", '[sampling]\nsteps = 6\nsampler = "ddim"\nclip = "off"')
    own = write_run(tmp_path, text)

    def sampler(**options: Any) -> str:
        return str(baseline.restorer(RestoreOptions(run=own, **options)).about.sampling.sampler)

    assert sampler() == "ddim/log-snr/off"
    assert sampler(steps=25) == "dpmpp-2m/log-snr/off"
    assert sampler(sampler="ancestral/log-snr/static") == "ancestral/log-snr/static"
    assert sampler(steps=468, sampler="ancestral/paper-468") == "ancestral/paper-468/off"


def test_a_task_the_run_never_saw_is_refused(tmp_path: Path) -> None:
    own = model(write_run(tmp_path, SMOKE, "jpeg"))
    with pytest.raises(UsageError, match="trained for jpeg, not for colorization"):
        own.restore(batch("colorization"))
    with pytest.raises(UsageError, match="trained for jpeg, not for inpainting"):
        own.restore_image(UserImage("a", "inpainting", np.zeros((16, 16, 3), np.uint8), None), None)


def test_what_is_no_run_of_ours_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--run RUN"):
        baseline.restorer(RestoreOptions())
    with pytest.raises(UsageError, match="--pipeline"):
        baseline.restorer(RestoreOptions(run=run, pipeline="X"))
    other = write_run(tmp_path / "other")
    file = other / "checkpoints" / "step-00000020" / "ema.safetensors"
    foreign = tmp_path / "gan.safetensors"
    foreign.write_bytes(file.read_bytes().replace(b'"method":"palette"', b'"method":"gangang"'))
    with pytest.raises(UsageError, match="trained as gangang"):
        model(foreign)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    own = write_run(tmp_path)
    file = own / "checkpoints" / "step-00000020" / "ema.safetensors"
    lone = tmp_path / "lone.safetensors"
    lone.write_bytes(file.read_bytes().replace(b"head.bias", b"head.bios"))
    with pytest.raises(WeightsError, match=r"PB712[\s\S]*missing head.bias; unknown head.bios"):
        model(lone)


# --- what goes wrong while sampling ---------------------------------------------------------------


def test_images_that_stay_not_finite_fail_by_id(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = UNet.forward

    def broken(self: UNet, images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        out = forward(self, images, code)
        out[[1, 5]] = float("nan")
        return out

    monkeypatch.setattr(UNet, "forward", broken)
    with pytest.raises(InputError, match=r"PB612[\s\S]*p1, p5"):
        model(run).restore(batch("jpeg"))


def test_images_far_out_of_range_fail_too(run: Path) -> None:
    with pytest.raises(InputError, match="PB612"):
        model(run, sampler="dpmpp-2m/log-snr/off").restore(batch("jpeg"))


def test_reduced_precision_is_given_up_for_the_images_it_breaks(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = batch("jpeg")
    exact = model(run).restore(some)
    forward = UNet.forward

    def overflows(self: UNet, images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        out = forward(self, images, code)
        if torch.is_autocast_enabled("cpu"):
            out[2] = float("inf")
        return out

    monkeypatch.setattr(UNet, "forward", overflows)
    monkeypatch.setattr(UNet, "compile", lambda self: None)
    fast = model(run, fast=True).restore(some)
    assert (fast[2] == exact[2]).all()
    assert (fast != exact).any()


# --- self-check -----------------------------------------------------------------------------------


def test_a_settled_run_that_does_not_denoise_is_refused(tmp_path: Path) -> None:
    text = ALL.replace("palette-toy", "palette-64xs")
    young, old = write_run(tmp_path / "young", text, step=999), write_run(tmp_path / "old", text, step=1000)
    model(young)
    with pytest.raises(InputError, match=r"PB611[\s\S]*gains 3 dB") as caught:
        model(old)
    assert [p.where.rpartition(": ")[2] for p in caught.value.problems] == list(TASKS)


def test_the_self_check_waits_for_warm_up_and_says_that_it_did(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert expected_to_denoise(10_000, 10_000, 256)
    assert not expected_to_denoise(9_999, 10_000, 256)
    with caplog.at_level(logging.INFO):
        model(run)
    assert "not checked whether" in caplog.text


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
@pytest.mark.parametrize("task", TASKS)
def test_the_gain_is_that_of_the_networks_answer(task: Any, predicts: str) -> None:
    text = ALL.replace("palette-toy", "palette-64xs") + f'\n[noise]\npredicts = "{predicts}"\n'
    recipe = read_recipe(PaletteRecipe, text)
    diffusion = Diffusion(recipe)
    shown: list[torch.Tensor] = []

    def standing_for(noise: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        """Return the output that `noise_of` takes for this noise."""
        if predicts == "noise":
            return noise
        return (noise - math.sqrt(1 - GAMMA) * images[:, :3]) / math.sqrt(GAMMA)

    def answers(images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        shown.append(images)
        return standing_for(torch.zeros_like(images[:, :3]), images)

    assert denoising_gain(diffusion, answers, task, 64) == pytest.approx(0, abs=1e-5)
    seen = shown[0]
    assert seen.shape == (1, 6, 64, 64)

    def halves(images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Half of the true noise: the error halves, which is 6 dB."""
        noise = torch.from_numpy(sampling_noise(0, "self-check", 0, 0, (1, 3, 64, 64)))
        return standing_for(noise / 2, images)

    assert denoising_gain(diffusion, halves, task, 64) == pytest.approx(6.02, abs=0.01)


# --- own images ---------------------------------------------------------------------------------


def own_image(task: str, height: int, width: int) -> UserImage:
    pixels = np.random.default_rng(4).integers(0, 256, (height, width, 3), np.uint8)
    mask = None
    if task in ("inpainting", "uncropping"):
        mask = np.zeros((height, width), bool)
        mask[2:9, width // 2 :] = True
    return UserImage("mine", task, pixels, mask)


@pytest.mark.parametrize("policy", [None, "tile", "scale", "native"])
@pytest.mark.parametrize("task", TASKS)
def test_own_images_of_any_size_keep_what_is_known(run: Path, policy: str | None, task: str) -> None:
    restorer = model(run, steps=2)
    assert isinstance(restorer, ImageRestorer)
    own = own_image(task, 23, 37)
    output = restorer.restore_image(own, policy)
    assert output.shape == (23, 37, 3)
    if own.mask is not None:
        assert (output[~own.mask] == own.input[~own.mask]).all()
    assert (restorer.restore_image(own, policy) == output).all()


def test_one_window_is_the_network_itself(run: Path) -> None:
    own = own_image("jpeg", SIDE, SIDE)
    tiled, native = (model(run).restore_image(own, policy) for policy in ("tile", "native"))
    assert np.abs(tiled.astype(int) - native).max() <= 1
