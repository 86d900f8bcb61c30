"""Schedules, grids, gamma embeddings and samplers of the reference model, against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from palette_bench.baselines.palette.samplers import SAMPLERS, SamplerInputs
from palette_bench.baselines.palette.schedule import (
    FORMS,
    GRIDS,
    Schedule,
    adm_cosine,
    adm_linear,
    from_log_snr,
    log_snr,
    positions,
)
from palette_bench.core.errors import UsageError

TRAINED = Schedule.linear(2000, 1e-6, 0.01)  # Palette, Appendix B
SAMPLED = Schedule.linear(1000, 1e-4, 0.09)

# output / true standard deviation with the exact denoiser, data of variance 1, 0.25, 0.01; computed
# once by an independent program
GAUSSIAN = {
    1000: {
        "ancestral": (1.000, 1.003, 1.022),
        "ancestral-posterior": (0.991, 0.984, 0.937),
        "ddim": (0.996, 0.994, 0.972),
        "dpmpp-2m": (1.000, 1.000, 1.001),
    },
    250: {
        "ancestral": (1.000, 1.008, 1.013),
        "ancestral-posterior": (0.981, 0.981, 0.976),
        "ddim": (0.990, 0.990, 0.986),
        "dpmpp-2m": (1.000, 1.000, 0.995),
    },
    50: {
        "ancestral": (1.000, 1.044, 1.093),
        "ancestral-posterior": (0.909, 0.909, 0.906),
        "ddim": (0.952, 0.952, 0.948),
        "dpmpp-2m": (1.002, 1.002, 0.997),
    },
    25: {
        "ancestral": (1.000, 1.092, 1.211),
        "ancestral-posterior": (0.829, 0.829, 0.827),
        "ddim": (0.905, 0.905, 0.901),
        "dpmpp-2m": (1.009, 1.009, 1.003),
    },
    10: {
        "ancestral": (1.000, 1.253, 1.735),
        "ancestral-posterior": (0.642, 0.642, 0.642),
        "ddim": (0.766, 0.765, 0.764),
        "dpmpp-2m": (1.037, 1.033, 0.997),
    },
}
CELLS = [
    (evaluations, sampler, variance, expected)
    for evaluations, row in GAUSSIAN.items()
    for sampler, figures in row.items()
    for variance, expected in zip((1.0, 0.25, 0.01), figures, strict=True)
]


def levels(evaluations: int, grid: str | None = None) -> tuple[float, ...]:
    name = grid or ("paper" if evaluations == 1000 else "log-snr")
    return tuple(GRIDS[name](SAMPLED, TRAINED, evaluations).tolist())


def gaussian_walk(evaluations: int, variance: float) -> SamplerInputs:
    """Each normal is a unit vector of its own, so the output lists what every normal contributes."""
    unit = torch.eye(evaluations, dtype=torch.float64)
    return SamplerInputs(
        predict=lambda y, gamma: math.sqrt(1 - gamma) / (gamma * variance + 1 - gamma) * y,
        normal=lambda step: unit[step],
        hold=lambda y, gamma: y,
        levels=levels(evaluations),
        clip="off",
    )


@pytest.mark.parametrize(("evaluations", "sampler", "variance", "expected"), CELLS)
def test_deviation_with_the_exact_denoiser_of_gaussian_data(
    evaluations: int, sampler: str, variance: float, expected: float
) -> None:
    contributions = SAMPLERS[sampler](gaussian_walk(evaluations, variance))
    assert float(contributions.norm()) / math.sqrt(variance) == pytest.approx(expected, abs=1e-3)


def test_the_paper_samples_below_what_it_trains() -> None:
    assert TRAINED.lowest == pytest.approx(4.386e-5, rel=1e-4)
    assert SAMPLED.lowest == pytest.approx(6.604e-21, rel=1e-4)
    assert SAMPLED.steps - SAMPLED.reached_by(TRAINED) == 532
    assert SAMPLED.gammas[468] == pytest.approx(4.438e-5, rel=1e-4)
    assert log_snr(TRAINED.gammas[[1, -1]]) == pytest.approx([6.908, -5.017], abs=1e-3)


@pytest.mark.parametrize("grid", GRIDS)
def test_grids_rise_to_one_and_start_where_they_say(grid: str) -> None:
    count = {"paper": 1000, "paper-468": 468, "log-snr": 25}[grid]
    walked = levels(count, grid)
    assert len(walked) == count + 1
    assert list(walked) == sorted(set(walked))
    assert walked[-1] == 1
    first, last = {"paper": (1000, 1), "paper-468": (468, 1), "log-snr": (468, 1)}[grid]
    assert walked[0] == pytest.approx(SAMPLED.gammas[first], rel=1e-12)
    assert walked[-2] == pytest.approx(SAMPLED.gammas[last], rel=1e-12)


def test_the_log_snr_grid_is_uniform_in_lambda() -> None:
    steps = np.diff(log_snr(np.array(levels(10)[:-1])))
    assert steps == pytest.approx(steps[0])


@pytest.mark.parametrize(("grid", "count"), [("paper", 1000), ("paper-468", 468)])
def test_a_fixed_grid_refuses_another_number_of_evaluations(grid: str, count: int) -> None:
    with pytest.raises(UsageError, match=f"--steps {count}, or the grid 'log-snr'"):
        GRIDS[grid](SAMPLED, TRAINED, 25)


def test_lambda_and_gamma_are_inverse() -> None:
    gammas = np.array([1e-20, 1e-5, 0.3, 0.999999])
    assert from_log_snr(log_snr(gammas)) == pytest.approx(gammas, rel=1e-9)


def point_walk(image: torch.Tensor, clip: str, evaluations: int = 10) -> SamplerInputs:
    """A network that knows the image: f is the noise that leads from it to y_t."""
    draws = torch.Generator().manual_seed(3)
    return SamplerInputs(
        predict=lambda y, gamma: (y - math.sqrt(gamma) * image) / math.sqrt(1 - gamma),
        normal=lambda step: torch.randn(image.shape, generator=draws),
        hold=lambda y, gamma: y,
        levels=levels(evaluations),
        clip=clip,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("clip", ["static", "off"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_network_that_knows_the_image_returns_it(sampler: str, clip: str) -> None:
    image = torch.linspace(-1, 1, 48).reshape(1, 3, 4, 4)
    assert SAMPLERS[sampler](point_walk(image, clip)) == pytest.approx(image, abs=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_clipping_keeps_to_the_range_and_changes_nothing_inside_it(sampler: str) -> None:
    outside = torch.full((1, 3, 4, 4), 3.0)
    assert SAMPLERS[sampler](point_walk(outside, "static")).max() == 1
    inside = [SAMPLERS[sampler](point_walk(outside / 10, clip)) for clip in ("static", "off")]
    assert inside[0] == pytest.approx(inside[1], abs=1e-5)


def test_the_literal_update_never_divides_by_a_vanishing_gamma() -> None:
    walk = replace(gaussian_walk(1000, 0.25), predict=lambda y, gamma: 0.999 * y)
    assert SAMPLERS["ancestral"](walk).isfinite().all()
    assert max(levels(1000)[0] ** -0.5, 1e10) == levels(1000)[0] ** -0.5  # what y0 would be multiplied by


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_known_is_held_after_every_update(sampler: str) -> None:
    known = torch.zeros(1, 3, 4, 4)
    seen: list[torch.Tensor] = []

    def hold(y: torch.Tensor, gamma: float) -> torch.Tensor:
        return torch.where(torch.arange(4) < 2, known, y)

    def predict(y: torch.Tensor, gamma: float) -> torch.Tensor:
        seen.append(y)
        return y

    out = SAMPLERS[sampler](replace(point_walk(known, "static", 25), hold=hold, predict=predict))
    assert len(seen) == 25
    assert all((y[..., :2] == 0).all() for y in [*seen, out])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_ancestral_sampling_draws_after_the_start_and_never_in_the_last_step(sampler: str) -> None:
    walk = gaussian_walk(25, 1.0)
    steps: list[int] = []

    def normal(step: int) -> torch.Tensor:
        steps.append(step)
        return walk.normal(step)

    SAMPLERS[sampler](replace(walk, normal=normal))
    assert steps == (list(range(25)) if sampler.startswith("ancestral") else [0])


@pytest.mark.parametrize("form", FORMS)
def test_positions_span_the_range_and_tell_levels_apart(form: str) -> None:
    places = positions(form, TRAINED.gammas[1:], TRAINED)
    assert places.min() >= 0
    assert places.max() <= 1000
    assert np.ptp(places) > 900
    assert (np.diff(places) * (1 if form != "sqrt-gamma" else -1) >= 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_gamma_is_clamped_to_the_trained_range(form: str) -> None:
    outside, ends = np.array([SAMPLED.lowest, 1.0]), TRAINED.gammas[[-1, 1]]
    assert positions(form, outside, TRAINED) == pytest.approx(positions(form, ends, TRAINED), abs=0)


def test_positions_by_hand() -> None:
    half = np.array([0.25])
    assert positions("sqrt-gamma", half, TRAINED) == pytest.approx([500])
    low, high = log_snr(TRAINED.gammas[[-1, 1]])
    assert positions("log-snr", from_log_snr(np.array([(low + high) / 2])), TRAINED) == (pytest.approx([500]))


@pytest.mark.parametrize(
    ("form", "schedule"), [("adm-time", adm_linear()), ("adm-time-cosine", adm_cosine())]
)
@pytest.mark.parametrize("step", [100, 500, 900])
def test_adm_time_is_the_step_whose_level_it_is(form: str, schedule: Schedule, step: int) -> None:
    places = positions(form, schedule.gammas[[step + 1]], TRAINED)
    assert places == pytest.approx([step], abs=1e-6)
