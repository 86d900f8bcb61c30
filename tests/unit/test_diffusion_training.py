"""The training draw, the loss over m, and what the sampler shows the network of known pixels."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from palette_bench.baselines.palette import baseline
from palette_bench.baselines.palette.diffusion import DenoisingObjective, Diffusion, PaletteRecipe
from palette_bench.baselines.palette.samplers import plan_for, read_name
from palette_bench.baselines.palette.schedule import log_snr
from palette_bench.baselines.training.draws import KeyedDraws
from palette_bench.baselines.training.objective import TrainingBatch, masked_loss
from palette_bench.baselines.training.presets import PARAMETERS, PRESETS, known_parameters
from palette_bench.baselines.training.recipe import read_recipe, to_toml
from palette_bench.baselines.training.unet import UNet
from palette_bench.core.errors import RecordError, UsageError

CPU = torch.device("cpu")
DRAWS = KeyedDraws(seed=1)
RECIPES = baseline.recipes()


def recipe(name: str = "smoke", **sections: dict[str, Any]) -> PaletteRecipe:
    found = read_recipe(PaletteRecipe, RECIPES[name], name)
    value = found.model_dump(mode="json", by_alias=True, exclude_none=True)
    for section, changes in sections.items():
        value[section] |= changes
    return PaletteRecipe.model_validate_json(json.dumps(value))


TOY = {"network": {"preset": "palette-toy"}}


def examples(n: int = 4, side: int = 16, hole: bool = True, step: int = 0) -> TrainingBatch:
    draws = torch.Generator().manual_seed(2)
    reference = torch.rand(n, 3, side, side, generator=draws) * 2 - 1
    mask = torch.ones(n, 1, side, side, dtype=torch.bool)
    if hole:
        mask[:, :, : side // 2] = False
    source = torch.where(mask, torch.randn(reference.shape, generator=draws), reference)
    return TrainingBatch(step, np.arange(n), ("inpainting",) * n, reference, source, mask)


# --- recipes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_reads_and_its_resolved_copy_reads_back(name: str) -> None:
    found = recipe(name)
    resolved = found.resolved("palette", found.task or "inpainting", "host")
    assert read_recipe(PaletteRecipe, to_toml(resolved), name) == resolved
    Diffusion(resolved)


def test_the_defaults_are_the_papers() -> None:
    paper = recipe("colorization")
    assert (paper.training.batch, paper.training.steps) == (1024, 1_000_000)
    assert (paper.training.learning_rate, paper.training.warmup_steps) == (1e-4, 10_000)
    assert (paper.training.ema_decay, paper.training.loss) == (0.9999, "l2")
    assert (paper.network.preset, paper.sampling.steps) == ("palette-256", 1000)


def changes(name: str, than: str) -> dict[str, Any]:
    """Return the keys by which a recipe differs from another, with its values."""
    one, other = (recipe(n).model_dump(mode="json") for n in (name, than))
    return {
        f"{section}.{key}": value
        for section in ("network", "training", "noise", "speed", "sampling")
        for key, value in one[section].items()
        if value != other[section][key]
    }


@pytest.mark.parametrize("size", ["", "-64"])
def test_ablations_differ_from_the_papers_recipe_in_what_they_name(size: str) -> None:
    assert changes(f"l1{size}", f"inpainting{size}") == {"training.loss": "l1"}
    assert changes(f"gamma-log-snr{size}", f"inpainting{size}") == {"network.gamma_embedding": "log-snr"}
    for kind in ("local", "extra-blocks", "dilated"):
        change = {"network.attention_kind": kind}
        assert changes(f"attention-{kind}{size}", f"attention-global{size}") == change


def test_the_ablation_of_attention_has_the_papers_schedule() -> None:
    """Source: Palette, section 5.5: 500,000 steps of 512, half of both in the other experiments."""
    half = {"training.batch": 512, "training.steps": 500_000}
    assert changes("attention-global", "inpainting") == half
    assert changes("attention-global-64", "inpainting-64") == {}


def test_a_wrong_recipe_names_every_fault_and_the_neighbours() -> None:
    text = RECIPES["smoke"] + '\n[noise]\nknown = "clear"\n'
    text = text.replace('preset = "palette-smoke"', 'preset = "palette-smoke"\ngamma_embedding = "sqrt"')
    with pytest.raises(RecordError, match="sqrt-gamma") as caught:
        read_recipe(PaletteRecipe, text)
    assert "noise.known" in str(caught.value)


def test_the_way_of_restoring_is_no_part_of_what_decides_weights() -> None:
    assert recipe(sampling={"steps": 7}).choices() == recipe().choices()
    assert recipe(training={"loss": "l1"}).choices() != recipe().choices()


# --- training -----------------------------------------------------------------------------------


def test_levels_are_drawn_uniformly_by_step_and_between_its_ends() -> None:
    diffusion = Diffusion(recipe())
    many = examples(20_000, side=1, hole=False)
    gammas = diffusion.draw_gammas(many, DRAWS)
    assert diffusion.trained.lowest <= gammas.min()
    assert gammas.max() < 1
    steps = np.searchsorted(-diffusion.trained.gammas, -gammas)  # t with gamma_t <= gamma < gamma_(t-1)
    quarters = np.bincount((steps - 1) // 500, minlength=4)
    assert quarters.tolist() == pytest.approx([5000] * 4, abs=250)  # four standard deviations
    low, high = diffusion.trained.gammas[steps], diffusion.trained.gammas[steps - 1]
    assert ((gammas - low) / (high - low)).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("known", ["clean", "noised"])
def test_y_t_is_noised_in_the_hole_and_outside_as_the_recipe_says(known: str) -> None:
    diffusion = Diffusion(recipe(noise={"known": known}))
    some = examples(2)
    noise = torch.ones_like(some.reference)
    levels = torch.tensor([0.64, 1.0], dtype=torch.float64)[:, None, None, None]
    noisy = diffusion.noised(some.reference, noise, levels, some.mask)
    assert noisy[0, :, 8:] == pytest.approx(0.8 * some.reference[0, :, 8:] + 0.6, abs=1e-6)
    outside = some.reference[0, :, :8]
    assert noisy[0, :, :8] == pytest.approx(outside if known == "clean" else 0.8 * outside + 0.6, abs=1e-6)
    assert torch.equal(noisy[1], some.reference[1])


@pytest.mark.parametrize(("norm", "expected"), [("l2", 9.0), ("l1", 3.0)])
def test_the_loss_counts_masked_pixels_only(norm: Any, expected: float) -> None:
    mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    mask[0, :, 0, 0] = True
    mask[1, :, :2] = True
    predicted = torch.where(mask, 3.0, 100.0).expand(-1, 3, -1, -1)
    assert masked_loss(predicted, torch.zeros(2, 3, 4, 4), mask, norm).tolist() == [expected, expected]


class Blind(nn.Module):
    """A network that returns one value everywhere and keeps what it was shown."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.images: list[torch.Tensor] = []
        self.codes: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        self.images.append(images)
        self.codes.append(code)
        return torch.full_like(images[:, :3], self.value)


