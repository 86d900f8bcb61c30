"""Restoring with the GAN baseline: one forward pass, with z keyed by run seed, image and sample."""

from __future__ import annotations

import numpy as np
import torch

from palette_bench.core.rng import sampling_noise
from palette_bench.submission.card import Sampling
from palette_bench.submission.methods import RestoreOptions

from ..training.restorer import TAKEN, ModelInput, TrainedModel, open_trained
from ..training.unet import Predictor
from .objective import generate
from .recipe import GanRecipe


def open_model(options: RestoreOptions) -> TrainedModel:
    """Return the generator of a training run, with its weights verified.

    Raises:
        UsageError: no run is given, the run belongs to another method, a sampling option is given, or a seed
            is given for a generator that draws nothing.
        StorageError: PB801; WeightsError: PB705, PB712; DeviceError: PB707.
    """
    options.refuse_all_but(*TAKEN, "seed")
    opened = open_trained("gan", GanRecipe, options)
    draws = opened.recipe.network.z == "normal"
    if not draws:
        options.refuse_all_but(*TAKEN)
    width = opened.network.spec.width

    def restore_batch(network: Predictor, model_input: ModelInput) -> torch.Tensor:
        source, _ = model_input.tensors(opened.device)
        z = keyed_z(options.seed, model_input, width) if draws else torch.zeros(len(source), width)
        return generate(network, source, z.to(opened.device))

    sampler, seed = ("z from N(0, 1)", options.seed) if draws else ("none", None)
    return TrainedModel(opened, "GAN", Sampling(sampler=sampler, steps=1, seed=seed), restore_batch)


def keyed_z(seed: int, model_input: ModelInput, width: int) -> torch.Tensor:
    """Return z of each image, (N, width) float32 normals that do not depend on the batch."""
    drawn = [sampling_noise(seed, name, model_input.sample, 0, (width,)) for name in model_input.names]
    return torch.from_numpy(np.stack(drawn))
