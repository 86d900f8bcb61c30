"""Import of ADM networks against a module written from the paper and the names in its published files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from palette_bench.baselines.training import adm
from palette_bench.baselines.training.adm import adm_kinds, load_adm
from palette_bench.baselines.training.presets import PRESETS, UNetSpec
from palette_bench.baselines.training.unet import UNet, sinusoids
from palette_bench.core.errors import UsageError, WeightsError

# small, with everything: two attention levels, 64 channels per head, widths that change, two blocks
SMALL = UNetSpec(side=16, width=64, multipliers=(1, 2, 2), blocks=2, attention=(8, 4))
CLASSES = 5
STEPS = torch.tensor([3.0, 871.0])


class Residual(nn.Module):
    def __init__(self, before: int, after: int, code: int, resample: nn.Module | None = None) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(code, 2 * after))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, after), nn.SiLU(), nn.Dropout(0.0), nn.Conv2d(after, after, 3, padding=1)
        )
        if before != after:
            self.skip_connection = nn.Conv2d(before, after, 1)
        self.resample = resample or nn.Identity()

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        norm, activation, first = self.in_layers
        inner = first(self.resample(activation(norm(x))))
        scale, shift = self.emb_layers(code).unflatten(1, (2, -1))[..., None, None].unbind(1)
        norm, activation, _, second = self.out_layers
        inner = second(activation(norm(inner) * (1 + scale) + shift))
        x = self.resample(x)
        return inner + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)


class HeadwiseAttention(nn.Module):
    """One head after the other, softmax written out."""

    def __init__(self, channels: int, heads: int, rows: str) -> None:
        super().__init__()
        self.heads, self.rows = heads, rows
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = nn.Conv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.qkv(self.norm(x).flatten(2))
        if self.rows == "head":
            per_head = [part.chunk(3, dim=1) for part in rows.chunk(self.heads, dim=1)]
        else:
            per_head = list(
                zip(*(part.chunk(self.heads, dim=1) for part in rows.chunk(3, dim=1)), strict=True)
            )
        seen = [
            torch.einsum("nts,ncs->nct", (q.mT @ k / math.sqrt(q.shape[1])).softmax(dim=2), v)
            for q, k, v in per_head
        ]
        return x + self.proj_out(torch.cat(seen, dim=1)).reshape(x.shape)


class Adm(nn.Module):
    """ADM's network, by the names of its state dictionary, in the shape of `spec`."""

    def __init__(self, spec: UNetSpec, inputs: int, classes: int, rows: str) -> None:
        super().__init__()
        width, levels, code = spec.width, spec.levels, 4 * spec.width
        widths = [width * m for m in spec.multipliers]
        down, up = nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="nearest")

        def attention(level: int) -> list[nn.Module]:
            heads = spec.heads or widths[level] // spec.head_width
            here = spec.side // 2**level in spec.attention
            return [HeadwiseAttention(widths[level], heads, rows)] if here else []

        self.width = width
        self.time_embed = nn.Sequential(
            nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width)
        )
        if classes:
            self.label_emb = nn.Embedding(classes, 4 * width)
        blocks = [[nn.Conv2d(inputs, widths[0], 3, padding=1)]]
        handed = [widths[0]]
        for level in range(levels):
            for _ in range(spec.blocks):
                blocks.append([Residual(handed[-1], widths[level], code), *attention(level)])
                handed.append(widths[level])
            if level < levels - 1:
                blocks.append([Residual(widths[level], widths[level], code, down)])
                handed.append(widths[level])
        self.input_blocks = nn.ModuleList(map(nn.ModuleList, blocks))
        now = widths[-1]
        self.middle_block = nn.ModuleList(
            [Residual(now, now, code), *attention(levels - 1), Residual(now, now, code)]
        )
        blocks = []
        for level in range(levels - 1, -1, -1):
            for i in range(spec.blocks + 1):
                row = [Residual(now + handed.pop(), widths[level], code), *attention(level)]
                now = widths[level]
                if level > 0 and i == spec.blocks:
                    row.append(Residual(now, now, code, up))
                blocks.append(row)
        self.output_blocks = nn.ModuleList(map(nn.ModuleList, blocks))
        self.out = nn.Sequential(nn.GroupNorm(32, now), nn.SiLU(), nn.Conv2d(now, 6, 3, padding=1))

    def forward(self, x: Tensor, steps: Tensor, label: Tensor | None = None) -> Tensor:
        half = self.width // 2
        angles = torch.outer(steps.double(), 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half))
        code = self.time_embed(torch.cat([angles.cos(), angles.sin()], dim=1).to(x.dtype))
        if label is not None:
            code = code + label

        def through(row: nn.ModuleList, h: Tensor) -> Tensor:
            for layer in row:
                h = layer(h, code) if isinstance(layer, Residual) else layer(h)
            return h

        kept = []
        for row in self.input_blocks:
            x = through(row, x)
            kept.append(x)
        x = through(self.middle_block, x)
        for row in self.output_blocks:
            x = through(row, torch.cat([x, kept.pop()], dim=1))
        return self.out(x)


