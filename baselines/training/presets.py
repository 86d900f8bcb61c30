"""Shapes of the network: the numbers that determine its parameters, and named presets."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, get_args

from palette_bench.core.errors import InputError

AttentionKind = Literal["global", "local", "extra-blocks", "dilated"]

# far beyond any trained network; beyond these limits, sizes overflow before a check can report them
_LARGEST = {"side": 4096, "width": 4096, "multipliers": 64, "blocks": 64, "head_width": 4096, "fold": 16}
_MOST_LEVELS = 12

GROUPS = 32  # groups of every normalisation in ADM

# Encoder blocks in place of attention, per attention level, finest first. Inferred: at 256 px these give the
# 603M and 624M parameters of Palette, Table 5; doubling the blocks on both sides would give 744M.
EXTRA_BLOCKS: Mapping[AttentionKind, tuple[int, ...]] = {"extra-blocks": (3, 2, 2), "dilated": (3, 2, 3)}

# of the paper's network, by kind of attention; Palette, Table 5, rounds the last two to 603M and 624M
PARAMETERS: Mapping[AttentionKind, int] = {
    "global": 552_814_083,
    "local": 552_814_083,
    "extra-blocks": 602_583_555,
    "dilated": 623_563_267,
}


@dataclass(frozen=True)
class UNetSpec:
    """Shape of a U-Net: everything that determines its parameters.

    Attention is given by resolution and bound to the levels that have this resolution at `side`, so that
    images of other sizes pass through the same layers. In a folded network the finest level already has
    resolution side / fold.

    Attributes:
        side: side of the images that the network is made for, pixels.
        width: width of the code, and the unit of channels.
        multipliers: channels of each level, in widths; every level halves the resolution of the one before.
        blocks: residual blocks per level of the encoder; the decoder has one more.
        attention: resolutions with attention, pixels; the middle has attention if the coarsest level has.
        head_width: channels of an attention head.
        heads: number of heads of every attention layer, in place of `head_width`.
        attention_kind: "global"; "local", within quadrants; or "extra-blocks" or "dilated", residual blocks
            in place of attention.
        groups: groups of every normalisation. Normalisation removes each group's mean. With few channels per
            group, this removes the brightness and tint of the noise that is to be predicted, so narrow
            networks need fewer groups. With width 32 and multipliers (1, 2, 2, 2), at lambda -4.6, 8 groups
            lost 63-78 % of a channel's mean noise after 64,000 images; continued with 1 group, the network
            lost 9 to 21 % after 4,000 more.
        fold: side of the cells of pixels that become channels at the input and pixels again at the output.
            With 2, the first convolution has a quarter of the positions and four times the input channels.

    Raises:
        InputError: the numbers describe no network; names all reasons.

    Source: ADM (arXiv 2105.05233), section 3; kinds of attention: Palette, Table 5; folding: the
    space-to-depth of Shi et al. (arXiv 1609.05158), section 2.2.
    """

    side: int
    width: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    head_width: int = 64
    heads: int | None = None
    attention_kind: AttentionKind = "global"
    groups: int = GROUPS
    fold: int = 1

    def __post_init__(self) -> None:
        """Raise if the numbers describe no network."""
        if problems := list(self._problems()):
            raise InputError(f"no such network: {'; '.join(problems)}")

    def _problems(self) -> Iterator[str]:
        if not 1 <= self.levels <= _MOST_LEVELS:
            yield f"multipliers name {self.levels or 'no'} level{'s'[: self.levels]}, not 1 to {_MOST_LEVELS}"
            return
        for name, largest in _LARGEST.items():
            value = getattr(self, name)
            if max(value if isinstance(value, tuple) else (value,)) > largest:
                yield f"{name} goes up to {largest:,}"
        if self.width % 2:
            yield f"width {self.width} is odd: half of the noise level's code are sines, half cosines"
        resolutions = [self.resolution(level) for level in range(self.levels)]
        if self.attention_kind not in get_args(AttentionKind):
            yield f"attention_kind {self.attention_kind!r} is none of {', '.join(get_args(AttentionKind))}"
        if self.side % self.multiple:
            yield f"side {self.side} is not a multiple of {self.multiple}"
        for resolution in sorted(set(self.attention) - set(resolutions)):
            yield f"attention at {resolution} px, but the levels have {resolutions}"
        if len(self.attention) > len(EXTRA_BLOCKS.get(self.attention_kind, self.attention)):
            yield f"{self.attention_kind} is defined for at most three attention levels"
        for channels in sorted(set(self.channels)):
            if channels % self.groups:
                yield (
                    f"{channels} channels are not a multiple of {self.groups} groups: "
                    f"take another width, or groups = {math.gcd(*self.channels)} or a divisor of it"
                )
        for channels in sorted({self.channels[level] for level in filter(self.attends, range(self.levels))}):
            if channels % (self.heads or self.head_width):
                heads = f"{self.heads} heads" if self.heads else f"heads of head_width = {self.head_width}"
                yield f"{channels} channels do not divide into {heads}"

    @property
    def levels(self) -> int:
        """Return the number of levels, one per resolution."""
        return len(self.multipliers)

    @property
    def channels(self) -> tuple[int, ...]:
        """Return the channels of each level, from the finest."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    def heads_of(self, channels: int) -> int:
        """Return the number of heads of an attention layer with `channels` channels."""
        return self.heads or channels // self.head_width

    @property
    def multiple(self) -> int:
        """Return the number that an image's height and width must be multiples of, pixels."""
        halvings = self.levels - (self.attention_kind != "local")  # quadrants also halve the coarsest level
        return self.fold << halvings

    def resolution(self, level: int) -> int:
        """Return the height and width of a level's features, for an image of `side`."""
        return self.side // self.fold >> level

    def attends(self, level: int) -> bool:
        """Return whether attention follows the blocks of a level."""
        return self.resolution(level) in self.attention and self.attention_kind not in EXTRA_BLOCKS

    def extra_blocks(self, level: int) -> int:
        """Return the number of encoder blocks that replace attention at a level."""
        resolutions = sorted(self.attention, reverse=True)
        if self.attention_kind not in EXTRA_BLOCKS or self.resolution(level) not in resolutions:
            return 0
        return EXTRA_BLOCKS[self.attention_kind][resolutions.index(self.resolution(level))]

    def dilation(self, level: int, block: int) -> int:
        """Return the dilation of an encoder block; `block` counts from 0 and includes the extra blocks.

        The dilation doubles from 1, so that a level of `dilated` sees its whole image, up to half the
        resolution.
        """
        resolution = self.resolution(level)
        if self.attention_kind != "dilated" or resolution not in self.attention:
            return 1
        return min(1 << block, resolution // 2)


PRESETS: Mapping[str, UNetSpec] = MappingProxyType(
    {
        "palette-256": UNetSpec(256, 256, (1, 1, 2, 2, 4, 4), 2, (32, 16, 8)),  # the paper's
        "palette-128": UNetSpec(128, 128, (1, 1, 2, 3, 4), 2, (32, 16, 8)),
        "palette-64": UNetSpec(64, 128, (1, 2, 2, 2), 2, (16, 8)),
        "palette-64s": UNetSpec(64, 64, (1, 2, 2, 2), 1, (16, 8)),
        "palette-64xs": UNetSpec(64, 32, (1, 1, 4, 4), 1, (16, 8), head_width=32, groups=1),  # for a CPU
        # 1.45 times the images a second of palette-64xs, both compiled
        "palette-64f": UNetSpec(64, 64, (1, 2, 2), 1, (8,), head_width=32, groups=1, fold=2),
        "palette-smoke": UNetSpec(32, 32, (1, 2, 2), 1, (8,), head_width=32),
        "palette-toy": UNetSpec(16, 32, (1, 2), 1, (8,), head_width=32),
        # shapes of published ADM networks; ADM's 256 px networks have the shape of palette-256
        "adm-64": UNetSpec(64, 192, (1, 2, 3, 4), 3, (32, 16, 8)),
        "adm-128": UNetSpec(128, 256, (1, 1, 2, 3, 4), 2, (32, 16, 8), heads=4),
        "adm-64-to-256": UNetSpec(256, 192, (1, 1, 2, 2, 4, 4), 2, (32, 16, 8), heads=4),
    }
)


def known_parameters(spec: UNetSpec) -> int | None:
    """Return the parameter count of the paper's network; None if `spec` has another shape."""
    papers = replace(PRESETS["palette-256"], attention_kind=spec.attention_kind)
    return PARAMETERS[spec.attention_kind] if spec == papers else None
