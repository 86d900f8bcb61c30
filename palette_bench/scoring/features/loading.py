"""Weights into a network as asked for: drawn from a seed, proven from the store, or given unproven."""

from __future__ import annotations

from torch import nn

from palette_bench.core.errors import WeightsError, problem
from palette_bench.scoring.features import Wanted
from palette_bench.scoring.features import weights as store
from palette_bench.scoring.features.network import Network
from palette_bench.scoring.features.random_weights import RANDOM_NOTE, randomise, seed_of
from palette_bench.scoring.features.tensors import counted, load_strictly, parse_tensors
from palette_bench.scoring.scorecard import UNPINNED


def fill(network: Network, model: nn.Module, wanted: Wanted, *, in_order: bool = False) -> tuple[str, ...]:
    """Fill a network; return the notes its scores carry.

    Args:
        network: runs through `model`.
        model: what holds the tensors, under the names of the weights file.
        wanted: name and weights.
        in_order: the pinned file names its tensors otherwise than the network, and holds them in its order.

    Raises:
        UsageError: a seed that is no number.
        WeightsError: PB705, absent, of another digest, or not this network's.
    """
    seed = seed_of(wanted.name, wanted.weights)
    if seed is not None:
        randomise(network, model, seed)
        return (RANDOM_NOTE,)
    is_pinned = wanted.name in store.pinned()
    data = (
        store.read_pinned(wanted.name, wanted.weights)
        if is_pinned
        else store.read_given(wanted.name, _required(wanted.name, wanted.weights))
    )
    tensors = parse_tensors(data, wanted.name)
    if in_order and is_pinned:
        tensors = dict(zip(counted(model.state_dict()), counted(tensors).values(), strict=True))
    load_strictly(model, tensors, wanted.name)
    return () if is_pinned else (UNPINNED,)


def _required(name: str, weights: str | None) -> str:
    if weights is None:
        raise WeightsError(
            problem(
                "PB705",
                name,
                expected="its weights: nothing is downloaded while scoring",
                found="--weights: not given",
                fix=f"--weights {name}=FILE, a safetensors or torch state dictionary",
            )
        )
    return weights