@pytest.mark.parametrize(("loss", "expected"), [("l2", 1.0), ("l1", math.sqrt(2 / math.pi))])
def test_an_untrained_network_starts_at_the_loss_of_predicting_nothing(loss: str, expected: float) -> None:
    objective = DenoisingObjective(recipe(network={"preset": "palette-toy"}, training={"loss": loss}), CPU)
    (player,) = objective.trainables
    losses = player.loss(player.module, examples(32), DRAWS)
    assert player.first_loss == expected
    assert float(losses.values.detach().mean()) == pytest.approx(expected, abs=0.02)
    losses.values.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in player.module.parameters())


@pytest.mark.parametrize("kind", PARAMETERS)
def test_the_papers_network_must_have_its_number_of_parameters(kind: Any) -> None:
    spec = replace(PRESETS["palette-256"], attention_kind=kind)
    with torch.device("meta"):
        count = sum(p.numel() for p in UNet(spec).parameters())
    assert known_parameters(spec) == count
    assert known_parameters(replace(spec, blocks=1)) is None


def test_the_network_sees_the_noisy_image_first_then_the_source_and_its_level() -> None:
    objective = DenoisingObjective(recipe(**TOY), CPU)
    some, blind = examples(), Blind(0.0)
    losses = objective.loss(blind, some, DRAWS)
    (shown,) = blind.images
    assert torch.equal(shown[:, 3:], some.source)
    assert torch.equal(shown[:, :3, :8], some.reference[:, :, :8])
    diffusion = Diffusion(recipe(**TOY))
    gammas = diffusion.draw_gammas(some, DRAWS)
    assert torch.equal(blind.codes[0], diffusion.code(gammas, CPU))
    assert losses.log_snr is not None
    assert losses.log_snr.numpy() == pytest.approx(log_snr(gammas))
    noise = DRAWS.normal(some, "noise", (3, 16, 16))
    assert losses.values.tolist() == pytest.approx(
        noise[:, :, 8:].square().mean((1, 2, 3)).tolist(), rel=1e-5
    )


