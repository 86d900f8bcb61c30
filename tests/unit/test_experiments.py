"""Studies: declarations, recipes, splits, verdicts, and the squares whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from toy_method import write_images

from palette_bench.baselines.experiments import miniature
from palette_bench.baselines.experiments.__main__ import NAMES as OFFERED
from palette_bench.baselines.experiments.evaluation import SystemReading, of_samples, of_values
from palette_bench.baselines.experiments.images import ImageBudget, hashed_order, split_images
from palette_bench.baselines.experiments.miniature import read_miniature
from palette_bench.baselines.experiments.result import verdicts
from palette_bench.baselines.experiments.runs import Forecast, RunCost, advice, recipe_of
from palette_bench.baselines.experiments.study import NAMES, Claim, read_presets, read_study, runs_of
from palette_bench.baselines.training.data import open_images
from palette_bench.core import png
from palette_bench.core.errors import InputError, SourceError
from palette_bench.submission.files import output_name
from palette_bench.tasks.degradations.gray import luma
from palette_bench.tasks.protocol import load

# declarations


def test_the_command_offers_the_studies_that_are_declared() -> None:
    assert OFFERED == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_run_of_every_size_has_a_recipe_of_its_method(name: str) -> None:
    study, presets = read_study(name), read_presets().sizes
    for size_name, size in study.sizes.items():
        runs = runs_of(study, size, size.seeds)
        assert len({run.name for run in runs}) == len(runs)
        for run in runs:
            recipe = recipe_of(run, presets[size_name].recipe, size.images, "pictures")
            images = recipe.training.steps * recipe.training.batch
            assert recipe.side == 64
            assert size.images <= images < size.images + recipe.training.batch
            recipe.resolved(run.system.method, run.task, "host")
        assert all(any(run.answers(target) for run in runs) for target in study.sets)


@pytest.mark.parametrize("name", NAMES)
def test_sets_are_of_the_small_protocol(name: str) -> None:
    for target in read_study(name).sets:
        assert load("palette-mini").pairs(target) == [tuple(target.split("/"))]


@pytest.mark.parametrize("name", NAMES)
def test_a_quick_study_trains_on_1_2_million_images(name: str) -> None:
    study = read_study(name)
    size = study.sizes["quick"]
    assert len(runs_of(study, size, 1)) * size.images == 1_200_000


def test_a_full_contest_trains_twelve_specialists_per_seed() -> None:
    study = read_study("contest")
    runs = runs_of(study, study.sizes["full"], 3)
    assert len(runs) == 36
    assert all(len(run.tasks) == 1 for run in runs)


def test_miniature_claims_name_what_is_there() -> None:
    study = read_miniature()
    systems, answers = {s.name for s in study.systems}, {a.name for a in study.answers}
    assert set(study.images) == systems
    for claim in study.claims:
        assert {claim.first, claim.second} <= systems
        assert set(claim.sets) <= answers


# images


def test_an_image_is_held_out_whatever_images_stand_beside_it(tmp_path: Path) -> None:
    few = open_images([write_images(tmp_path / "few", 8)], "no")
    many = open_images([write_images(tmp_path / "many", 20)], "no")
    ids = [name for name, _ in hashed_order(few)]
    assert ids == sorted(ids)
    assert set(ids) <= {name for name, _ in hashed_order(many)}
    twins = open_images([tmp_path / "few", tmp_path / "few"], "no")
    assert len(dict(hashed_order(twins))) == 16


def test_too_few_images_and_other_images_are_refused(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 6)
    with pytest.raises(SourceError, match=r"PB201[\s\S]*4 images to hold out and 5 others[\s\S]*4 and 2"):
        split_images([data], tmp_path / "out", ImageBudget(4, 5, 9))
    first = split_images([data], tmp_path / "out", ImageBudget(2, 4, 9))
    assert (first.held_out, first.training) == (2, 4)
    assert split_images([data], tmp_path / "out", ImageBudget(2, 4, 9)) == first
    (data / "p000.png").unlink()
    with pytest.raises(InputError, match="PB605"):
        split_images([data], tmp_path / "out", ImageBudget(2, 3, 9))


def test_equal_images_are_not_on_both_sides(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", 1)
    for number in range(5):
        (data / f"copy{number}.png").write_bytes((data / "p000.png").read_bytes())
    with pytest.raises(SourceError, match="1 and 0"):
        split_images([data], tmp_path / "out", ImageBudget(1, 1, 9))


# readings and verdicts

CLAIM = Claim(first="a", second="b", metric="psnr", sign="lower", sets=("s",), source="Table 1")


def verdict_of(
    first: list[SystemReading], second: list[SystemReading], claim: Claim = CLAIM
) -> tuple[str, str]:
    found = {("a", "s", "psnr"): first, ("b", "s", "psnr"): second}
    (verdict,) = verdicts([claim], found)
    return verdict.holds, verdict.test


def test_signs_hold_fail_or_are_not_told_apart() -> None:
    noise = np.random.default_rng(3).normal(0, 1, 100)
    low, high = of_values("psnr", noise), of_values("psnr", noise + 1 + 0.1 * noise[::-1])
    assert verdict_of([low], [high]) == ("yes", "paired-t")
    assert verdict_of([high], [low]) == ("no", "paired-t")
    assert verdict_of([low], [of_values("psnr", noise[::-1])])[0] == "not told apart"
    assert verdict_of([high], [low], CLAIM.model_copy(update={"sign": "higher"}))[0] == "yes"


def test_without_parts_of_each_image_errors_are_independent() -> None:
    def of(value: float) -> SystemReading:
        return SystemReading("kid", value, None, None, 1.0, 50)

    assert verdict_of([of(0)], [of(10)]) == ("yes", "z-unpaired")
    assert verdict_of([of(0)], [of(2)])[0] == "not told apart"  # 2 / sqrt 2 = 1.41 standard errors


def test_several_seeds_are_compared_as_seeds() -> None:
    columns = np.random.default_rng(4).normal(0, 1, (6, 50))
    firsts = [of_values("psnr", column) for column in columns[:3]]
    seconds = [of_values("psnr", column + 9) for column in columns[3:]]
    (verdict,) = verdicts([CLAIM], {("a", "s", "psnr"): firsts, ("b", "s", "psnr"): seconds})
    assert (verdict.holds, verdict.n) == ("yes", 3)


def test_numbers_that_may_not_rank_decide_nothing() -> None:
    barred = SystemReading("psnr", 0.0, None, None, 0.1, 9, notes=("random-weights",))
    fine = SystemReading("psnr", 9.0, None, None, 0.1, 9, notes=("small-network",))
    assert verdict_of([barred], [fine]) == ("not told apart", "")
    assert verdict_of([SystemReading("psnr", 0.0, None, None, 0.1, 9)], [fine])[0] == "yes"
    assert verdict_of([], [fine])[0] == "not told apart"


def test_p_values_are_corrected_together() -> None:
    noise = np.random.default_rng(5).normal(0, 1, 100)
    noise += 0.23 - noise.mean()  # p about 0.02 alone
    zero, some = of_values("psnr", np.zeros(100)), of_values("psnr", noise)
    found = {("a", s, "psnr"): [zero] for s in "stuv"} | {("b", s, "psnr"): [some] for s in "stuv"}
    alone = verdicts([CLAIM], found)[0]
    together = verdicts([CLAIM.model_copy(update={"sets": tuple("stuv")})], found)[0]
    assert alone.p == together.p
    assert together.p_holm == pytest.approx(4 * alone.p_holm)


def test_samples_differ_by_their_root_mean_square(tmp_path: Path) -> None:
    for k, level in enumerate((10, 13, 13)):
        file = tmp_path / output_name("i", k + 1)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png.encode(np.full((64, 64, 3), level, np.uint8)))
    found = of_samples(tmp_path, ["i"], 3, 64)
    assert found["pairwise_rmse"].value == 1.5  # pairs (1, 2) and (2, 3): 3 and 0 levels
    assert 0.9 < found["pairwise_ssim"].value < 1
    assert of_samples(tmp_path, ["i"], 1, 64) == {}


# the time ahead


def test_a_long_study_is_told_a_scale_that_fits_and_never_shrunk() -> None:
    def forecast(minutes: float) -> Forecast:
        cost = RunCost(training=60 * minutes, sampling=0.0)
        return Forecast(schema=Forecast.schema_name(), costs={"run.0": cost})

    assert "--scale 0.25 " in advice(forecast(50), 0.5)
    assert "--scale" not in advice(forecast(25), 1.0)


# squares


def test_both_colours_have_one_gray_and_three_of_ten_are_the_rarer() -> None:
    first, second = (luma(np.full((1, 1, 3), colour, np.uint8)) for colour in miniature.COLOURS)
    assert first == second
    drawn = miniature.draw(2000, "training")
    found = miniature.measure(drawn.images, drawn)
    share = found["minority_share"]
    assert share.low < 0.3 < share.high
    assert (found["neither_colour"].value, found["background_error"].value) == (0, 0)
    assert not np.array_equal(miniature.draw(9, "test").images, drawn.images[:9])


def test_the_mean_of_the_colours_is_neither() -> None:
    drawn = miniature.draw(20, "test")
    average = miniature.COLOURS[0] * 0.7 + miniature.COLOURS[1] * 0.3
    outputs = np.where(drawn.masks[..., None], average, drawn.images).astype(np.uint8)
    assert miniature.measure(outputs, drawn)["neither_colour"].value == 1
    brighter = np.where(drawn.masks[..., None], drawn.images, drawn.images + 10).astype(np.uint8)
    assert miniature.measure(brighter, drawn)["background_error"].value == pytest.approx(10 / 127.5)
