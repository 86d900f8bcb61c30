"""The network: ADM's U-Net without class conditioning, with the source image concatenated to the noisy one.

Source: Palette, section 3, after ADM (Dhariwal and Nichol, arXiv 2105.05233).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from palette_bench.core.errors import InputError

from .presets import GROUPS, UNetSpec

Resampling = Literal["none", "up", "down"]
# the network, or what stands for it: (N, 6, H, W) noisy image and source, (N, width) code -> (N, 3, H, W)
Predictor = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def float32_inside(like: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context that disables autocast on the device of `like`."""
    if like.is_meta:  # it has no autocast
        return contextlib.nullcontext()
    return torch.autocast(like.device.type, enabled=False)


def zero(layer: nn.Module) -> None:
    """Set all parameters of a layer to 0, so that its branch initially adds nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def resample(h: torch.Tensor, how: Resampling) -> torch.Tensor:
    """Return (N, C, H, W) with sides doubled (nearest), halved (2x2 means) or kept, in the dtype of `h`."""
    if how == "up":
        return functional.interpolate(h, scale_factor=2.0, mode="nearest").to(h.dtype)
    if how == "down":
        return functional.avg_pool2d(h, 2).to(h.dtype)
    return h


class Norm(nn.GroupNorm):
    """Group normalisation computed in float32 for any input dtype; `UNet` sets its `num_groups`."""

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(GROUPS, channels), channels)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Return (N, C, H, W) float32: each group with mean 0 and variance 1, then scaled and shifted."""
        with float32_inside(h):
            return super().forward(h.float())


class ResBlock(nn.Module):
    """Two convolutions beside a skip connection; the code scales and shifts between them. It may resample.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        code: width of the embedded code.
        resampling: resampling of both the branch and the skip, before the first convolution.
        dilation: dilation of both convolutions.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        code: int,
        resampling: Resampling = "none",
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.resampling: Resampling = resampling
        self.norm1 = Norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.emb = nn.Linear(code, 2 * out_channels)
        self.norm2 = Norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=dilation, dilation=dilation)
        self.skip = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)
        zero(self.conv2)

    def forward(self, h: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Return (N, leaving, H', W') for h, (N, entering, H, W), and the embedded code, (N, code)."""
        inner = functional.silu(self.norm1(h)).to(h.dtype)
        inner = self.conv1(resample(inner, self.resampling))
        with float32_inside(h):
            scale, shift = self.emb(embedding)[:, :, None, None].chunk(2, dim=1)
            modulated = functional.silu(self.norm2(inner) * (1 + scale) + shift)
        out: torch.Tensor = self.conv2(modulated.to(inner.dtype)) + self.skip(resample(h, self.resampling))
        return out


class Attention(nn.Module):
    """Self-attention over all positions, or within each cell of a split x split grid.

    Rows of `qkv` are ordered (query / key / value, head, channel).

    Args:
        channels: channels of input and output.
        heads: number of heads that share the channels.
        split: 1, or 2 for quadrants: four query blocks, each seeing its own keys (Palette, Table 5).
    """

    def __init__(self, channels: int, heads: int, split: int = 1) -> None:
        super().__init__()
        self.heads, self.split = heads, split
        self.norm = Norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        zero(self.out)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Return (N, C, H, W) for an input of the same shape."""
        n, c, height, width = h.shape
        # (N, C, H, W) -> (N * cells, positions of a cell, C)
        cells = (n, c, self.split, height // self.split, self.split, width // self.split)
        tokens = self.norm(h).to(h.dtype).reshape(cells).permute(0, 2, 4, 3, 5, 1)
        tokens = tokens.flatten(3, 4).flatten(0, 2).contiguous()  # the bias then joins the product
        rows = self.qkv(tokens).reshape(*tokens.shape[:2], 3, self.heads, -1)
        query, key, value = rows.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        out = self.out(seen).reshape(n, self.split, self.split, *cells[3::2], c)
        joined: torch.Tensor = h + out.permute(0, 5, 1, 3, 2, 4).reshape(h.shape)
        return joined


class Stage(nn.ModuleList):
    """A sequence of residual and attention blocks."""

    def forward(self, embedding: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the last block's output; the inputs are first concatenated along channels."""
        h = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]
        for block in self:
            h = block(h, embedding) if isinstance(block, ResBlock) else block(h)
        return h


COLOURS = 3
SLOWEST = 10_000  # the lowest frequency is about 1 / SLOWEST radians per position; Transformer, section 3.5


