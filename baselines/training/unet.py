"""The network: ADM's U-Net without classes, with the source picture beside the noisy one.

Source: Palette, section 3, after ADM (Dhariwal and Nichol, arXiv 2105.05233).
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from palette_bench.core.errors import InputError

from .blocks import Attention, Norm, ResBlock, Stage, float32_inside, zero
from .presets import PRESETS, AttentionKind, UNetSpec

__all__ = ["PRESETS", "AttentionKind", "UNet", "UNetSpec", "sinusoids"]

COLOURS = 3
SLOWEST = 10_000  # of the sinusoids, in radians per position the inverse; Transformer, section 3.5


def sinusoids(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Return cos, then sin, of p 10000^(-i / (width / 2)): the code of a noise level.

    Args:
        positions: (N,) p, from 0 to 1000; float64 is used to the full.
        width: of the code, even.

    Returns:
        (N, width) float32 in [-1, 1].

    Source: ADM, with cosines first; computed in float64, as angles reach 1000.
    """
    exponents = torch.arange(width // 2, dtype=torch.float64, device=positions.device) / (width // 2)
    angles = positions.double()[:, None] * torch.exp(-math.log(SLOWEST) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


class UNet(nn.Module):
    """The network of all trained methods; its output is exactly 0 before training.

    Layers are named so that a published ADM network maps onto them one to one. Extra encoder blocks stand
    in front of the downsampling that ends their level, or of the middle, and so leave no skip.

    Args:
        spec: the shape.
        checkpointing: recompute activations in the backward pass instead of keeping them.
    """

    def __init__(self, spec: UNetSpec, checkpointing: bool = False) -> None:
        super().__init__()
        self.spec = spec
        self.checkpointing = checkpointing
        code = 4 * spec.width
        self.embed = nn.Sequential(nn.Linear(spec.width, code), nn.SiLU(), nn.Linear(code, code))
        self.stem = nn.Conv2d(2 * COLOURS * spec.fold**2, spec.channels[0], 3, padding=1)
        self.down = nn.ModuleList(_encoder(spec, code))
        self.mid = _middle(spec, code)
        self.up = nn.ModuleList(_decoder(spec, code))
        self.norm = Norm(spec.channels[0])
        self.head = nn.Conv2d(spec.channels[0], COLOURS * spec.fold**2, 3, padding=1)
        zero(self.head)
        for layer in self.modules():
            if isinstance(layer, Norm):
                layer.num_groups = spec.groups

    def forward(self, images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Return what the method reads as noise or picture.

        Args:
            images: (N, 6, H, W) float32, the noisy picture, then the source; H and W are multiples of
                `spec.multiple`, whatever `spec.side` is.
            code: (N, width) float32: sinusoids of the noise level, or a generator's normals.

        Returns:
            (N, 3, H, W) float32, also under autocast.

        Raises:
            InputError: H or W does not fit.
        """
        if images.shape[2] % self.spec.multiple or images.shape[3] % self.spec.multiple:
            raise InputError(
                f"pictures of {images.shape[2]} x {images.shape[3]} px do not fit this network: "
                f"both sides must be multiples of {self.spec.multiple}; pad or scale them"
            )
        with float32_inside(images):
            embedding = functional.silu(self.embed(code))
        skips = [self.stem(functional.pixel_unshuffle(images, self.spec.fold))]
        for stage in self.down:
            skips.append(self._run(stage, embedding, skips[-1]))
        h = self._run(self.mid, embedding, skips[-1])
        for stage in self.up:
            h = self._run(stage, embedding, h, skips.pop())
        with float32_inside(images):
            out: torch.Tensor = self.head(functional.silu(self.norm(h)))
        return functional.pixel_shuffle(out, self.spec.fold)

    def _run(self, stage: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            # nothing in a stage draws random numbers
            again: torch.Tensor = checkpoint(stage, *inputs, use_reentrant=False, preserve_rng_state=False)
            return again
        once: torch.Tensor = stage(*inputs)
        return once


def flop(spec: UNetSpec) -> int:
    """Return the floating-point operations of one forward pass of one picture.

    Two per multiplication and addition of convolutions and matrix products, as torch counts them.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        UNet(spec)(torch.empty(1, 2 * COLOURS, spec.side, spec.side), torch.empty(1, spec.width))
    return int(counter.get_total_flops())


def _encoder(spec: UNetSpec, code: int) -> list[Stage]:
    stages, entering = [], spec.channels[0]
    for level, width in enumerate(spec.channels):
        for k in range(spec.blocks):
            block = ResBlock(entering, width, code, dilation=spec.dilation(level, k))
            stages.append(Stage([block, *_attention(spec, level)]))
            entering = width
        if level < spec.levels - 1:
            stages.append(Stage([*_extra(spec, level, code), ResBlock(width, width, code, "down")]))
    return stages


def _extra(spec: UNetSpec, level: int, code: int) -> list[ResBlock]:
    """Return the encoder blocks a level has in place of attention."""
    width, first = spec.channels[level], spec.blocks
    places = range(first, first + spec.extra_blocks(level))
    return [ResBlock(width, width, code, dilation=spec.dilation(level, k)) for k in places]


def _attention(spec: UNetSpec, level: int) -> list[Attention]:
    """Return the attention that follows each block of a level: one or none."""
    split = 2 if spec.attention_kind == "local" else 1
    width = spec.channels[level]
    return [Attention(width, spec.heads_of(width), split)] if spec.attends(level) else []


def _middle(spec: UNetSpec, code: int) -> Stage:
    """Return the extra blocks of the coarsest level, then two blocks around its attention, if any."""
    last, width = spec.levels - 1, spec.channels[-1]
    first, second = (ResBlock(width, width, code) for _ in range(2))
    return Stage([*_extra(spec, last, code), first, *_attention(spec, last), second])


def _decoder(spec: UNetSpec, code: int) -> list[Stage]:
    skips = _skips(spec)
    stages, entering = [], spec.channels[-1]
    for level, width in reversed(list(enumerate(spec.channels))):
        for k in range(spec.blocks + 1):
            blocks = [ResBlock(entering + skips.pop(), width, code), *_attention(spec, level)]
            if level and k == spec.blocks:
                blocks.append(ResBlock(width, width, code, "up"))
            stages.append(Stage(blocks))
            entering = width
    return stages


def _skips(spec: UNetSpec) -> list[int]:
    """Return the channels of what the encoder hands over: stem, blocks, and what ends each finer level."""
    widths = [spec.channels[0]]
    for level, width in enumerate(spec.channels):
        widths += [width] * (spec.blocks + (level < spec.levels - 1))
    return widths
