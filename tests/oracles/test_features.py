"""Our features against the programs whose networks they are: torch-fidelity, torchvision, timm, lpips,
dists-pytorch."""

from __future__ import annotations

import importlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from scipy.signal import convolve2d
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torchvision.models import efficientnet_b0, googlenet, resnet50, vgg16

from palette_bench.core.errors import InputError, UsageError, WeightsError
from palette_bench.core.fingerprint import sha256
from palette_bench.scoring.features import open_extractor, open_pair_distance, weights
from palette_bench.scoring.features.extractor import FeatureExtractor, as_images
from palette_bench.scoring.features.inception import random_tensors
from palette_bench.scoring.features.network import drawn_images
from palette_bench.scoring.features.pairs import _Dists, _Lpips

MEAN, STD = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))

OpenFid = Callable[..., FeatureExtractor]


def images(count: int, side: int = 256) -> Tensor:
    draw = np.random.default_rng(11)
    return as_images(list(draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8)))


def assert_close(found: np.ndarray, expected: Tensor, relative: float = 1e-4) -> None:
    scale = float(expected.abs().max())
    assert found == pytest.approx(expected.numpy(), rel=relative, abs=relative * scale)


def pin(patch: pytest.MonkeyPatch, name: str, data: bytes) -> None:
    """Pretend that a file is the pinned one."""
    row = weights.pinned()[name].model_copy(update={"bytes": len(data), "sha256": sha256(data)})
    patch.setattr(weights, "pinned", lambda: {name: row})


