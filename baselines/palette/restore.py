"""Restoring with the reference model: which sampler walks which grid, with which noise."""

from __future__ import annotations

import logging

import torch

from palette_bench.submission.card import Sampling
from palette_bench.submission.contestant import RestoreOptions

from ..training.question import Question
from ..training.restoring import TAKEN, Manner, Opened, TrainedModel, open_trained, ready
from . import selfcheck
from .diffusion import Diffusion, Network
from .noise import KeyedNoise, ahead
from .plan import Plan, plan_for, read_name
from .recipe import PaletteRecipe

_log = logging.getLogger(__name__)


def open_model(options: RestoreOptions) -> TrainedModel:
    """Return the model of a training run, its weights proven.

    Raises:
        UsageError: no run is named, or one of another method; the sampler or steps are impossible.
        StorageError: PB801; WeightsError: PB705, PB712; InputError: PB611, it does not denoise.
        DeviceError: PB707.
    """
    options.refuse_all_but(*TAKEN, "seed", "sampler", "steps", "noise")
    opened = open_trained("palette", PaletteRecipe, options)
    diffusion = Diffusion.of(opened.recipe)
    plan = choose_plan(opened.recipe, diffusion, options)
    _prove_it_denoises(opened, diffusion)
    return ready(opened, manner(opened, diffusion, plan))


def choose_plan(recipe: PaletteRecipe, diffusion: Diffusion, options: RestoreOptions) -> Plan:
    """Return the plan that options, then the recipe, then the number of steps decide.

    A sampler or grid of the recipe belongs to the recipe's steps; other steps choose anew.
    """
    own = recipe.sampling
    steps = options.steps or own.steps
    if options.sampler is not None:
        chosen = {"clip": own.clip, **read_name(options.sampler)}
    elif steps == own.steps:
        chosen = {"sampler": own.sampler, "grid": own.grid, "clip": own.clip}
    else:
        chosen = {"clip": own.clip}
    return plan_for(diffusion.sampled, diffusion.trained, steps, **chosen)


def _prove_it_denoises(opened: Opened[PaletteRecipe], diffusion: Diffusion) -> None:
    recipe, step, where = opened.recipe, opened.run.step, str(opened.options.run)
    if selfcheck.applies(step, recipe.training.warmup_steps, recipe.side):
        selfcheck.check(diffusion, opened.network, recipe.tasks, recipe.side, where)
    else:
        _log.info("not checked whether %s denoises: %d steps at %d px", where, step, recipe.side)


def manner(opened: Opened[PaletteRecipe], diffusion: Diffusion, plan: Plan) -> Manner:
    """Return how the model restores: by a walk along the plan."""
    device, options, recipe = opened.device, opened.options, opened.recipe
    codes = diffusion.codes(plan, device)
    draws = plan.evaluations if plan.sampler.startswith("ancestral") else 1

    def answer(network: Network, question: Question) -> torch.Tensor:
        source, mask = question.tensors(device)
        size = (source.shape[2], source.shape[3])
        noise = KeyedNoise(options.seed, question.names, question.sample, size, device, options.noise)
        with ahead(noise, draws) as normal:
            return diffusion.sample(network, plan, codes, source, mask, normal)

    return Manner(
        title="Palette",
        sampling=Sampling(sampler=str(plan), steps=plan.evaluations, seed=options.seed),
        answer=answer,
        choices={
            "diffusion": recipe.noise.model_dump(mode="json"),
            "gamma_embedding": recipe.network.gamma_embedding,
        },
        paper="arXiv:2111.05826",
    )
