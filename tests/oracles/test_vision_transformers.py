"""DINOv2 and CLIP against timm, torchvision on Pillow, torch-fidelity, and published code written out."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from PIL import Image as PillowImage
from timm.data import create_transform
from torch import Tensor, nn
from torch.nn import functional
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchvision import transforms

from palette_bench.core.errors import UsageError, WeightsError
from palette_bench.core.types import Image
from palette_bench.scoring.features import open_extractor
from palette_bench.scoring.features.extractor import as_images
from palette_bench.scoring.features.network import drawn_images
from palette_bench.scoring.features.preprocess import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MODES,
    Preprocess,
    pillow_bicubic,
    pillow_square,
    whole_image,
)
from palette_bench.scoring.features.vision_transformers import resampled_positions

SMALL = "vit_small_patch14_dinov2.lvd142m"
CLIP = "vit_large_patch14_clip_quickgelu_336.openai"


def photographs(count: int, height: int = 256, width: int = 256) -> list[Image]:
    """Return images with edges and noise, which show every difference of kernels and rounding."""
    draw = np.random.default_rng(5)
    coarse = draw.integers(0, 256, (count, height // 16 + 1, width // 16 + 1, 3))
    fine = draw.integers(-40, 41, (count, height, width, 3))
    pixels = coarse.repeat(16, axis=1).repeat(16, axis=2)[:, :height, :width] + fine
    return list(pixels.clip(0, 255).astype(np.uint8))


# resizes


@pytest.mark.parametrize("side", [224, 336])
@pytest.mark.parametrize("shape", [(256, 256), (512, 512), (65, 97), (224, 300)])
def test_the_resize_of_8_bit_images_is_pillows_to_the_bit(shape: tuple[int, int], side: int) -> None:
    images = photographs(2, *shape)
    found = pillow_bicubic(as_images(images).float(), side).permute(0, 2, 3, 1).numpy()
    for ours, image in zip(found, images, strict=True):
        pillow = PillowImage.fromarray(image).resize((side, side), PillowImage.Resampling.BICUBIC)
        assert np.array_equal(ours, np.asarray(pillow))


def test_mode_pytorch_is_the_transform_of_dgm_eval() -> None:
    images = photographs(2)
    theirs = transforms.Compose(
        [
            transforms.Resize((224, 224), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )
    timms = create_transform((3, 224, 224), interpolation="bicubic", crop_pct=1.0)
    found = Preprocess(whole_image("pytorch", 224))(as_images(images).float())
    for ours, image in zip(found, images, strict=True):
        for transform in (theirs, timms):
            assert torch.allclose(ours, transform(PillowImage.fromarray(image)), rtol=0, atol=1e-6)


def test_mode_clean_is_the_clean_resize_of_dgm_eval() -> None:
    (image,) = photographs(1)
    channels = [
        np.asarray(
            PillowImage.fromarray(image[:, :, c].astype(np.float32)).resize(
                (224, 224), PillowImage.Resampling.BICUBIC
            )
        )
        for c in range(3)
    ]
    found = whole_image("clean", 224).cut(as_images([image]).float())[0].numpy()
    assert found == pytest.approx(np.stack(channels).clip(0, 255), abs=1e-3)


def test_mode_tf1_is_the_preprocessing_of_torch_fidelity() -> None:
    pixels = as_images(photographs(2)).float()
    resized = interpolate_bilinear_2d_like_tensorflow1x(pixels, size=(224, 224), align_corners=False)
    mean, std = ([255 * v for v in of] for of in (IMAGENET_MEAN, IMAGENET_STD))
    theirs = transforms.functional.normalize(resized, mean, std)
    assert torch.allclose(Preprocess(whole_image("tf1", 224))(pixels), theirs, rtol=0, atol=2e-5)


def test_clip_sees_what_timms_transform_and_cmmd_make_of_a_square_image() -> None:
    config = timm.get_pretrained_cfg(CLIP)
    square = create_transform(
        (3, 336, 336), interpolation="bicubic", mean=config.mean, std=config.std, crop_pct=1.0
    )
    preprocess = Preprocess(pillow_square(336), config.mean, config.std)
    for image in (*photographs(1), *photographs(1, 100, 260)):
        found = preprocess(as_images([image]).float())[0]
        left = (image.shape[1] - image.shape[0]) // 2
        central = PillowImage.fromarray(image[:, left : left + image.shape[0]])
        assert torch.allclose(found, square(central), rtol=0, atol=1e-6)


def test_the_modes_have_the_names_of_the_fid_networks_and_their_own_words() -> None:
    crops = {mode: whole_image(mode, 224) for mode in MODES}
    assert len({crop.words for crop in crops.values()}) == len(MODES)
    resized = [crop.cut(drawn_images(1).float()) for crop in crops.values()]
    assert all((a - b).abs().max() > 0.4 for a, b in pairwise(resized))
    with pytest.raises(UsageError, match="did you mean clean"):
        whole_image("cleen", 224)


# DINOv2


def published_positions(stored: Tensor, side: int, patch: int = 14) -> Tensor:
    """Write out the resampling of facebookresearch/dinov2 for square images of `side` pixels."""
    count, dim = stored.shape[1] - 1, stored.shape[2]
    root = math.sqrt(count)
    patches = stored[:, 1:].reshape(1, int(root), int(root), dim).permute(0, 3, 1, 2)
    factor = (side // patch + 0.1) / root
    resampled = functional.interpolate(patches, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat((stored[:, :1], resampled.permute(0, 2, 3, 1).reshape(1, -1, dim)), dim=1)


def published_forward(tensors: dict[str, Tensor], inputs: Tensor, heads: int) -> Tensor:
    """Write out DINOv2's forward pass from the tensors of its file: the class token after the last norm."""

    def norm(x: Tensor, name: str) -> Tensor:
        weight, bias = tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        return functional.layer_norm(x, weight.shape, weight, bias, 1e-6)

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.linear(x, tensors[f"{name}.weight"], tensors[f"{name}.bias"])

    patches = functional.conv2d(
        inputs, tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=14
    )
    x = torch.cat(
        [tensors["cls_token"].expand(len(inputs), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1
    )
    x = x + published_positions(tensors["pos_embed"], inputs.shape[-1])
    for at in range(1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))):
        of = f"blocks.{at}"
        q, k, v = linear(norm(x, f"{of}.norm1"), f"{of}.attn.qkv").chunk(3, dim=-1)
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
        attention = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(dim=-1)
        mixed = (attention @ v).transpose(1, 2).flatten(2)
        x = x + linear(mixed, f"{of}.attn.proj") * tensors[f"{of}.ls1.gamma"]
        hidden = functional.gelu(linear(norm(x, f"{of}.norm2"), f"{of}.mlp.fc1"))
        x = x + linear(hidden, f"{of}.mlp.fc2") * tensors[f"{of}.ls2.gamma"]
    return norm(x, "norm")[:, 0]


