"""The GAN baseline: the discriminator's shape, losses in closed form, turns that leave the rival alone, z."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from questions import batch, part
from toy_method import files_of, run_toy, write_pack

from palette_bench.baselines.gan import baseline
from palette_bench.baselines.gan.discriminator import (
    ADVERSARIAL,
    PARAMETERS,
    Discriminator,
    PatchDiscriminator,
    accuracy,
    feature_gap,
    mean_score,
    squared_slope,
)
from palette_bench.baselines.gan.objective import (
    PATIENCE,
    DiscriminatorMonitor,
    GanObjective,
    GanRecipe,
    generate,
    keyed_z,
    shown,
)
from palette_bench.baselines.training.draws import KeyedDraws
from palette_bench.baselines.training.objective import TrainingBatch
from palette_bench.baselines.training.recipe import read_recipe
from palette_bench.baselines.training.restorer import ModelInput
from palette_bench.core.errors import RecordError, UsageError
from palette_bench.submission.methods import RestoreOptions

SIDE = 32
CPU = torch.device("cpu")
SMALL = """
schema = "palette-bench/recipe/1.0"
method = "gan"
[network]
preset = "palette-toy"
side = 32
multipliers = [1]
attention = []
z = "{z}"
[training]
batch = 4
micro_batch = 2
steps = 4
warmup_steps = 2
adversarial = "{adversarial}"
feature_matching = {feature_matching}
l1 = {l1}
[discriminator]
regularisation = "{regularisation}"
r1_every = 2
[checkpoints]
save_every = 100
[log]
every = 1
strip_every = 2
"""
VARIANTS: dict[str, dict[str, Any]] = {
    "gan": {},
    "gan-r1": {"adversarial": "non-saturating", "regularisation": "r1"},
    "pix2pix": {
        "adversarial": "non-saturating",
        "regularisation": "none",
        "feature_matching": 0,
        "l1": 100,
        "z": "zero",
    },
}


def text_of(**keys: Any) -> str:
    defaults = {"adversarial": "hinge", "regularisation": "spectral-norm", "feature_matching": 10, "l1": 10}
    return SMALL.format(**{"z": "normal", **defaults, **keys})


def game_of(**keys: Any) -> GanObjective:
    torch.manual_seed(0)
    return GanObjective(read_recipe(GanRecipe, text_of(**keys)).resolved("gan", "inpainting", "host"), CPU)


def examples(task: str = "inpainting", step: int = 0) -> TrainingBatch:
    draw = torch.Generator().manual_seed(1)
    mask = torch.ones(2, 1, SIDE, SIDE, dtype=torch.bool)
    if task == "inpainting":
        mask[:, :, :, :20] = False
    reference = torch.rand(2, 3, SIDE, SIDE, generator=draw) * 2 - 1
    source = torch.randn(2, 3, SIDE, SIDE, generator=draw)
    return TrainingBatch(step, np.arange(2), (task,) * 2, reference, source, mask)


# --- the discriminator ----------------------------------------------------------------------------


@pytest.mark.parametrize("normalised", [False, True])
def test_a_scale_has_its_parameters_also_when_normalised(normalised: bool) -> None:
    assert PARAMETERS == 2_768_833
    assert sum(p.numel() for p in PatchDiscriminator(normalised).parameters()) == PARAMETERS
    assert sum(p.numel() for p in Discriminator(3, normalised).parameters()) == 3 * PARAMETERS


def test_a_score_sees_seventy_pixels() -> None:
    patches = PatchDiscriminator(normalised=False)
    for parameter in patches.parameters():
        torch.nn.init.constant_(parameter, 0.01)  # nothing cancels
    image = torch.zeros(1, 7, 128, 128, requires_grad=True)
    scores = patches(image)[-1]
    assert scores.shape == (1, 1, 14, 14)
    scores[0, 0, 7, 7].backward()
    assert image.grad is not None
    rows, columns = image.grad[0, 0].nonzero().unbind(1)
    assert int(rows.max() - rows.min() + 1) == int(columns.max() - columns.min() + 1) == 70


def test_normalised_layers_have_spectral_norm_one() -> None:
    torch.manual_seed(2)
    patches = PatchDiscriminator(normalised=True)
    image = torch.randn(1, 7, 24, 24)
    with torch.no_grad():
        for layer in patches.layers:
            layer.parametrizations.weight.original.mul_(5)
        for _ in range(200):  # each pass is a power iteration
            patches(image)
        for layer in patches.layers[:3]:
            sigma = torch.linalg.svdvals(layer.weight.flatten(1))[0]
            assert sigma == pytest.approx(1, abs=2e-3)
            raw = torch.linalg.svdvals(layer.parametrizations.weight.original.flatten(1))[0]
            assert raw > 2


@pytest.mark.parametrize(("side", "scales"), [(256, 3), (128, 2), (64, 2), (48, 2), (32, 1)])
def test_larger_images_are_judged_at_more_scales(side: int, scales: int) -> None:
    recipe = read_recipe(GanRecipe, text_of().replace("side = 32", f"side = {side}"))
    assert recipe.discriminator.scales is None
    assert recipe.resolved("gan", "jpeg", "host").discriminator.scales == scales
    with torch.no_grad():
        judgements = Discriminator(scales, normalised=False)(torch.zeros(1, 7, side, side))
    assert [len(judgement) for judgement in judgements] == [5] * scales
    assert all(judgement[-1].numel() for judgement in judgements)


@pytest.mark.parametrize(("side", "scales"), [(16, 1), (32, 2)])
def test_images_too_small_for_patches_are_refused(side: int, scales: int) -> None:
    text = text_of().replace("side = 32", f"side = {side}")
    text = text.replace("[discriminator]", f"[discriminator]\nscales = {scales}")
    with pytest.raises(RecordError, match="16 px, and its patches need 24"):
        read_recipe(GanRecipe, text)


def test_coarser_scales_see_means_of_two_by_two() -> None:
    seen: list[torch.Tensor] = []
    network = Discriminator(3, normalised=False)
    for patches in network.scales:
        patches.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    image = torch.randn(1, 7, 96, 96)
    network(image)
    assert torch.equal(seen[0], image)
    assert seen[2] == pytest.approx(image.reshape(1, 7, 24, 4, 24, 4).mean((3, 5)), abs=1e-6)


def test_it_sees_the_composite_the_source_without_holes_and_the_mask() -> None:
    made = torch.full((2, 3, SIDE, SIDE), 0.25)
    some = examples()
    seen = shown(some, made)
    hole = some.mask.expand(-1, 3, -1, -1)
    assert seen.shape == (2, 7, SIDE, SIDE)
    assert (seen[:, :3][hole] == 0.25).all()
    assert torch.equal(seen[:, :3][~hole], some.reference[~hole])
    assert not seen[:, 3:6][hole].any()
    assert torch.equal(seen[:, 3:6][~hole], some.source[~hole])
    assert torch.equal(seen[:, 6:], some.mask.float())
    colour = examples("colorization")  # all is to be produced, but the source has no hole
    assert torch.equal(shown(colour, made)[:, 3:6], colour.source)


# --- losses ---------------------------------------------------------------------------------------


def judged(*values: float, hidden: float = 0.0) -> list[list[torch.Tensor]]:
    """Judgements of one image: one score map per scale, coarser scales smaller."""
    return [
        [torch.full((1, 4, 6, 6), hidden), torch.full((1, 1, 4 >> k, 4 >> k), value)]
        for k, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("name", "real", "made", "fooling"),
    [
        ("hinge", 0.5, 3.0, -2.0),
        ("non-saturating", math.log1p(math.exp(-0.5)), math.log1p(math.exp(2)), math.log1p(math.exp(-2))),
    ],
)
def test_adversarial_losses_are_their_closed_forms(
    name: str, real: float, made: float, fooling: float
) -> None:
    sides = ADVERSARIAL[name]
    assert mean_score(judged(0.5), sides.real).item() == pytest.approx(real)
    assert mean_score(judged(2.0), sides.made).item() == pytest.approx(made)
    assert mean_score(judged(2.0), sides.fooling).item() == pytest.approx(fooling)


def test_a_hinge_asks_no_more_than_its_margin() -> None:
    hinge = ADVERSARIAL["hinge"]
    assert mean_score(judged(1.5), hinge.real).item() == mean_score(judged(-1.5), hinge.made).item() == 0


def test_scales_weigh_alike_whatever_their_size() -> None:
    assert mean_score(judged(1.0, 4.0), lambda d: d).item() == 2.5
    assert accuracy(judged(1.0, -1.0), judged(-1.0, -1.0)) == 0.75


def test_feature_matching_is_the_mean_distance_and_pulls_the_made_ones_only() -> None:
    real, made = judged(9.0, 9.0, hidden=1.0), judged(-9.0, -9.0, hidden=0.25)  # scores do not count
    for judgements in (real, made):
        for judgement in judgements:
            judgement[0].requires_grad_()
    gap = feature_gap(real, made)
    assert gap.tolist() == [0.75]
    gap.sum().backward()
    assert real[0][0].grad is None
    assert made[0][0].grad is not None


def test_the_slope_of_a_linear_discriminator_is_its_weights() -> None:
    draw = torch.Generator().manual_seed(3)
    first, second = (torch.randn(3, 8, 8, generator=draw).requires_grad_() for _ in range(2))

    def judge(images: torch.Tensor) -> list[list[torch.Tensor]]:
        return [[(images * w).sum((1, 2, 3), keepdim=True)] for w in (first, second)]

    slopes = squared_slope(judge, torch.randn(5, 3, 8, 8, generator=draw))
    mean = (first + second) / 2
    assert slopes.tolist() == pytest.approx([mean.square().sum().item()] * 5, rel=1e-5)
    slopes.sum().backward()  # of 5 |(v + w) / 2|^2 by v: 5 (v + w) / 2
    assert first.grad == pytest.approx(5 * mean.detach(), rel=1e-4, abs=1e-5)


def test_the_penalty_comes_every_other_step_times_two_with_its_weight() -> None:
    strong = text_of(**VARIANTS["gan-r1"]).replace("r1_every = 2", "r1_every = 2\nr1_weight = 1000")
    games = []
    for text in (strong, strong.replace('"r1"', '"none"')):
        torch.manual_seed(0)
        games.append(GanObjective(read_recipe(GanRecipe, text), CPU))

    def penalty(step: int) -> torch.Tensor:
        some = examples(step=step)
        held, free = (g.discriminator_loss(g.trainables[0].module, some, KeyedDraws(0)).values for g in games)
        difference: torch.Tensor = held - free
        return difference.detach()

    some, judge = examples(), games[0].trainables[0].module
    slope = squared_slope(lambda images: judge(shown(some, images)), some.reference).detach()
    gamma = 1000 * SIDE * SIDE / 4
    assert penalty(0) == pytest.approx(2 * gamma / 2 * slope, rel=1e-4)
    assert not penalty(1).any()


# --- turns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_turn_moves_its_own_player_only(variant: str) -> None:
    game = game_of(**VARIANTS[variant])
    rival, network = game.trainables
    assert (rival.name, network.name) == ("discriminator", "network")
    assert (rival.learning_rate, network.learning_rate, network.betas) == (4e-4, 1e-4, (0.0, 0.99))
    assert (rival.averaged, network.averaged) == (False, True)
    for player, other in ((rival, network), (network, rival)):
        losses = player.loss(player.module, examples(), KeyedDraws(0))
        assert losses.values.shape == (2,)
        losses.values.sum().backward()
        assert any(p.grad is not None and p.grad.any() for p in player.module.parameters())
        assert all(p.grad is None and p.requires_grad for p in other.module.parameters())
        player.module.zero_grad()


def test_the_generators_loss_is_the_sum_of_its_terms() -> None:
    some, draws = examples(), KeyedDraws(0)

    def loss(**keys: Any) -> torch.Tensor:
        game = game_of(regularisation="none", **keys)
        values: torch.Tensor = game.generator_loss(game.trainables[1].module, some, draws).values
        return values.detach()

    alone = loss(feature_matching=0, l1=0)
    # an untrained generator makes gray: its distance is |y| where m is
    gray = (some.reference.abs() * some.mask).sum((1, 2, 3)) / (3 * some.mask.sum((1, 2, 3)))
    assert loss(feature_matching=0, l1=100) - alone == pytest.approx(100 * gray, rel=1e-4)
    assert loss(feature_matching=20, l1=0) - alone == pytest.approx(
        2 * (loss(feature_matching=10, l1=0) - alone), rel=1e-3
    )


def test_the_generator_is_told_z_and_shown_no_noisy_image() -> None:
    told: list[torch.Tensor] = []

    def network(images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        told.extend((images, code))
        return images[:, 3:] * 100

    source, z = torch.randn(2, 3, 8, 8), torch.randn(2, 32)
    made = generate(network, source, z)
    assert not told[0][:, :3].any()
    assert torch.equal(told[0][:, 3:], source)
    assert torch.equal(told[1], z)
    assert made.abs().max() <= 1


@pytest.mark.parametrize(("z", "differ"), [("normal", True), ("zero", False)])
def test_z_is_drawn_for_each_sample_and_turn_unless_it_is_zero(
    z: str, differ: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    game = game_of(z=z)
    codes: list[torch.Tensor] = []
    game.trainables[1].module.register_forward_pre_hook(lambda module, inputs: codes.append(inputs[1]))
    for step in (0, 1):
        for player in game.trainables:
            player.loss(player.module, examples(step=step), KeyedDraws(0))
    assert len({row.numpy().tobytes() for code in codes for row in code}) == (8 if differ else 1)
    if not differ:
        assert not codes[0].any()


def test_a_discriminator_that_always_wins_is_warned_of_once_in_2000_steps(
    caplog: pytest.LogCaptureFixture,
) -> None:
    guard = DiscriminatorMonitor()
    with caplog.at_level(logging.WARNING):
        for step in range(500, 500 + PATIENCE - 1):
            guard.see(step, 1.0)
            guard.see(step, 0.995)  # its second micro-batch
        assert not caplog.messages
        guard.see(500 + PATIENCE - 1, 1.0)
        guard.see(500 + PATIENCE - 1, 1.0)
        assert len(caplog.messages) == 1
        assert "lower the discriminator's learning_rate" in caplog.messages[0]
        guard.see(500 + 2 * PATIENCE - 2, 0.99)  # one step it did not win
        guard.see(500 + 2 * PATIENCE - 1, 1.0)
    assert len(caplog.messages) == 1


# --- in the loop ----------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_takes_finite_steps_and_resumes_bit_for_bit(variant: str, tmp_path: Path) -> None:
    pack = write_pack(tmp_path / "pack.safetensors", side=SIDE)
    (tmp_path / "recipe.toml").write_text(text_of(**VARIANTS[variant]))
    method, keys = baseline.method(), {"recipe": str(tmp_path / "recipe.toml")}
    run_toy(method, pack, tmp_path / "straight", **keys)
    run_toy(method, pack, tmp_path / "run", steps=3, **keys)
    run_toy(method, pack, tmp_path / "run", **keys)
    straight = files_of(tmp_path / "straight", 4)
    assert set(straight) == {
        *("weights.safetensors", "ema.safetensors", "optimizer.safetensors"),
        *("discriminator-weights.safetensors", "discriminator-optimizer.safetensors"),
    }
    assert files_of(tmp_path / "run", 4) == straight
    text = (tmp_path / "run" / "log.jsonl").read_text()
    assert text.count('"loss_discriminator": ') == 4
    assert "null" not in text.replace('"loss_by_lambda": [' + ", ".join(["null"] * 10) + "]", "")
    assert '"skipped": 0' in text


# --- restoring ------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["gan", "pix2pix"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    pack = write_pack(folder / "pack.safetensors", side=SIDE)
    # so fast that z shows after three steps
    text = text_of(**VARIANTS[request.param]).replace("[training]", "[training]\nlearning_rate = 0.02")
    (folder / "recipe.toml").write_text(text)
    keys = {"recipe": str(folder / "recipe.toml"), "task": "jpeg", "steps": 3}
    run_toy(baseline.method(), pack, folder / "run", **keys)
    return request.param, folder / "run"


def test_samples_differ_by_z_and_by_nothing_else(run: tuple[str, Path]) -> None:
    variant, folder = run
    some = batch("jpeg", SIDE, 3)
    restorer = baseline.restorer(RestoreOptions(run=folder))
    first, second = restorer.restore(some), restorer.restore(replace(some, sample=1))
    assert (first != second).any() == (variant == "gan")
    assert (restorer.restore(some) == first).all()
    alone = restorer.restore(part(some, 2, 3))
    assert np.abs(alone[0].astype(int) - first[2]).max() <= 1


def test_a_seed_is_taken_where_something_is_drawn(run: tuple[str, Path]) -> None:
    variant, folder = run
    card = baseline.restorer(RestoreOptions(run=folder)).about.sampling
    assert (card.steps, card.seed) == (1, 0 if variant == "gan" else None)
    if variant == "pix2pix":
        assert card.sampler == "none"
        with pytest.raises(UsageError, match="--seed"):
            baseline.restorer(RestoreOptions(run=folder, seed=1))
    else:
        some = batch("jpeg", SIDE, 2)
        seeds = [baseline.restorer(RestoreOptions(run=folder, seed=seed)) for seed in (0, 1)]
        assert (seeds[0].restore(some) != seeds[1].restore(some)).any()
        assert seeds[0].identity != seeds[1].identity
    with pytest.raises(UsageError, match="--steps"):
        baseline.restorer(RestoreOptions(run=folder, steps=5))


def test_z_is_keyed_by_seed_image_and_sample_whatever_the_batch() -> None:
    def ask(*names: str, sample: int = 0) -> ModelInput:
        return ModelInput(names, sample, np.zeros((len(names), 8, 8, 3), np.uint8), None, None)

    whole = keyed_z(5, ask("a", "b", "c"), 32)
    assert whole.shape == (3, 32)
    assert torch.equal(keyed_z(5, ask("c", "a"), 32), whole[[2, 0]])
    others = [keyed_z(6, ask("a"), 32), keyed_z(5, ask("a", sample=1), 32), whole[1:2], whole[:1]]
    assert len({other.numpy().tobytes() for other in others}) == 4
    many = keyed_z(0, ask(*(f"p{i}" for i in range(200))), 32)
    assert many.mean() == pytest.approx(0, abs=0.05)
    assert many.std() == pytest.approx(1, abs=0.05)
