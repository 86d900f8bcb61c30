"""The network as diffusers builds it: the other side of `model_speed.py`, and an oracle of the tests.

Source: diffusers `UNet2DModel`, with the blocks that resample inside residual blocks; written for 0.42.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest
from typing import Any

from torch import nn

from palette_bench.baselines.training.presets import UNetSpec
from palette_bench.baselines.training.unet import ResBlock, UNet


def options_of(spec: UNetSpec) -> dict[str, Any]:
    """Return the arguments of the UNet2DModel of the shape of a spec with global attention."""
    attends = [spec.attends(level) for level in range(spec.levels)]
    return {
        "sample_size": spec.side // spec.fold,
        "in_channels": 6 * spec.fold**2,
        "out_channels": 3 * spec.fold**2,
        "block_out_channels": spec.channels,
        "layers_per_block": spec.blocks,
        "down_block_types": ["AttnDownBlock2D" if a else "ResnetDownsampleBlock2D" for a in attends],
        "up_block_types": ["AttnUpBlock2D" if a else "ResnetUpsampleBlock2D" for a in reversed(attends)],
        "downsample_type": "resnet",
        "upsample_type": "resnet",
        "resnet_time_scale_shift": "scale_shift",
        "attention_head_dim": spec.head_width,
        "attn_norm_num_groups": 32,
    }


def copy_weights(ours: UNet, theirs: Any) -> None:
    """Give a UNet2DModel of the same shape the weights of ours."""
    for source, target in _pairs(ours, theirs):
        target.load_state_dict(source.state_dict())


def _pairs(ours: UNet, theirs: Any) -> Iterator[tuple[nn.Module, nn.Module]]:
    """Yield the layers that correspond, in the order both compute them."""
    yield ours.embed[0], theirs.time_embedding.linear_1
    yield ours.embed[2], theirs.time_embedding.linear_2
    yield ours.stem, theirs.conv_in
    blocks = chain.from_iterable((*ours.down, ours.mid, *ours.up))
    for source, target in zip(blocks, _blocks(theirs), strict=True):
        yield from (_of_residual if isinstance(source, ResBlock) else _of_attention)(source, target)
    yield ours.norm, theirs.conv_norm_out
    yield ours.head, theirs.conv_out


def _blocks(theirs: Any) -> Iterator[Any]:
    for level in (*theirs.down_blocks, theirs.mid_block, *theirs.up_blocks):
        for residual, attention in zip_longest(level.resnets, getattr(level, "attentions", [])):
            yield residual
            if attention is not None:
                yield attention
        yield from getattr(level, "downsamplers", None) or getattr(level, "upsamplers", None) or []


def _of_residual(ours: Any, theirs: Any) -> Iterator[tuple[nn.Module, nn.Module]]:
    yield ours.norm1, theirs.norm1
    yield ours.conv1, theirs.conv1
    yield ours.emb, theirs.time_emb_proj
    yield ours.norm2, theirs.norm2
    yield ours.conv2, theirs.conv2
    if theirs.conv_shortcut is not None:
        yield ours.skip, theirs.conv_shortcut


def _of_attention(ours: Any, theirs: Any) -> Iterator[tuple[nn.Module, nn.Module]]:
    yield ours.norm, theirs.group_norm
    weights, biases = ours.qkv.weight.chunk(3), ours.qkv.bias.chunk(3)
    for weight, bias, target in zip(weights, biases, (theirs.to_q, theirs.to_k, theirs.to_v), strict=True):
        part = nn.Linear(*weight.shape, device=weight.device)
        part.weight, part.bias = nn.Parameter(weight), nn.Parameter(bias)
        yield part, target
    yield ours.out, theirs.to_out[0]
