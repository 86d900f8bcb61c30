"""The layers of the network: normalisation, residual blocks, attention, and rows of them.

Under autocast the large products are bf16; norms and what the code modulates stay float32.
Source: ADM (arXiv 2105.05233), section 3: adaptive group normalisation, resampling inside residual blocks.
"""

from __future__ import annotations

import contextlib
import math
from typing import Literal

import torch
from torch import nn
from torch.nn import functional

from .presets import GROUPS

Resampling = Literal["none", "up", "down"]


def float32_inside(like: torch.Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context without autocast on the device of `like`."""
    device = like.device.type
    if not torch.amp.is_autocast_available(device):  # the meta device has none to switch off
        return contextlib.nullcontext()
    return torch.autocast(device, enabled=False)


def zero(layer: nn.Module) -> None:
    """Set all parameters of a layer to 0, so that its branch starts as nothing."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


def resample(h: torch.Tensor, how: Resampling) -> torch.Tensor:
    """Return (N, C, H, W) with sides doubled (nearest), halved (2x2 means) or kept, in its own dtype."""
    if how == "up":
        return functional.interpolate(h, scale_factor=2.0, mode="nearest").to(h.dtype)
    if how == "down":
        return functional.avg_pool2d(h, 2).to(h.dtype)
    return h


class Norm(nn.GroupNorm):
    """Group normalisation computed in float32, whatever comes in; the network sets its `num_groups`."""

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(GROUPS, channels), channels)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Return (N, C, H, W) float32, each group centred to variance 1, then scaled and shifted."""
        with float32_inside(h):
            return super().forward(h.float())


class ResBlock(nn.Module):
    """Two convolutions beside a skip; the code scales and shifts between them; may resample.

    Args:
        entering: channels of the input.
        leaving: channels of the output.
        code: width of the embedded code.
        resampling: of both the branch and the skip, before the first convolution.
        dilation: of both convolutions.
    """

    def __init__(
        self, entering: int, leaving: int, code: int, resampling: Resampling = "none", dilation: int = 1
    ) -> None:
        super().__init__()
        self.resampling: Resampling = resampling
        self.norm1 = Norm(entering)
        self.conv1 = nn.Conv2d(entering, leaving, 3, padding=dilation, dilation=dilation)
        self.emb = nn.Linear(code, 2 * leaving)
        self.norm2 = Norm(leaving)
        self.conv2 = nn.Conv2d(leaving, leaving, 3, padding=dilation, dilation=dilation)
        self.skip = nn.Identity() if entering == leaving else nn.Conv2d(entering, leaving, 1)
        zero(self.conv2)

    def forward(self, h: torch.Tensor, embedding: torch.Tensor) -> torch.Tensor:
        """Return (N, leaving, H', W') for h (N, entering, H, W) and the code's embedding, (N, code)."""
        inner = functional.silu(self.norm1(h)).to(h.dtype)
        inner = self.conv1(resample(inner, self.resampling))
        with float32_inside(h):
            scale, shift = self.emb(embedding)[:, :, None, None].chunk(2, dim=1)
            modulated = functional.silu(self.norm2(inner) * (1 + scale) + shift)
        out: torch.Tensor = self.conv2(modulated.to(inner.dtype)) + self.skip(resample(h, self.resampling))
        return out


class Attention(nn.Module):
    """Self-attention of all positions, or of those within each cell of a split x split grid.

    Rows of `qkv` are ordered (query / key / value, head, channel).

    Args:
        channels: of input and output.
        heads: that share them.
        split: 1, or 2 for quadrants: four query blocks, each seeing its own keys (Palette, Table 5).
    """

    def __init__(self, channels: int, heads: int, split: int = 1) -> None:
        super().__init__()
        self.heads = heads
        self.split = split
        self.norm = Norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        zero(self.out)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Return (N, C, H, W) for the same."""
        n, c, height, width = h.shape
        cells = (n, c, self.split, height // self.split, self.split, width // self.split)
        tokens = self.norm(h).to(h.dtype).reshape(cells).permute(0, 2, 4, 3, 5, 1)
        tokens = tokens.flatten(3, 4).flatten(0, 2).contiguous()  # so that the bias joins the product
        rows = self.qkv(tokens).reshape(*tokens.shape[:2], 3, self.heads, -1)
        query, key, value = rows.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        out = self.out(seen).reshape(n, self.split, self.split, *cells[3::2], c)
        joined: torch.Tensor = h + out.permute(0, 5, 1, 3, 2, 4).reshape(h.shape)
        return joined


class Stage(nn.ModuleList):
    """Blocks in a row, residual or attention."""

    def forward(self, embedding: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
        """Return the last block's output for the inputs, joined along channels."""
        h = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]
        for block in self:
            h = block(h, embedding) if isinstance(block, ResBlock) else block(h)
        return h