def trained_adm(kind: str, spec: UNetSpec = SMALL) -> Adm:
    """Return an ADM network with nothing at zero: as made, its attention and second convolutions are mute."""
    row = adm_kinds()[kind]
    torch.manual_seed(5)
    theirs = Adm(spec, row.inputs, row.classes, row.qkv_rows)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            normed = parameter.ndim == 1 and "weight" in name
            spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
            parameter.normal_(1.0 if normed else 0.0, spread)
    return theirs.eval()


@pytest.fixture(autouse=True)
def small_unproven_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few classes and no digest, so that the tests can write files of their own."""
    rows = {
        name: row.model_copy(update={"sha256": None, "classes": min(row.classes, CLASSES)})
        for name, row in adm_kinds().items()
    }
    monkeypatch.setattr(adm, "adm_kinds", lambda: rows)
    monkeypatch.setitem(globals(), "adm_kinds", lambda: rows)


def spec_of(kind: str) -> UNetSpec:
    return replace(SMALL, heads=PRESETS[adm_kinds()[kind].preset].heads)


def saved(theirs: nn.Module, folder: Path, name: str = "theirs.pt") -> Path:
    torch.save(theirs.state_dict(), folder / name)
    return folder / name


def imported(file: Path, kind: str, spec: UNetSpec, **options: str) -> UNet:
    network = UNet(spec)
    network.load_state_dict(load_adm(file, kind, spec, **options))  # type: ignore[arg-type]
    return network.eval()


def run(network: UNet, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network(images, sinusoids(STEPS, network.spec.width))


def images() -> Tensor:
    return torch.randn(2, 6, 16, 16, generator=torch.Generator().manual_seed(1))


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("kind", ["adm-64", "adm-128", "adm-256", "adm-256-uncond", "adm-64-to-256"])
def test_an_imported_network_computes_what_adm_does(kind: str, tmp_path: Path) -> None:
    row, spec = adm_kinds()[kind], spec_of(kind)
    theirs = trained_adm(kind, spec)
    both = images()
    label = theirs.label_emb.weight.mean(dim=0) if row.classes else None
    with torch.no_grad():
        expected = theirs(both[:, : row.inputs], STEPS, label)[:, :3]
    ours = run(imported(saved(theirs, tmp_path), kind, spec), both)
    assert relative(ours, expected) < 1e-5


def test_the_same_tensors_as_safetensors_are_the_same_network(tmp_path: Path) -> None:
    theirs = trained_adm("adm-64")
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    one = load_adm(saved(theirs, tmp_path), "adm-64", SMALL)
    other = load_adm(tmp_path / "theirs.safetensors", "adm-64", SMALL)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_the_class_embedding_can_be_dropped(tmp_path: Path) -> None:
    theirs = trained_adm("adm-256")
    with torch.no_grad():
        expected = theirs(images()[:, :3], STEPS)[:, :3]
    ours = run(imported(saved(theirs, tmp_path), "adm-256", SMALL, label="drop"), images())
    assert relative(ours, expected) < 1e-5


def test_the_source_image_enters_through_zeros_unless_the_network_knows_it(tmp_path: Path) -> None:
    other = images()
    other[:, 3:] = 0
    for kind, sees in (("adm-256-uncond", False), ("adm-64-to-256", True)):
        spec = spec_of(kind)
        network = imported(saved(trained_adm(kind, spec), tmp_path), kind, spec)
        assert bool((run(network, images()) != run(network, other)).any()) is sees


@pytest.mark.parametrize(("kind", "other"), [("adm-64", "adm-256"), ("adm-256", "adm-64")])
def test_the_other_row_order_is_another_network(kind: str, other: str, tmp_path: Path) -> None:
    file = saved(trained_adm(kind), tmp_path)
    right, wrong = (run(imported(file, k, SMALL), images()) for k in (kind, other))
    assert relative(wrong, right) > 0.01


@pytest.mark.parametrize("kind", ["adm-64", "adm-256"])
def test_every_tensor_counts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = replace(SMALL, side=8, multipliers=(1, 2), blocks=1, attention=(4,))
    weights = trained_adm(kind, spec).state_dict()
    monkeypatch.setattr(adm, "_read", lambda file, row: weights)
    network, small = imported(Path("-"), kind, spec), images()[:, :, :8, :8]
    before = run(network, small)
    for name, tensor in weights.items():
        kept = tensor.clone()
        counting = tensor[:3] if name.startswith("out.2") else tensor  # rows 3-5 are the variance's
        counting.mul_(1.05).add_(0.05)
        network.load_state_dict(load_adm(Path("-"), kind, spec))
        assert relative(run(network, small), before) > 1e-5, name
        tensor.copy_(kept)


def test_the_variance_rows_do_not_count(tmp_path: Path) -> None:
    theirs = trained_adm("adm-256-uncond")
    before = run(imported(saved(theirs, tmp_path), "adm-256-uncond", SMALL), images())
    with torch.no_grad():
        theirs.out[2].weight[3:] += 1
    after = run(imported(saved(theirs, tmp_path), "adm-256-uncond", SMALL), images())
    assert torch.equal(before, after)


def test_all_misfits_are_named_at_once(tmp_path: Path) -> None:
    weights = trained_adm("adm-256-uncond").state_dict()
    del weights["input_blocks.3.0.in_layers.2.bias"], weights["out.0.weight"]
    weights["label_emb.weight"] = torch.zeros(CLASSES, 256)
    weights["time_embed.0.bias"] = torch.zeros(1).expand(10**12)  # takes no memory, and never shall
    torch.save(weights, tmp_path / "broken.pt")
    with pytest.raises(WeightsError) as caught:
        load_adm(tmp_path / "broken.pt", "adm-256-uncond", SMALL)
    assert caught.value.exit_code == 4
    assert {p.code for p in caught.value.problems} == {"PB712"}
    text = str(caught.value)
    for name in (
        "input_blocks.3.0.in_layers.2.bias",
        "out.0.weight",
        "label_emb.weight",
        "time_embed.0.bias",
    ):
        assert name in text
    assert "(1000000000000,)" in text
    assert "preset palette-256" in text


def test_a_network_of_another_shape_or_other_heads_is_refused(tmp_path: Path) -> None:
    file = saved(trained_adm("adm-256-uncond"), tmp_path)
    for spec in (
        replace(SMALL, blocks=1),
        replace(SMALL, attention_kind="dilated"),
        replace(SMALL, width=128),
    ):
        with pytest.raises(WeightsError, match="PB712"):
            load_adm(file, "adm-256-uncond", spec)
    with pytest.raises(WeightsError, match=r"heads of 64 channels[\s\S]*4 heads"):
        load_adm(file, "adm-256-uncond", replace(SMALL, heads=4))


def test_local_attention_takes_the_weights_of_global_attention(tmp_path: Path) -> None:
    spec = replace(SMALL, attention_kind="local")
    file = saved(trained_adm("adm-256-uncond"), tmp_path)
    assert load_adm(file, "adm-256-uncond", spec).keys() == UNet(spec).state_dict().keys()


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code of a weights file ran')",))


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"a": Payload()}, tmp_path / "code.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    for name in ("code.pt", "list.pt", "text.pt", "text.safetensors", "absent.pt", "absent.safetensors"):
        with pytest.raises(WeightsError, match="PB705"):
            load_adm(tmp_path / name, "adm-256", SMALL)


def test_a_published_digest_must_be_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"adm-256-uncond": adm_kinds()["adm-256-uncond"].model_copy(update={"sha256": "0" * 64})}
    monkeypatch.setattr(adm, "adm_kinds", lambda: rows)
    with pytest.raises(WeightsError, match=r"PB705[\s\S]*sha256 0000[\s\S]*found +sha256"):
        load_adm(saved(trained_adm("adm-256-uncond"), tmp_path), "adm-256-uncond", SMALL)


def test_unknown_kinds_get_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="adm-256-uncond"):
        load_adm(tmp_path / "x.pt", "adm-uncond", SMALL)


@pytest.mark.parametrize(
    ("kind", "millions"),
    [("adm-64", 296), ("adm-128", 422), ("adm-256", 554), ("adm-256-uncond", 553), ("adm-64-to-256", 312)],
)
def test_the_listed_networks_have_the_published_sizes(kind: str, millions: int) -> None:
    """ADM (arXiv 2105.05233), table of hyperparameters; the unconditional one has no class embedding."""
    row = adm_kinds()[kind]
    with torch.device("meta"):
        theirs = Adm(PRESETS[row.preset], row.inputs, 1000 if row.classes else 0, row.qkv_rows)
    assert round(sum(p.numel() for p in theirs.parameters()) / 1e6) == millions