def sinusoids(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Return the code of noise levels: cos, then sin, of p 10000^(-i / (width / 2)).

    Args:
        positions: positions p, (N,), from 0 to 1000; float64 keeps its full precision.
        width: width of the code, even.

    Returns:
        (N, width) float32 in [-1, 1].

    Source: ADM, with cosines first; computed in float64, as angles reach 1000.
    """
    exponents = torch.arange(width // 2, dtype=torch.float64, device=positions.device) / (width // 2)
    angles = positions.double()[:, None] * torch.exp(-math.log(SLOWEST) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1).float()


class UNet(nn.Module):
    """The network of all trained methods; its output is exactly 0 before training.

    The names of the layers map one to one to those of a published ADM network. Extra encoder blocks come
    before the downsampling that ends their level, or before the middle, and so add no skip connection.

    Args:
        spec: shape of the network.
        checkpointing: whether to recompute activations in the backward pass instead of storing them.
    """

    def __init__(self, spec: UNetSpec, checkpointing: bool = False) -> None:
        super().__init__()
        self.spec, self.checkpointing = spec, checkpointing
        code = 4 * spec.width
        self.embed = nn.Sequential(nn.Linear(spec.width, code), nn.SiLU(), nn.Linear(code, code))
        self.stem = nn.Conv2d(2 * COLOURS * spec.fold**2, spec.channels[0], 3, padding=1)
        self.down, in_channels = nn.ModuleList(), spec.channels[0]
        for level, width in enumerate(spec.channels):
            for k in range(spec.blocks):
                block = ResBlock(in_channels, width, code, dilation=spec.dilation(level, k))
                self.down.append(Stage([block, *_attention(spec, level)]))
                in_channels = width
            if level < spec.levels - 1:
                self.down.append(Stage([*_extra(spec, level, code), ResBlock(width, width, code, "down")]))
        # two blocks around the attention of the coarsest level, if it has any, after its extra blocks
        last, width = spec.levels - 1, spec.channels[-1]
        first, second = (ResBlock(width, width, code) for _ in range(2))
        self.mid = Stage([*_extra(spec, last, code), first, *_attention(spec, last), second])
        # channels of the encoder's skips: stem, blocks, and the end of each level but the last
        skips = [spec.channels[0]]
        for level, width in enumerate(spec.channels):
            skips += [width] * (spec.blocks + (level < spec.levels - 1))
        self.up, in_channels = nn.ModuleList(), spec.channels[-1]
        for level, width in reversed(list(enumerate(spec.channels))):
            for k in range(spec.blocks + 1):
                blocks = [ResBlock(in_channels + skips.pop(), width, code), *_attention(spec, level)]
                if level and k == spec.blocks:
                    blocks.append(ResBlock(width, width, code, "up"))
                self.up.append(Stage(blocks))
                in_channels = width
        self.norm = Norm(spec.channels[0])
        self.head = nn.Conv2d(spec.channels[0], COLOURS * spec.fold**2, 3, padding=1)
        zero(self.head)
        for layer in self.modules():
            if isinstance(layer, Norm):
                layer.num_groups = spec.groups

    def forward(self, images: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
        """Return the output, which the method interprets as noise, velocity or image.

        Args:
            images: (N, 6, H, W) float32, the noisy image, then the source; H and W are multiples of
                `spec.multiple` and need not be `spec.side`.
            code: (N, width) float32: sinusoids of the noise level, or a generator's normals.

        Returns:
            (N, 3, H, W) float32, also under autocast.

        Raises:
            InputError: H or W is not a multiple of `spec.multiple`.
        """
        if images.shape[2] % self.spec.multiple or images.shape[3] % self.spec.multiple:
            raise InputError(
                f"images of {images.shape[2]} x {images.shape[3]} px do not fit this network: "
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
            # a stage draws no random numbers, so there is no generator state to preserve
            h: torch.Tensor = checkpoint(stage, *inputs, use_reentrant=False, preserve_rng_state=False)
        else:
            h = stage(*inputs)
        return h


def flop(spec: UNetSpec) -> int:
    """Return the floating-point operations of one forward pass of one image.

    Convolutions and matrix products count two operations per multiplication and addition, as in torch.
    """
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        UNet(spec)(torch.empty(1, 2 * COLOURS, spec.side, spec.side), torch.empty(1, spec.width))
    return int(counter.get_total_flops())


def _extra(spec: UNetSpec, level: int, code: int) -> list[ResBlock]:
    """Return the encoder blocks that replace attention at a level."""
    width, first = spec.channels[level], spec.blocks
    places = range(first, first + spec.extra_blocks(level))
    return [ResBlock(width, width, code, dilation=spec.dilation(level, k)) for k in places]


def _attention(spec: UNetSpec, level: int) -> list[Attention]:
    """Return the attention that follows each block of a level, a list of one or none."""
    split = 2 if spec.attention_kind == "local" else 1
    width = spec.channels[level]
    return [Attention(width, spec.heads_of(width), split)] if spec.attends(level) else []
