"""What every extractor promises: heads, shapes, bits, fingerprints, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from common import SHARED

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.errors import DeviceError, InputError, UsageError, WeightsError
from palette_bench.core.types import Image
from palette_bench.runtime.device import reproducible_arithmetic
from palette_bench.scoring import features
from palette_bench.scoring.extraction import extract
from palette_bench.scoring.features import open_extractor
from palette_bench.scoring.features.extractor import FeatureExtractor, as_images
from palette_bench.scoring.features.network import drawn_images
from palette_bench.scoring.metrics.frechet import frechet_distance
from palette_bench.scoring.metrics.perceptual import squared_distances

SHARED_RESNET = SHARED / "weights" / "resnet50-compressed-fp16.safetensors"

# id -> (weights, width of the features head, classes or None, label space)
EXTRACTORS = {
    "smoke-random": (None, 64, 100, None),
    "inception-v3-fid": ("random:0", 2048, 1008, None),
    "resnet50-v1": ("random:0", 2048, 1000, "imagenet-1k"),
    "efficientnet-b0-v1": ("random:0", 1280, 1000, "imagenet-1k"),
    "efficientnet-b0-tf": ("random:0", 1280, 1000, "imagenet-1k"),
    "efficientnet-lite0": (None, 1280, 1000, "imagenet-1k"),
    "efficientnet-lite2": (None, 1280, 1000, "imagenet-1k"),
    "googlenet-v1": ("random:0", 1024, None, None),
    "dinov2-vitl14": ("random:0", 1024, None, None),
    "dinov2-vits14": ("random:0", 384, None, None),
    "clip-vitl14-336": ("random:0", 768, None, None),
    "timm:resnet18.tv_in1k": ("random:0", 512, 1000, "imagenet-1k"),
    "timm:vit_tiny_patch16_224": ("random:0", 192, 1000, "imagenet-1k"),
}

LARGE = ("dinov2-vitl14", "clip-vitl14-336")  # 300 million random weights each

NOTES: dict[str, tuple[str, ...]] = {"efficientnet-lite0": (), "efficientnet-lite2": ()}  # else random

# mean and standard deviation of both heads over three drawn images: changing one needs a new revision
GOLDEN: dict[str, dict[str, tuple[float, float]]] = {
    "efficientnet-lite0": {"avgpool": (0.154866, 0.56081), "logits": (-0.0814322, 1.54793)},
    "efficientnet-lite2": {"avgpool": (0.162173, 0.472797), "logits": (-0.0847293, 1.30158)},
    "smoke-random": {"pool": (1.19346, 2.29294), "logits": (0.0967781, 3.25881)},
    "inception-v3-fid": {"pool_3": (0.40184, 0.137984), "logits": (-0.00298513, 0.611593)},
    "resnet50-v1": {"avgpool": (1.02582, 0.179318), "logits": (-0.00748086, 1.49976)},
    "efficientnet-b0-v1": {"avgpool": (0.168547, 0.112246), "logits": (-0.00820767, 0.29161)},
    "efficientnet-b0-tf": {"avgpool": (0.180334, 0.0944984), "logits": (0.00683865, 0.290057)},
    "googlenet-v1": {"avgpool": (0.389275, 0.122905)},
    "dinov2-vitl14": {"cls": (3.20044e-09, 1.0)},
    "dinov2-vits14": {"cls": (4.01188e-09, 1.0)},
    "clip-vitl14-336": {"embedding": (0.00106538, 0.0360687)},
    "timm:resnet18.tv_in1k": {"avgpool": (0.820875, 0.134667), "logits": (-0.0421778, 1.18387)},
    "timm:vit_tiny_patch16_224": {"avgpool": (1.27127e-08, 1.0), "logits": (0.00626238, 1.42299)},
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=[pytest.mark.long] if name in LARGE else []) for name in EXTRACTORS],
)
def extractor(request: pytest.FixtureRequest) -> FeatureExtractor:
    return open_extractor(request.param, EXTRACTORS[request.param][0], "center224", "cpu")


def images(count: int, side: int = 256) -> list[Image]:
    draw = np.random.default_rng(3)
    return list(draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def test_every_extractor_of_the_table_is_under_contract() -> None:
    assert {name for name in EXTRACTORS if not name.startswith("timm:")} == set(features.EXTRACTORS)


def test_heads_have_the_promised_names_types_and_widths(extractor: FeatureExtractor) -> None:
    _, width, classes, label_space = EXTRACTORS[extractor.id]
    tables = extractor(as_images(images(2)))
    table = tables[extractor.heads["features"]]
    assert (table.shape, table.dtype) == ((2, width), np.float32)
    assert ("logits" in extractor.heads) is (classes is not None)
    if classes is not None:
        logits = tables[extractor.heads["logits"]]
        assert (logits.shape, logits.dtype) == ((2, classes), np.float32)
    assert extractor.label_space == label_space
    assert extractor.notes == NOTES.get(extractor.id, ("random-weights",))
    assert (extractor.numbers.id, extractor.micro_batch) == ("fp32", 16)


def test_features_are_those_of_this_revision(extractor: FeatureExtractor) -> None:
    tables = extractor(drawn_images(3))
    for head, (mean, deviation) in GOLDEN[extractor.id].items():
        found = tables[head].astype(np.float64)
        assert found.std() == pytest.approx(deviation, rel=1e-3)
        assert found.mean() == pytest.approx(mean, abs=1e-3 * deviation)


def test_the_same_images_give_the_same_bits(extractor: FeatureExtractor) -> None:
    batch = as_images(images(2))
    for head, table in extractor(batch).items():
        assert np.array_equal(table, extractor(batch)[head])


def test_another_batch_moves_features_by_rounding_only(extractor: FeatureExtractor) -> None:
    images = drawn_images(3)
    for head, table in extractor(images).items():
        alone = np.concatenate([extractor(image[None])[head] for image in images])
        assert alone == pytest.approx(table, rel=1e-4, abs=1e-4 * float(np.abs(table).max()))


def _settings() -> dict[str, object]:
    backends = torch.backends
    return {
        "products": torch.get_float32_matmul_precision(),
        "gpu products": backends.cuda.matmul.allow_tf32,
        "gpu convolutions": backends.cudnn.allow_tf32,
        "search": backends.cudnn.benchmark,
        "same kernels": backends.cudnn.deterministic,
        "strict": torch.are_deterministic_algorithms_enabled(),
        "warns": torch.is_deterministic_algorithms_warn_only_enabled(),
        "fills": torch.utils.deterministic.fill_uninitialized_memory,
        "gradients": torch.is_grad_enabled(),
    }


def test_the_callers_settings_come_back() -> None:
    extractor = open_extractor("smoke-random", None, "center224", "cpu")
    before = _settings()
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.benchmark = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        chosen = _settings()
        extractor(as_images(images(1)))
        assert _settings() == chosen
        with pytest.raises(InputError):
            extractor(as_images(images(1, side=96)))
        assert _settings() == chosen
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False
        torch.set_float32_matmul_precision("highest")
    assert _settings() == before


def test_a_pass_forbids_reduced_products_whatever_the_caller_allows() -> None:
    torch.set_float32_matmul_precision("medium")
    try:
        with reproducible_arithmetic():
            if hasattr(torch.backends.cuda.matmul, "fp32_precision"):
                places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.mkldnn.matmul)
                assert {place.fp32_precision for place in places} == {"ieee"}
            assert torch.are_deterministic_algorithms_enabled()
            assert not torch.backends.cudnn.benchmark
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.long
def test_weights_precision_and_crop_are_part_of_the_identity() -> None:
    name = "timm:resnet18.tv_in1k"
    opened = [
        open_extractor(name, "random:1", "center224", "cpu"),
        open_extractor(name, "random:2", "center224", "cpu"),
        open_extractor(name, "random:1", "whole256", "cpu"),
        open_extractor(name, "random:1", "own", "cpu"),
        open_extractor(name, "random:1", "center224", "cpu", "bf16"),
        open_extractor(name, "random:1", "center224", "cpu", "fp64"),
    ]
    assert len({extractor.fingerprint for extractor in opened}) == len(opened)
    assert [e.notes[1:] for e in opened[3:]] == [(), ("preview",), ("audit",)]


def test_random_weights_depend_on_their_seed_alone() -> None:
    prints = [
        open_extractor("timm:resnet18.tv_in1k", f"random:{seed}", "center224", "cpu").fingerprint
        for seed in (1, 1, 2)
    ]
    assert prints[0] == prints[1] != prints[2]


def test_the_crop_is_part_of_a_classifiers_identity() -> None:
    central, whole = (
        open_extractor("timm:resnet18.tv_in1k", "random:1", crop, "cpu")
        for crop in ("center224", "whole224-bicubic")
    )
    assert central.fingerprint != whole.fingerprint
    small = as_images(images(1, side=64))
    assert whole(small)["logits"].shape == (1, 1000)
    with pytest.raises(InputError, match="at least 224 x 224"):
        central(small)


def test_center224_sees_the_middle_and_nothing_else() -> None:
    extractor = open_extractor("timm:resnet18.tv_in1k", "random:1", "center224", "cpu")
    image = images(1)[0]
    border = image.copy()
    border[:16] = border[-16:] = 0
    border[:, :16] = border[:, -16:] = 0
    inner = image.copy()
    inner[16, 16] ^= 255
    logits = [extractor(as_images([p]))["logits"] for p in (image, border, inner)]
    assert np.array_equal(logits[0], logits[1])
    assert not np.array_equal(logits[0], logits[2])


def test_given_weights_are_loaded_strictly_and_noted(tmp_path: Path) -> None:
    source = timm.create_model("resnet18", pretrained=False).half().state_dict()
    path = tmp_path / "net.safetensors"
    path.write_bytes(safetensors.torch.save(source))
    extractor = open_extractor("timm:resnet18", str(path), "center224", "cpu")
    assert extractor.notes == ("unpinned-weights",)
    path.write_bytes(safetensors.torch.save({k: v for k, v in source.items() if k != "fc.bias"}))
    with pytest.raises(WeightsError, match=r"1 differences, first: missing fc\.bias"):
        open_extractor("timm:resnet18", str(path), "center224", "cpu")
    with pytest.raises(WeightsError, match=r"missing layer1\.2\.conv1\.weight"):
        open_extractor("timm:resnet34", str(path), "center224", "cpu")


def test_names_crops_and_devices_are_refused_with_a_way_on() -> None:
    with pytest.raises(UsageError, match="did you mean resnet50-v1"):
        open_extractor("resnet50", None, "center224", "cpu")
    with pytest.raises(UsageError, match="timm has no model 'resnet5': did you mean resnet50"):
        open_extractor("timm:resnet5", None, "center224", "cpu")
    with pytest.raises(UsageError, match="did you mean center224"):
        open_extractor("timm:resnet18", "random:0", "centre224", "cpu")
    with pytest.raises(WeightsError, match="--weights timm:resnet18=FILE"):
        open_extractor("timm:resnet18", None, "center224", "cpu")
    with pytest.raises(UsageError, match="takes none"):
        open_extractor("smoke-random", "random:1", "center224", "cpu")
    with pytest.raises(UsageError, match="did you mean tf32 or fp32"):
        open_extractor("smoke-random", None, "center224", "cpu", "float32")
    with pytest.raises(UsageError, match="did you mean clean"):
        open_extractor("inception-v3-fid", "random:0", "center224", "cpu", "fp32", "cleaned")
    with pytest.raises(DeviceError, match="PB707"):
        open_extractor("smoke-random", None, "center224", "cpu", "tf32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_an_absent_gpu_is_named_and_nothing_falls_back() -> None:
    with pytest.raises(DeviceError, match="PB707"):
        open_extractor("smoke-random", None, "center224", "cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_gives_equal_bits_twice_and_nearly_the_cpus(extractor: FeatureExtractor) -> None:
    batch = as_images(images(3))
    graphics = open_extractor(extractor.id, EXTRACTORS[extractor.id][0], "center224", "cuda")
    for head, table in extractor(batch).items():
        found = graphics(batch)[head]
        assert np.array_equal(found, graphics(batch)[head])
        assert found == pytest.approx(table, rel=1e-3, abs=1e-3 * float(np.abs(table).max()))


# smoke-random


def test_the_smoke_network_has_one_fingerprint_everywhere() -> None:
    found = open_extractor("smoke-random", None, "center224", "cpu").fingerprint
    assert found == "b0dae56f55a36e180500f8efaff5a796a131427acac007e5fecf0587cdfe3613"
    assert found == open_extractor("smoke-random", None, "whole224-bicubic", "cpu").fingerprint


def test_the_smoke_network_reduces_by_exact_block_means() -> None:
    extractor = open_extractor("smoke-random", None, "center224", "cpu")
    small = images(2, side=64)
    large = [p.repeat(4, axis=0).repeat(4, axis=1) for p in small]
    assert np.array_equal(extractor(as_images(small))["pool"], extractor(as_images(large))["pool"])
    with pytest.raises(InputError, match="multiple of 64"):
        extractor(as_images(images(1, side=96)))


def _tables(benchset: BenchSet, extractor: FeatureExtractor, kind: str) -> dict[str, np.ndarray]:
    read = benchset.reference if kind == "reference" else benchset.condition
    ids = benchset.ids
    return dict(extract([extractor], map(read, ids), len(ids), lambda count: None)[0])


@pytest.mark.parametrize("sets", ["smoke_sets", pytest.param("mini_sets", marks=pytest.mark.long)])
def test_stronger_jpeg_loss_lies_farther_from_the_originals(
    sets: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(sets)
    extractor = open_extractor("smoke-random", None, "center224", "cpu")
    references = _tables(BenchSet.open(folder / "jpeg.qf5"), extractor, "reference")["pool"]
    losses = [
        _tables(BenchSet.open(folder / f"jpeg.qf{qf}"), extractor, "input")["pool"] for qf in (5, 10, 20)
    ]
    frechet = [frechet_distance(loss, references).value for loss in losses]
    perceptual = [squared_distances(loss, references).mean() for loss in losses]
    assert frechet[0] > frechet[1] > frechet[2] > 0
    assert perceptual[0] > perceptual[1] > perceptual[2] > 0


# a real network, where a developer has one


@pytest.mark.long
@pytest.mark.weights
@pytest.mark.skipif(not SHARED_RESNET.is_file(), reason="no real ResNet-50 weights beside the checkout")
def test_a_real_network_prefers_weaker_jpeg_loss(smoke_sets: Path) -> None:
    extractor = open_extractor("timm:resnet50.tv_in1k", str(SHARED_RESNET), "center224", "cpu")
    assert extractor.notes == ("unpinned-weights",)
    reference = _tables(BenchSet.open(smoke_sets / "jpeg.qf5"), extractor, "reference")
    strong, weak = (_tables(BenchSet.open(smoke_sets / f"jpeg.qf{qf}"), extractor, "input") for qf in (5, 20))
    distances = [frechet_distance(t["avgpool"], reference["avgpool"]).value for t in (strong, weak)]
    agreeing = [
        (t["logits"].argmax(axis=1) == reference["logits"].argmax(axis=1)).mean() for t in (strong, weak)
    ]
    assert distances[0] > distances[1] > 0
    assert agreeing[0] < agreeing[1]
