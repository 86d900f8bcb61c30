"""The exponential moving average of weights: what restores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def decay_at(step: int, decay: float) -> float:
    """Return min(decay, (1 + step) / (10 + step)): a short memory at first. Step counts from 0."""
    return min(decay, (1 + step) / (10 + step))


class Average:
    """The float32 average of a module's parameters; buffers are taken as they are."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        """Start from the weights themselves."""
        self._module = module
        self._decay = decay
        self._averages = {name: p.detach().clone() for name, p in module.named_parameters()}

    def update(self, step: int) -> None:
        """Take in the weights after a step, in one launch for all."""
        update = get_ema_multi_avg_fn(decay_at(step, self._decay))  # type: ignore[no-untyped-call]
        weights = dict(self._module.named_parameters())
        update(list(self._averages.values()), [weights[name].detach() for name in self._averages], None)

    def state(self) -> dict[str, torch.Tensor]:
        """Return the module's state dictionary with averages in place of parameters."""
        return {**self._module.state_dict(), **self._averages}

    def load(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take averages from a checkpoint."""
        for name, average in self._averages.items():
            average.copy_(tensors[name])

    @contextmanager
    def applied(self) -> Iterator[nn.Module]:
        """Yield the module with averaged weights; its own come back bit for bit."""
        parameters = dict(self._module.named_parameters())
        own = {name: p.detach().clone() for name, p in parameters.items()}
        try:
            self._put(parameters, self._averages)
            yield self._module
        finally:
            self._put(parameters, own)

    @staticmethod
    @torch.no_grad()
    def _put(parameters: Mapping[str, nn.Parameter], values: Mapping[str, torch.Tensor]) -> None:
        for name, parameter in parameters.items():
            parameter.copy_(values[name])