def test_each_image_weighs_the_same_or_by_its_pixels() -> None:
    some = examples(2)
    some.mask[1, :, 12:] = False  # 128 and 64 pixels
    for reduction, weights in (("image", [1, 1]), ("pixel", [128, 64])):
        objective = DenoisingObjective(
            recipe(network={"preset": "palette-toy"}, training={"reduction": reduction}), CPU
        )
        assert objective.loss(Blind(0.0), some, DRAWS).weights.tolist() == weights


def test_equal_draws_give_equal_losses_whatever_the_batch() -> None:
    objective = DenoisingObjective(recipe(**TOY), CPU)
    whole = objective.loss(Blind(0.3), examples(4), DRAWS).values
    some = examples(4)
    part = replace(
        some,
        positions=some.positions[2:],
        tasks=some.tasks[2:],
        reference=some.reference[2:],
        source=some.source[2:],
        mask=some.mask[2:],
    )
    assert torch.equal(objective.loss(Blind(0.3), part, DRAWS).values, whole[2:])


def test_a_velocity_is_the_noise_near_the_image_and_the_negative_image_in_noise() -> None:
    diffusion = Diffusion(recipe(noise={"predicts": "velocity"}))
    some, noise = examples(), torch.ones(4, 3, 16, 16)
    gammas = torch.tensor([0.0, 0.36, 0.99, 1.0], dtype=torch.float64)[:, None, None, None]
    target = diffusion.target(some.reference, noise, gammas)
    assert torch.equal(target[0], -some.reference[0])
    assert target[1] == pytest.approx(0.6 - 0.8 * some.reference[1], abs=1e-6)
    assert torch.equal(target[3], noise[3])
    noisy = diffusion.noised(some.reference, noise, gammas, torch.ones_like(some.mask))
    for row, gamma in enumerate(gammas.flatten().tolist()):
        assert diffusion.noise_of(target[row], noisy[row], gamma) == pytest.approx(noise[row], abs=1e-5)


def test_the_loss_of_a_velocity_is_that_of_its_target() -> None:
    told = recipe(noise={"predicts": "velocity"}, training={"loss": "l2"}, **TOY)
    (player,) = DenoisingObjective(told, CPU).trainables
    assert player.first_loss is None  # it depends on the images
    some, blind = examples(200), Blind(0.0)
    gammas = Diffusion(told).draw_gammas(some, DRAWS)
    energy = float((some.reference.square() * some.mask).sum() / (3 * some.mask.sum()))
    expected = float(np.mean(gammas + (1 - gammas) * energy))
    assert float(player.loss(blind, some, DRAWS).values.mean()) == pytest.approx(expected, rel=0.02)