@pytest.fixture(scope="module")
def small() -> nn.Module:
    """timm's small DINOv2 with random weights and visible positions and scales, at its own 518 pixels."""
    torch.manual_seed(3)
    model = timm.create_model(SMALL, pretrained=False).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma") or name in ("pos_embed", "cls_token"):
                parameter.normal_()
    return model


@pytest.fixture(scope="module")
def small_file(small: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its file, as timm publishes it."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    path.write_bytes(safetensors.torch.save(small.state_dict()))
    return path


@pytest.mark.parametrize("mode", [None, "tf1"])
def test_features_are_those_of_the_published_forward_pass(
    mode: str | None, small: nn.Module, small_file: Path
) -> None:
    images = as_images(photographs(2))
    extractor = open_extractor("dinov2-vits14", str(small_file), "center224", "cpu", "fp32", mode)
    inputs = Preprocess(whole_image(mode or "pytorch", 224))(images.float())
    with torch.inference_mode():
        expected = published_forward(dict(small.state_dict()), inputs, heads=6).numpy()
    found = extractor(images)["cls"]
    assert extractor.notes == ("unpinned-weights",)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_features_are_timms_once_it_has_the_published_positions(small: nn.Module, small_file: Path) -> None:
    images = as_images(photographs(2))
    extractor = open_extractor("dinov2-vits14", str(small_file), "center224", "cpu")
    theirs = timm.create_model(SMALL, pretrained=False, img_size=224).eval()
    tensors = dict(small.state_dict())
    with torch.inference_mode():
        inputs = extractor.network.prepare(images.float())
        theirs.load_state_dict({**tensors, "pos_embed": published_positions(tensors["pos_embed"], 224)})
        assert extractor(images)["cls"] == pytest.approx(theirs(inputs).numpy(), rel=1e-5, abs=1e-5)


def test_the_positions_are_resampled_as_published() -> None:
    stored = torch.from_numpy(np.random.default_rng(2).normal(size=(1, 1 + 37 * 37, 8)).astype(np.float32))
    assert torch.equal(resampled_positions(stored, 16), published_positions(stored, 224))


def test_modes_and_weights_are_part_of_the_identity(small_file: Path) -> None:
    def opened(weights: str, mode: str | None) -> str:
        return open_extractor("dinov2-vits14", weights, "center224", "cpu", "fp32", mode).fingerprint

    prints = [opened("random:0", mode) for mode in (None, "pytorch", "clean", "tf1")]
    assert prints[0] == prints[1]
    assert len({*prints, opened(str(small_file), None)}) == 4


def test_missing_and_foreign_weights_are_refused_with_a_way_on(small_file: Path) -> None:
    file = f"--weights dinov2-vits14=FILE, model.safetensors of huggingface.co/timm/{SMALL} (apache-2.0)"
    with pytest.raises(WeightsError, match=re.escape(file)):
        open_extractor("dinov2-vits14", None, "center224", "cpu")
    with pytest.raises(WeightsError, match=r"missing norm_pre\.weight"):
        open_extractor("clip-vitl14-336", str(small_file), "center224", "cpu")


# CLIP


@pytest.mark.long
def test_clip_features_are_timms_projection_at_unit_length(tmp_path: Path) -> None:
    torch.manual_seed(4)
    theirs = timm.create_model(CLIP, pretrained=False).eval()
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors.torch.save(theirs.state_dict()))
    extractor = open_extractor("clip-vitl14-336", str(path), "center224", "cpu")
    images = as_images(photographs(1))
    found = extractor(images)["embedding"]
    with torch.inference_mode():
        embedding = theirs(extractor.network.prepare(images.float())).numpy()
    assert embedding.shape == (1, 768)
    assert not np.allclose(np.linalg.norm(embedding), 1, atol=1e-2)
    assert found == pytest.approx(embedding / np.linalg.norm(embedding), rel=1e-4, abs=1e-5)


def test_clip_has_the_activation_of_its_makers() -> None:
    with torch.device("meta"):
        model = timm.create_model(CLIP, pretrained=False)
        plain = timm.create_model("vit_large_patch14_clip_336.openai", pretrained=False)
    x = torch.linspace(-3, 3, 7)
    assert torch.allclose(model.blocks[0].mlp.act(x), x * torch.sigmoid(1.702 * x))
    assert not torch.allclose(plain.blocks[0].mlp.act(x), x * torch.sigmoid(1.702 * x), atol=1e-3)
    shapes = {name: t.shape for name, t in model.state_dict().items()}
    assert shapes == {name: t.shape for name, t in plain.state_dict().items()}  # one file fits both
