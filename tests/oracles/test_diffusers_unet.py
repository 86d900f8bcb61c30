"""The network against `UNet2DModel` of diffusers: sizes of all presets, and what it computes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

from palette_bench.baselines.training.presets import PRESETS, UNetSpec
from palette_bench.baselines.training.unet import UNet, sinusoids

diffusers = pytest.importorskip("diffusers", reason="compares with diffusers, which is not installed")

GLOBAL = [name for name, spec in PRESETS.items() if spec.heads is None]  # it has no fixed number of heads


@pytest.fixture(scope="module")
def twin() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
        import diffusers_unet

        yield diffusers_unet
    sys.modules.pop("diffusers_unet")


def unet2d(twin: ModuleType, spec: UNetSpec) -> nn.Module:
    return diffusers.UNet2DModel(**twin.options_of(spec))


@pytest.mark.parametrize("preset", GLOBAL)
def test_both_have_the_same_number_of_parameters(preset: str, twin: ModuleType) -> None:
    with torch.device("meta"):
        ours, theirs = UNet(PRESETS[preset]), unet2d(twin, PRESETS[preset])
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("preset", ["palette-toy", "palette-smoke", "palette-64s"])
def test_both_compute_the_same(preset: str, twin: ModuleType) -> None:
    spec = PRESETS[preset]
    torch.manual_seed(2)
    ours, theirs = UNet(spec), unet2d(twin, spec)
    for parameter in ours.parameters():
        if not parameter.any():  # as made, attention and second convolutions are mute
            nn.init.normal_(parameter, std=0.05)
    twin.copy_weights(ours, theirs)
    images, positions = torch.randn(2, 6, spec.side, spec.side), torch.tensor([4.5, 987.25])
    with torch.no_grad():
        expected = theirs(images, positions).sample
        out = ours(images, sinusoids(positions, spec.width))
    assert (out - expected).abs().max() < 1e-4 * expected.abs().max()