# the FID network


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the layout of the real one, with random values."""
    path = tmp_path_factory.mktemp("weights") / "pt_inception.pth"
    torch.save(random_tensors(5), path)
    return path


@pytest.fixture
def open_fid(inception_file: Path, monkeypatch: pytest.MonkeyPatch) -> OpenFid:
    """Return a function that opens the FID network on that file."""
    pin(monkeypatch, "inception-v3-fid", inception_file.read_bytes())

    def opened(precision: str = "fp32", mode: str = "tf1") -> FeatureExtractor:
        found = open_extractor("inception-v3-fid", str(inception_file), "center224", "cpu", precision, mode)
        assert isinstance(found, FeatureExtractor)
        return found

    return opened


@pytest.fixture(scope="session")
def theirs(inception_file: Path) -> nn.Module:
    taps = ["2048", "logits_unbiased"]
    return FeatureExtractorInceptionV3("theirs", taps, feature_extractor_weights_path=str(inception_file))


@pytest.mark.parametrize("side", [64, 256])
def test_inception_features_equal_torch_fidelitys_own(
    side: int, open_fid: OpenFid, theirs: nn.Module
) -> None:
    batch = images(2, side)
    with torch.inference_mode():
        pool, logits = theirs(batch)
    ours = open_fid()
    assert ours.notes == ()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ours.network.modules())
    found = ours(batch)
    assert_close(found["pool_3"], pool)
    assert_close(found["logits"], logits)


def test_the_modes_give_other_features_under_other_fingerprints(open_fid: OpenFid) -> None:
    images = drawn_images(1)
    opened = {mode: open_fid(mode=mode) for mode in ("tf1", "clean", "pytorch")}
    found = {mode: extractor(images)["pool_3"] for mode, extractor in opened.items()}
    assert len({extractor.fingerprint for extractor in opened.values()}) == 3
    for mode in ("clean", "pytorch"):
        gap = np.abs(found[mode] - found["tf1"]).max() / np.abs(found["tf1"]).max()
        assert gap > 1e-3


def test_the_audit_really_runs_in_float64(open_fid: OpenFid, theirs: FeatureExtractorInceptionV3) -> None:
    audit = open_fid("fp64")
    seen: set[tuple[torch.dtype, torch.dtype]] = set()
    for module in audit.network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, args, out: seen.add((args[0].dtype, m.weight.dtype)))
    batch = images(1, 299)  # nothing to resize: their scale is a float32 in either type
    found = audit(batch)
    assert seen == {(torch.float64, torch.float64)}
    assert audit.network.prepare(batch.double()).dtype == torch.float64
    assert {table.dtype for table in found.values()} == {np.dtype(np.float32)}
    assert audit.notes == ("audit",)
    plain = open_fid()
    assert audit.fingerprint != plain.fingerprint
    theirs.double().feature_extractor_internal_dtype = torch.float64  # their own flag gives float32
    try:
        with torch.inference_mode():
            exact = theirs(batch)[0]
    finally:
        theirs.float().feature_extractor_internal_dtype = torch.float32
    assert_close(found["pool_3"], exact, 1e-6)
    errors = [
        float(np.abs(table - exact.numpy()).max()) for table in (found["pool_3"], plain(batch)["pool_3"])
    ]
    assert errors[0] < errors[1]


def test_the_preview_runs_in_bfloat16_and_says_so(open_fid: OpenFid) -> None:
    preview, plain = open_fid("bf16"), open_fid()
    assert {p.dtype for p in preview.network.parameters()} == {torch.bfloat16}
    assert preview.notes == ("preview",)
    assert preview.fingerprint != plain.fingerprint
    found, expected = (e(drawn_images(1))["pool_3"] for e in (preview, plain))
    assert found.dtype == np.float32
    assert 1e-3 < np.abs(found - expected).mean() / np.abs(expected).mean() < 1


def test_tensors_of_another_network_are_counted_not_crashed_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "other.pth"
    torch.save(nn.Linear(3, 2).state_dict(), path)
    pin(monkeypatch, "inception-v3-fid", path.read_bytes())
    with pytest.raises(WeightsError, match=r"PB705[\s\S]*missing Conv2d_1a_3x3\.conv\.weight"):
        open_extractor("inception-v3-fid", str(path), "center224", "cpu")


# classifiers


def scattered(model: nn.Module) -> nn.Module:
    """Return a model with batch norms that do something."""
    draw = torch.Generator().manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.running_mean, module.bias):
                tensor.data.copy_(torch.randn(tensor.shape, generator=draw) / 10)
            for tensor in (module.running_var, module.weight):
                tensor.data.copy_(torch.rand(tensor.shape, generator=draw) + 0.5)
    return model.eval()


CLASSIFIERS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "resnet50-v1": (lambda: resnet50(weights=None), "fc", "center224"),
    "efficientnet-b0-v1": (lambda: efficientnet_b0(weights=None), "classifier", "whole256"),
    "googlenet-v1": (
        lambda: googlenet(weights=None, transform_input=True, aux_logits=True, init_weights=False),
        "fc",
        "whole224-bicubic",
    ),
    "efficientnet-b0-tf": (
        lambda: timm.create_model("tf_efficientnet_b0.in1k", pretrained=False),
        "classifier",
        "center224",
    ),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers_equal_the_library_they_are_from(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    build, last, crop = CLASSIFIERS[name]
    torch.manual_seed(2)
    model = scattered(build())
    path = tmp_path / "net.pth"
    torch.save(model.state_dict(), path)
    if name in weights.pinned():
        pin(monkeypatch, name, path.read_bytes())
    ours = open_extractor(name, str(path), crop, "cpu")
    assert ours.notes == (() if name != "efficientnet-b0-tf" else ("unpinned-weights",))
    images = drawn_images(3)
    seen = {
        "center224": images[:, :, 16:240, 16:240].float(),
        "whole256": images.float(),
        "whole224-bicubic": nn.functional.interpolate(images.float(), size=(224, 224), mode="bicubic"),
    }[crop]
    pooled: list[Tensor] = []
    model.get_submodule(last).register_forward_pre_hook(lambda module, args: pooled.append(args[0]))
    with torch.inference_mode():
        logits = model((seen / 255 - MEAN) / STD)
    found = ours(images)
    assert_close(found["avgpool"], pooled[0])
    assert_close(found["logits"], logits)
    assert list(ours.heads) == (["features"] if name == "googlenet-v1" else ["features", "logits"])
    assert np.array_equal(found["logits"].argmax(axis=1), logits.argmax(dim=1).numpy())


def test_both_packings_of_resnet50_are_one_network() -> None:
    """torchvision's file and timm's hold the same tensors under the same names."""
    theirs = timm.create_model("resnet50.tv_in1k", pretrained=False).state_dict()
    ours = resnet50(weights=None).state_dict()
    assert {k: v.shape for k, v in theirs.items()} == {k: v.shape for k, v in ours.items()}


def test_a_transformer_takes_the_protocols_crop_by_resampling_its_positions() -> None:
    name = "timm:vit_small_patch14_dinov2.lvd142m"
    protocols, own = (open_extractor(name, "random:1", crop, "cpu") for crop in ("center224", "own"))
    assert dict(protocols.heads) == {"features": "avgpool"}
    assert protocols.label_space is None
    assert protocols.fingerprint != own.fingerprint
    assert {head: t.shape for head, t in protocols(drawn_images(1)).items()} == {"avgpool": (1, 384)}
    assert isinstance(own, FeatureExtractor)
    assert own.network.prepare(drawn_images(1).float()).shape == (1, 3, 518, 518)
    with pytest.raises(UsageError, match="crop 'own'"):
        open_extractor("timm:coat_tiny", "random:1", "whole256", "cpu")


# pairs


@pytest.fixture(scope="session")
def lpips_package() -> tuple[type[nn.Module], Path]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        package = pytest.importorskip("lpips", reason="the lpips package is not installed")
    return package.LPIPS, Path(package.__file__).parent / "weights" / "v0.1" / "alex.pth"


def test_lpips_equals_the_lpips_package(lpips_package: tuple[type[nn.Module], Path]) -> None:
    build, heads = lpips_package
    ours = open_pair_distance("lpips-alex", {"lpips-alex": "random:5", "lpips-alex-heads": str(heads)})
    assert ours.notes == ("random-weights",)
    assert isinstance(ours.module, _Lpips)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = build(net="alex", pnet_rand=True, verbose=False)
    trunk = {int(key.split(".")[0]): key for key in ours.module.trunk.state_dict() if "weight" in key}
    for name, parameter in theirs.net.named_parameters():
        _, index, kind = name.split(".")
        assert int(index) in trunk
        parameter.data.copy_(ours.module.trunk.get_submodule(index).get_parameter(kind))
    one, other = drawn_images(4), images(4)
    with torch.inference_mode():
        expected = theirs(one.float() / 127.5 - 1, other.float() / 127.5 - 1).flatten()
    found = ours(one, other)
    assert found.dtype == np.float64
    assert_close(found, expected.double(), 1e-5)
    assert np.array_equal(ours(one, one), np.zeros(4))
    assert ours(one[:, :, :64, :64], other[:, :, :64, :64]).shape == (4,)


def test_the_heads_are_read_as_they_were_pinned(lpips_package: tuple[type[nn.Module], Path]) -> None:
    from palette_bench.runtime.tensors import verify_tensors

    row = weights.pinned()["lpips-alex-heads"]
    data = weights.read_pinned("lpips-alex-heads", str(lpips_package[1]))
    assert verify_tensors(data, row.tensors, "heads") == row.tensors
    with pytest.raises(WeightsError, match="expected  tensors 000"):
        verify_tensors(data, "0" * 64, "heads")


@pytest.fixture
def dists_package(monkeypatch: pytest.MonkeyPatch) -> tuple[type[nn.Module], Path]:
    package = pytest.importorskip("DISTS_pytorch", reason="the dists-pytorch package is not installed")
    module = importlib.import_module("DISTS_pytorch.DISTS_pt")
    # it asks torchvision for trained weights, which would be downloaded
    monkeypatch.setattr(module.models, "vgg16", lambda pretrained: vgg16(weights=None, init_weights=False))
    return package.DISTS, Path(package.__file__).parent / "weights.pt"


@pytest.mark.parametrize("side", [64, 256])
def test_dists_equals_the_dists_package(side: int, dists_package: tuple[type[nn.Module], Path]) -> None:
    build, heads = dists_package
    ours = open_pair_distance("dists-vgg16", {"dists-vgg16": "random:5", "dists-vgg16-heads": str(heads)})
    assert isinstance(ours.module, _Dists)
    theirs = build(load_weights=False)
    for name, value in torch.load(heads, map_location="cpu", weights_only=True).items():
        theirs.get_parameter(name).data.copy_(value)
    for name, parameter in ours.module.trunk.named_parameters():
        (stage,) = [f"stage{at}" for at in range(1, 6) if f"stage{at}.{name}" in theirs.state_dict()]
        theirs.get_parameter(f"{stage}.{name}").data.copy_(parameter)
    one, other = (side_of[:, :, :side, :side] for side_of in (drawn_images(4), images(4)))
    mixed = ((one.int() + other.int()) // 2).byte()
    for changed in (other, mixed):
        with torch.inference_mode():
            expected = theirs(one.float() / 255, changed.float() / 255)
        assert_close(ours(one, changed), expected.double(), 2e-5)
    assert np.array_equal(ours(one, one), np.zeros(4))


def test_the_learned_weights_of_dists_are_the_pinned_ones(
    dists_package: tuple[type[nn.Module], Path],
) -> None:
    from palette_bench.runtime.tensors import verify_tensors

    row = weights.pinned()["dists-vgg16-heads"]
    assert weights.find("dists-vgg16-heads", row)[0].name == "weights.pt"
    data = weights.read_pinned("dists-vgg16-heads", str(dists_package[1]))
    assert verify_tensors(data, row.tensors, "heads") == row.tensors


def _dists(x: np.ndarray, y: np.ndarray) -> float:
    """Return texture and structure terms of one (C, H, W) stage with equal weights, from the paper."""
    terms = []
    for a, b in zip(x.reshape(len(x), -1), y.reshape(len(y), -1), strict=True):
        texture = (2 * a.mean() * b.mean() + 1e-6) / (a.mean() ** 2 + b.mean() ** 2 + 1e-6)
        structure = (2 * np.cov(a, b, bias=True)[0, 1] + 1e-6) / (a.var() + b.var() + 1e-6)
        terms += [texture, structure]
    return 1 - float(np.mean(terms))


def test_dists_on_pixels_alone_is_the_paper_written_out() -> None:
    distance = open_pair_distance("dists-vgg16", {"dists-vgg16": "random:0"})
    assert isinstance(distance.module, _Dists)
    for parameter in distance.module.heads.parameters():  # weights on the first stage, which is the image
        parameter.data.zero_()[:, :3] = 1.0
    one, other = drawn_images(2), images(2)
    expected = [_dists(*(p[i].double().numpy() / 255 for p in (one, other))) for i in (0, 1)]
    assert distance(one, other) == pytest.approx(expected, rel=1e-6)
    assert distance(one, other) == pytest.approx(distance(other, one), rel=1e-12)


def _ms_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Return MS-SSIM of two planes, written out from the paper."""
    offsets = np.arange(11) - 5
    line = np.exp(-(offsets**2) / 4.5)
    window = np.outer(line, line) / line.sum() ** 2
    value = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        mean = [convolve2d(p, window, mode="valid") for p in (one, other)]
        spread = [
            convolve2d(p * p, window, mode="valid") - m * m for p, m in zip((one, other), mean, strict=True)
        ]
        shared = convolve2d(one * other, window, mode="valid") - mean[0] * mean[1]
        local = (2 * shared + 58.5225) / (spread[0] + spread[1] + 58.5225)
        if scale == 4:
            local = local * (2 * mean[0] * mean[1] + 6.5025) / (mean[0] ** 2 + mean[1] ** 2 + 6.5025)
        value *= max(local.mean(), 0) ** weight
        one, other = ((p[::2, ::2] + p[1::2, ::2] + p[::2, 1::2] + p[1::2, 1::2]) / 4 for p in (one, other))
    return float(value)


