"""Restoring with the regression baseline: one forward pass, nothing drawn but the fill of holes."""

from __future__ import annotations

import torch

from palette_bench.submission.card import Sampling
from palette_bench.submission.contestant import RestoreOptions

from ..training.question import Question
from ..training.restoring import TAKEN, Manner, TrainedModel, open_trained, ready
from ..training.tiling import Network
from .recipe import RegressionRecipe
from .regressing import regress


def open_model(options: RestoreOptions) -> TrainedModel:
    """Return the model of a training run, its weights proven.

    Raises:
        UsageError: no run is named, one of another method, or an option of sampling.
        StorageError: PB801; WeightsError: PB705, PB712; DeviceError: PB707.
    """
    options.refuse_all_but(*TAKEN)
    opened = open_trained("regression", RegressionRecipe, options)
    width = opened.network.spec.width

    def answer(network: Network, question: Question) -> torch.Tensor:
        source, _ = question.tensors(opened.device)
        return regress(network, source, width)

    sampling = Sampling(sampler="none", steps=1)
    return ready(opened, Manner("Regression", sampling, answer, paper="arXiv:2111.05826"))
