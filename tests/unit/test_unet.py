"""The network: sizes, cost, attention kinds, precision, and what its layers may see."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from palette_bench.baselines.training.presets import PRESETS, AttentionKind, UNetSpec
from palette_bench.baselines.training.unet import Attention, Norm, ResBlock, UNet, resample, sinusoids
from palette_bench.core.errors import InputError
from palette_bench.runtime.device import reproducible_arithmetic

TOY = PRESETS["palette-toy"]
KINDS: tuple[AttentionKind, ...] = ("global", "local", "extra-blocks", "dilated")


def on_meta(spec: UNetSpec) -> UNet:
    """Return a network without memory for its weights."""
    with torch.device("meta"):
        return UNet(spec)


def count(spec: UNetSpec) -> int:
    return sum(p.numel() for p in on_meta(spec).parameters())


def awake(spec: UNetSpec, checkpointing: bool = False) -> UNet:
    """Return a network whose zeros are drawn anew: as made, half of its layers are mute."""
    torch.manual_seed(3)
    network = UNet(spec, checkpointing)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.05)
    return network


def inputs(
    spec: UNetSpec, n: int = 2, height: int | None = None, width: int | None = None
) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(4)
    shape = (n, 6, height or spec.side, width or spec.side)
    return torch.randn(shape, generator=draw), torch.randn(n, spec.width, generator=draw)


@pytest.mark.parametrize(
    ("preset", "parameters", "gflop"),
    [
        ("palette-256", 552_814_083, 2239.7),
        ("palette-128", 105_198_595, 156.6),
        ("palette-64", 44_177_283, 54.0),
        ("palette-64s", 7_831_171, 9.8),
        ("palette-64xs", 4_914_371, 2.87),
        ("palette-64f", 5_479_244, 2.44),
        ("palette-smoke", 1_371_971, 0.61),
        ("palette-toy", 828_355, 0.153),
    ],
)
def test_presets_have_their_parameters_and_cost(preset: str, parameters: int, gflop: float) -> None:
    """One image, one forward pass, a multiply-add counted as 2."""
    spec = PRESETS[preset]
    network = on_meta(spec)
    assert sum(p.numel() for p in network.parameters()) == parameters
    with FlopCounterMode(display=False) as counter, torch.no_grad(), torch.device("meta"):
        network(torch.empty(1, 6, spec.side, spec.side), torch.empty(1, spec.width))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, rel=0.01)


@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("global", 552_814_083),
        ("local", 552_814_083),
        ("extra-blocks", 602_583_555),
        ("dilated", 623_563_267),
    ],
)
def test_attention_kinds_have_the_sizes_of_table_5(kind: AttentionKind, parameters: int) -> None:
    assert count(replace(PRESETS["palette-256"], attention_kind=kind)) == parameters


def test_attention_alone_weighs_a_tenth() -> None:
    assert count(replace(PRESETS["palette-256"], attention=())) == 501_350_915


def test_the_dilated_kind_sees_a_level_whole_and_nothing_beyond() -> None:
    network = on_meta(replace(PRESETS["palette-256"], attention_kind="dilated"))
    rows: dict[int, list[int]] = {}
    for stage in (*network.down, network.mid):
        for block in stage:
            if block.conv1.dilation[0] > 1:
                rows.setdefault(block.conv1.in_channels, []).append(block.conv1.dilation[0])
    assert rows == {512: [2, 4, 8, 16], 1024: [2, 4, 8, 2, 4, 4, 4]}  # 32 px; 16 and 8 px
    assert all(block.conv1.dilation == (1, 1) for stage in network.up for block in stage)


@pytest.mark.parametrize("kind", KINDS)
def test_the_network_says_exactly_nothing_before_training(kind: AttentionKind) -> None:
    network = UNet(replace(TOY, attention_kind=kind))
    out = network(*inputs(TOY))
    assert out.shape == (2, 3, 16, 16)
    assert not out.any()
    for name, module in network.named_modules():
        starts_at_zero = name.endswith(("conv2", ".out", "head"))
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            assert bool(module.weight.any()) is not starts_at_zero, name


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_takes_part(kind: AttentionKind) -> None:
    network = awake(replace(TOY, attention_kind=kind))
    network(*inputs(TOY)).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_other_sizes_pass_through_the_same_layers(kind: AttentionKind) -> None:
    spec = replace(PRESETS["palette-smoke"], attention_kind=kind)
    network = awake(spec)
    for height, width in ((8, 8), (24, 40), (64, 32)):
        assert network(*inputs(spec, 1, height, width)).shape == (1, 3, height, width)


@pytest.mark.parametrize(("kind", "multiple"), [("global", 4), ("local", 8)])
def test_sides_that_do_not_halve_are_refused(kind: AttentionKind, multiple: int) -> None:
    spec = replace(PRESETS["palette-smoke"], attention_kind=kind)
    network = UNet(spec)
    for height, width in ((30, 32), (32, 34), (32 + multiple // 2, 32)):
        with pytest.raises(InputError, match=f"{height} x {width} px.*multiples of {multiple}"):
            network(*inputs(spec, 1, height, width))


def test_a_folded_network_is_one_of_cells_with_their_pixels_as_channels() -> None:
    folded = awake(replace(TOY, side=32, fold=2))
    images, codes = inputs(folded.spec)
    cells = images.reshape(2, 6, 16, 2, 16, 2).permute(0, 1, 3, 5, 2, 4).reshape(2, 24, 16, 16)
    inner = UNet(TOY)
    inner.stem, inner.head = folded.stem, folded.head
    inner.load_state_dict(folded.state_dict())
    out = inner(cells, codes).reshape(2, 3, 2, 2, 16, 16).permute(0, 1, 4, 2, 5, 3).reshape(2, 3, 32, 32)
    assert torch.equal(folded(images, codes), out)


def test_folding_halves_resolutions_and_doubles_the_multiple() -> None:
    spec = replace(PRESETS["palette-smoke"], fold=2, attention=(4,))
    assert [spec.resolution(level) for level in range(spec.levels)] == [16, 8, 4]
    assert spec.multiple == 8
    with pytest.raises(InputError, match="multiples of 8"):
        UNet(spec)(*inputs(spec, 1, 32, 36))
    with pytest.raises(InputError, match="attention at 8 px, but the levels have"):
        replace(TOY, fold=3)


def test_images_of_a_batch_do_not_meet() -> None:
    network = awake(TOY)
    images, codes = inputs(TOY, 3)
    alone = torch.cat([network(images[i : i + 1], codes[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(images, codes), alone, rtol=1e-4, atol=1e-5)


def test_both_images_and_the_code_matter() -> None:
    network = awake(TOY)
    images, codes = inputs(TOY)
    out = network(images, codes)
    for channel in range(6):
        changed = images.clone()
        changed[:, channel] += 1
        assert (network(changed, codes) - out).abs().max() > 1e-3
    assert (network(images, codes + 1) - out).abs().max() > 1e-3


@pytest.mark.parametrize(("split", "seen"), [(1, 64), (2, 16)])
def test_attention_sees_the_image_or_its_own_quadrant(split: int, seen: int) -> None:
    torch.manual_seed(1)
    layer = Attention(32, heads=2, split=split)
    nn.init.normal_(layer.out.weight)
    layer.norm = nn.Identity()  # it mixes positions, too
    h = torch.randn(1, 32, 8, 8, requires_grad=True)
    layer(h)[0, :, 2, 6].sum().backward()
    assert h.grad is not None
    touched = h.grad[0].abs().sum(0) > 0
    assert touched.sum() == seen
    assert touched[:4, 4:].all()


def test_four_equal_quadrants_attend_as_one_of_them_alone() -> None:
    torch.manual_seed(1)
    whole, quarters = Attention(32, heads=2), Attention(32, heads=2, split=2)
    nn.init.normal_(whole.out.weight)
    quarters.load_state_dict(whole.state_dict())
    quadrant = torch.randn(1, 32, 4, 6)
    torch.testing.assert_close(quarters(quadrant.tile(1, 1, 2, 2)), whole(quadrant).tile(1, 1, 2, 2))


def test_resampling_repeats_and_averages() -> None:
    h = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert resample(h, "up").tolist() == [[[[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 6, 6], [3, 3, 6, 6]]]]
    assert resample(h, "down").tolist() == [[[[3.0]]]]


def test_norms_are_float32_under_autocast() -> None:
    h = (torch.randn(2, 32, 8, 8) + 200).bfloat16()  # bf16 sums would lose the variance beside the mean
    with torch.autocast("cpu", torch.bfloat16):
        out = Norm(32)(h)
    expected = torch.nn.functional.group_norm(h.double(), 32)
    assert out.dtype == torch.float32
    assert (out - expected).abs().max() < 1e-3


def test_groups_of_several_channels_keep_what_each_says_of_the_whole_image() -> None:
    h = torch.randn(1, 32, 8, 8) + torch.arange(32.0)[None, :, None, None]
    means = UNet(PRESETS["palette-64xs"]).norm(h).mean((2, 3))[0]
    assert means.tolist() == sorted(means.tolist())
    alone = UNet(replace(PRESETS["palette-64xs"], groups=32)).norm(h).mean((2, 3))
    assert alone.abs().max() < 1e-5


def test_autocast_stays_inside() -> None:
    network = awake(PRESETS["palette-smoke"])
    inner: dict[str, torch.dtype] = {}
    for name, module in network.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear, ResBlock, Attention)):
            module.register_forward_hook(lambda _m, _i, out, name=name: inner.__setitem__(name, out.dtype))
    images, codes = inputs(network.spec)
    with torch.no_grad():
        exact = network(images, codes)
        assert set(inner.values()) == {torch.float32}
        with torch.autocast("cpu", torch.bfloat16):
            out = network(images, codes)
    assert out.dtype == torch.float32
    for name, dtype in inner.items():
        kept = name in {"embed.0", "embed.2", "head"} or name.endswith(".emb")
        assert dtype == (torch.float32 if kept else torch.bfloat16), name
    assert 0 < (out - exact).norm() / exact.norm() < 0.03


def test_recomputed_activations_give_the_same_gradients() -> None:
    gradients = []
    for checkpointing in (False, True):
        network = awake(TOY, checkpointing)
        network(*inputs(TOY)).square().mean().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True) if a is not None)


def test_the_network_compiles_into_one_graph() -> None:
    network = awake(TOY)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert torch.equal(compiled(*inputs(TOY)), network(*inputs(TOY)))
    torch.compiler.reset()


def test_channels_last_changes_rounding_only() -> None:
    network = awake(TOY)
    images, codes = inputs(TOY)
    out = network(images, codes)
    other = network.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last), codes)
    torch.testing.assert_close(other, out, rtol=1e-4, atol=1e-5)


def test_sinusoids_are_cosines_then_sines_of_falling_frequency() -> None:
    codes = sinusoids(torch.tensor([0.0, 1000.0], dtype=torch.float64), 8)
    angles = torch.tensor([1000.0, 100.0, 10.0, 1.0], dtype=torch.float64)
    assert codes.dtype == torch.float32
    assert codes[0].tolist() == [1, 1, 1, 1, 0, 0, 0, 0]
    torch.testing.assert_close(codes[1], torch.cat([angles.cos(), angles.sin()]).float())


def test_what_makes_no_network_is_refused_with_every_reason() -> None:
    with pytest.raises(InputError) as caught:
        UNetSpec(side=30, width=48, multipliers=(1, 2), blocks=1, attention=(16, 15, 7), head_width=36)
    for reason in (
        "at 16 px",
        "at 7 px",
        "48 channels are not a multiple of 32",
        "96 channels do not divide",
    ):
        assert reason in str(caught.value)
    for changes, reason in (
        ({"side": 36, "attention": ()}, "side 36 is not a multiple of 8"),
        ({"attention_kind": "sparse"}, "attention_kind 'sparse' is none of global, local"),
        ({"attention_kind": "dilated", "attention": (64, 32, 16, 8)}, "at most three attention levels"),
        ({"multipliers": ()}, "no level"),
    ):
        with pytest.raises(InputError, match=reason):
            replace(PRESETS["palette-64"], **changes)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("autocast", [False, True])
def test_a_gpu_repeats_itself_and_agrees_with_the_cpu(autocast: bool) -> None:
    spec = PRESETS["palette-smoke"]
    runs = []
    for device in ("cuda", "cuda", "cpu"):
        network = awake(spec).to(device)
        images, codes = (tensor.to(device) for tensor in inputs(spec))
        with reproducible_arithmetic(), torch.autocast(device, torch.bfloat16, enabled=autocast):
            out = network(images, codes)
            out.square().mean().backward()
        assert out.dtype == torch.float32
        gradients = torch.cat([p.grad.flatten().cpu() for p in network.parameters() if p.grad is not None])
        runs.append((out.detach().cpu(), gradients))
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    for one, other in zip(runs[0], runs[2], strict=True):
        assert (one - other).norm() < (0.1 if autocast else 1e-3) * other.norm()
