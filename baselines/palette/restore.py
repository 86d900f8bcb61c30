"""Restoring with a trained run: benchmark sets and a person's own pictures."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from palette_bench.core.errors import InputError, UsageError, problem
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.types import Image
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.contestant import About, Batch, OwnPicture, RestoreOptions

from ..training.exact import exact
from ..training.question import Question
from ..training.recipe import read_recipe
from ..training.run import TrainedRun, open_run
from ..training.seat import prove
from ..training.sizes import Fit, restore_any_size
from ..training.tiling import Tiled
from ..training.unet import UNet
from ..training.world import find_device
from . import selfcheck
from .diffusion import Diffusion, Network
from .noise import KeyedNoise, ahead
from .plan import Plan, plan_for, read_name
from .recipe import PaletteRecipe

LARGEST = 10  # of an output in the [-1, 1] scale; beyond, the sampler has diverged
WINDOWS = 8  # per forward pass, of a tiled picture
_log = logging.getLogger(__name__)


def open_model(options: RestoreOptions) -> PaletteModel:
    """Return the model of a training run, its weights proven.

    Raises:
        UsageError: no run is named, or one of another method; the sampler or steps are impossible.
        StorageError: PB801; WeightsError: PB705, PB712; InputError: PB611, it does not denoise.
        DeviceError: PB707.
    """
    options.refuse_all_but("run", "seed", "sampler", "steps", "device", "fast", "noise")
    if options.run is None:
        raise UsageError(
            "palette needs trained weights: give --run RUN, a folder that `train palette` filled"
        )
    run = open_run(options.run)
    if run.method != "palette":
        raise UsageError(f"{options.run} was trained as {run.method}: restore it with that method")
    recipe = read_recipe(PaletteRecipe, run.recipe, str(options.run))
    device = find_device(options.device)
    diffusion = Diffusion.of(recipe)
    plan = choose_plan(recipe, diffusion, options)
    network = _network(recipe, run, str(options.run))
    _prove_it_denoises(recipe, diffusion, network, run, options.run)
    network.to(device)
    if options.fast:
        network.compile()
    return PaletteModel(run, recipe, diffusion, plan, network, device, options)


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


def _network(recipe: PaletteRecipe, run: TrainedRun, where: str) -> UNet:
    network = UNet(recipe.network.spec).eval().requires_grad_(False)
    prove(network, run.tensors, where)
    network.load_state_dict(dict(run.tensors))
    return network


def _prove_it_denoises(
    recipe: PaletteRecipe, diffusion: Diffusion, network: Network, run: TrainedRun, where: Path
) -> None:
    if selfcheck.applies(run.step, recipe.training.warmup_steps, recipe.side):
        selfcheck.check(diffusion, network, recipe.tasks, recipe.side, str(where))
    else:
        _log.info("not checked whether %s denoises: %d steps at %d px", where, run.step, recipe.side)


def about(run: TrainedRun, recipe: PaletteRecipe, plan: Plan, parameters: int, seed: int) -> About:
    """Return what the card says; the version is that of the weights."""
    tasks = "multi-task" if len(recipe.tasks) > 1 else recipe.tasks[0]
    return About(
        method=Method(
            slug="palette",
            name=f"Palette, {tasks}, {recipe.network.preset}, {run.step:,} steps",
            version=run.sha256[:12],
            authors=("palette-bench",),
            license="Apache-2.0",
            paper="arXiv:2111.05826",
        ),
        training=Training(
            datasets=(recipe.data.name,) if recipe.data.name else (),
            saw_test_images=recipe.data.saw_test_images,
            parameters=parameters,
            task_specific=len(recipe.tasks) == 1,
        ),
        sampling=Sampling(sampler=str(plan), steps=plan.evaluations, seed=seed),
        declared=Declared(uses_mask=bool({"inpainting", "uncropping"} & set(recipe.tasks)), uses_label=False),
    )


class PaletteModel:
    """A trained model, ready to restore: a `PictureRestorer`."""

    def __init__(
        self,
        run: TrainedRun,
        recipe: PaletteRecipe,
        diffusion: Diffusion,
        plan: Plan,
        network: UNet,
        device: torch.device,
        options: RestoreOptions,
    ) -> None:
        """Take what `open_model` has proven."""
        self._recipe = recipe
        self._diffusion = diffusion
        self._plan = plan
        self._codes = diffusion.codes(plan, device)
        self._network = network
        self._device = device
        self._options = options
        parameters = sum(p.numel() for p in network.parameters())
        self.about = about(run, recipe, plan, parameters, options.seed)
        self.identity = fingerprint(
            {
                "weights": run.sha256,
                "diffusion": recipe.noise.model_dump(mode="json"),
                "gamma_embedding": recipe.network.gamma_embedding,
                "sampler": str(plan),
                "steps": plan.evaluations,
                "seed": options.seed,
                "noise": options.noise,
                "fast": options.fast,
                "device": device.type,
            }
        )

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        """Return (N, S, S, 3) uint8; known pixels are the input's, bit for bit.

        Equal bits are promised among calls with as many pictures; others move a pixel by one level at most.

        Raises:
            UsageError: the run was not trained for the set's task.
            InputError: PB612, pictures that stay not finite, by id.
        """
        self._accept(batch.benchset.public.task)
        return self._answer(Question.of_batch(batch), self._network)

    def restore_picture(self, picture: OwnPicture, policy: str | None) -> Image:
        """Return a picture of any size from 16 px, (H, W, 3) uint8; `policy` as `restore_any_size`."""
        self._accept(picture.task)
        spec = self._recipe.network.spec
        return restore_any_size(picture, policy, Fit(spec.side, spec.multiple, self._restore_canvas))

    def _restore_canvas(self, picture: OwnPicture, by_windows: bool) -> Image:
        """Return a picture of a size the network takes, or by windows of any size from its own."""
        question = Question.of_picture(picture, self._options.seed)
        network: Network = self._network
        if by_windows:
            needed = question.tensors(self._device)[1][0, 0]
            network = Tiled(network, needed, self._recipe.side, WINDOWS)
        answer: Image = self._answer(question, network)[0]
        return answer

    def _accept(self, task: str) -> None:
        if task not in self._recipe.tasks:
            raise UsageError(f"this run was trained for {', '.join(self._recipe.tasks)}, not for {task}")

    def _answer(self, question: Question, network: Network) -> NDArray[np.uint8]:
        """Return (N, H, W, 3) uint8."""
        with torch.no_grad(), nullcontext() if self._options.fast else exact():
            images = self._sampled(question, network, self._options.fast)
            broken = _diverged(images)
            if self._options.fast and broken.any():
                images[broken] = self._sampled(question, network, fast=False)[broken]
                broken = _diverged(images)
        if broken.any():
            raise InputError(
                problem(
                    "PB612",
                    str(self._plan),
                    expected=f"finite values within {LARGEST}",
                    fix="sample with clip static, or with more steps; else train on",
                    ids=[name for name, bad in zip(question.names, broken.tolist(), strict=True) if bad],
                )
            )
        return question.answer(images)

    def _sampled(self, question: Question, network: Network, fast: bool) -> torch.Tensor:
        """Return (N, 3, H, W) float32."""
        source, mask = question.tensors(self._device)
        size = (source.shape[2], source.shape[3])
        noise = KeyedNoise(
            self._options.seed, question.names, question.sample, size, self._device, self._options.noise
        )
        draws = self._plan.evaluations if self._plan.sampler.startswith("ancestral") else 1
        reduced = torch.autocast(self._device.type, torch.bfloat16, enabled=fast)
        with reduced, ahead(noise, draws) as normal:
            return self._diffusion.sample(network, self._plan, self._codes, source, mask, normal)


def _diverged(images: torch.Tensor) -> torch.Tensor:
    """Return which images hold something not finite or beyond `LARGEST`, (N,) bool."""
    return ~(images.abs() <= LARGEST).flatten(1).all(1)