# --- sampling -----------------------------------------------------------------------------------


class Knows(nn.Module):
    """A network that knows the image and answers with what leads from it to y_t."""

    def __init__(self, diffusion: Diffusion, levels: tuple[float, ...], image: torch.Tensor) -> None:
        super().__init__()
        self.codes = {diffusion.code(np.array([g]), CPU).numpy().tobytes(): g for g in levels[:-1]}
        self.diffusion, self.image = diffusion, image
        self.shown: list[tuple[float, torch.Tensor]] = []

    def forward(self, images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        gamma = self.codes[code[:1].numpy().tobytes()]
        self.shown.append((gamma, images))
        noise = (images[:, :3] - math.sqrt(gamma) * self.image) / math.sqrt(1 - gamma)
        return self.diffusion.target(self.image, noise, torch.tensor(gamma, dtype=torch.float64))


@pytest.mark.parametrize("predicts", ["noise", "velocity"])
def test_the_preview_restores_with_the_network_and_keeps_known_pixels(predicts: str) -> None:
    told = recipe(noise={"predicts": predicts}, **TOY)
    objective = DenoisingObjective(told, CPU)
    diffusion = Diffusion(told)
    some = examples()
    plan = plan_for(diffusion.sampled, diffusion.trained, 25)
    network = Knows(diffusion, plan.levels, some.reference)
    restored = objective.preview(network, some, DRAWS)
    assert len(network.shown) == 25
    assert restored == pytest.approx(some.reference, abs=1e-4)
    assert torch.equal(restored[:, :, :8], some.reference[:, :, :8])


@pytest.mark.parametrize("sampler", ["ancestral", "dpmpp-2m"])
def test_noised_known_pixels_follow_the_law_of_training_at_every_level(sampler: Any) -> None:
    diffusion = Diffusion(recipe(noise={"known": "noised"}, **TOY))
    some = examples()
    plan = plan_for(diffusion.sampled, diffusion.trained, 25, sampler=sampler)
    network = Knows(diffusion, plan.levels, some.reference)

    def normal(step: int) -> torch.Tensor:
        return DRAWS.normal(some, f"step-{step}", (3, 16, 16))

    restored = diffusion.sample(network, plan, diffusion.codes(plan, CPU), some.source, some.mask, normal)
    for gamma, shown in network.shown:
        expected = math.sqrt(gamma) * some.reference + math.sqrt(1 - gamma) * normal(0)
        assert shown[:, :3, :8] == pytest.approx(expected[:, :, :8], abs=1e-5)
    assert torch.equal(restored[:, :, :8], some.reference[:, :, :8])


def test_plans_take_the_bold_default_of_their_number_of_steps() -> None:
    diffusion = Diffusion(recipe())
    names = {n: str(plan_for(diffusion.sampled, diffusion.trained, n)) for n in (1000, 250, 50, 25, 10)}
    assert names == {
        1000: "ancestral/paper/static",
        250: "ancestral/log-snr/static",
        50: "dpmpp-2m/log-snr/static",
        25: "dpmpp-2m/log-snr/static",
        10: "dpmpp-2m/log-snr/static",
    }


def test_the_name_on_a_card_reads_back_as_its_plan() -> None:
    diffusion = Diffusion(recipe())
    plan = plan_for(diffusion.sampled, diffusion.trained, 468, sampler="ddim", grid="paper-468", clip="off")
    assert str(plan) == "ddim/paper-468/off"
    assert plan_for(diffusion.sampled, diffusion.trained, 468, **read_name(str(plan))) == plan
    assert read_name("ddim") == {"sampler": "ddim"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ancestor", "did you mean ancestral"),
        ("ddim/logsnr/of", "grid 'logsnr': did you mean log-snr.*clip 'of': did you mean off"),
        ("ddim/log-snr/off/1", r"write SAMPLER\[/GRID\[/CLIP\]\]"),
    ],
)
def test_unknown_names_of_samplers_are_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_name(name)