def test_ms_ssim_equals_the_paper_written_out() -> None:
    distance = open_pair_distance("ms-ssim")
    one = drawn_images(2)
    noise = torch.from_numpy(np.random.default_rng(1).integers(-30, 31, tuple(one.shape)))
    other = (one.long() + noise).clamp(0, 255).byte()
    expected = [
        np.mean([_ms_ssim(*(p[i, c].double().numpy() for p in (one, other))) for c in range(3)])
        for i in (0, 1)
    ]
    found = distance(one, other)
    assert found == pytest.approx(expected, rel=1e-12)
    assert distance(one, one) == pytest.approx(np.ones(2), abs=1e-12)
    assert (distance(one, one.flip(0)) < found).all()
    assert (distance(one, 255 - one) >= 0).all()
    assert distance.notes == ()


def test_pairs_are_refused_with_a_way_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = drawn_images(1)[:, :, :64, :64]
    with pytest.raises(InputError, match="at least 176 x 176 pixels, not 64 x 64"):
        open_pair_distance("ms-ssim")(small, small)
    with pytest.raises(InputError, match="one shape"):
        open_pair_distance("ms-ssim")(small, drawn_images(1))
    with pytest.raises(UsageError, match="did you mean lpips-alex"):
        open_pair_distance("lpips")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("PALETTE_BENCH_WEIGHTS", raising=False)
    with pytest.raises(WeightsError) as caught:
        open_pair_distance("lpips-alex")
    assert "fetch lpips-alex\n" in str(caught.value)
    assert "fetch lpips-alex-heads" in str(caught.value)


@pytest.mark.parametrize("name", ["lpips-alex", "dists-vgg16"])
def test_random_networks_are_distances_from_their_seed_alone(name: str) -> None:
    found = [open_pair_distance(name, {name: f"random:{seed}"}) for seed in (1, 1, 2)]
    assert found[0].fingerprint == found[1].fingerprint != found[2].fingerprint
    one, other = drawn_images(2), images(2)
    assert (found[0](one, other) > 0).all()
    assert np.array_equal(found[0](one, other), found[1](one, other))
    assert np.array_equal(found[0](one, one), np.zeros(2))


def test_a_file_is_parsed_once_proven_only(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save(nn.Linear(3, 2).state_dict(), buffer)
    (tmp_path / "heads.pth").write_bytes(buffer.getvalue())
    given = {"lpips-alex": "random:1", "lpips-alex-heads": str(tmp_path / "heads.pth")}
    with pytest.raises(WeightsError, match="df73285e"):
        open_pair_distance("lpips-alex", given)
