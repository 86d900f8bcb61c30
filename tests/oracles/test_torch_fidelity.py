"""Our numbers against independent programs: torch-fidelity's arithmetic and network, torchvision's ResNet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torchvision.models import resnet50

from palette_bench.scoring.features import weights
from palette_bench.scoring.features.extractor import TorchExtractor, as_images
from palette_bench.scoring.features.inception import open_network as open_inception
from palette_bench.scoring.features.timm_models import open_network as open_classifier
from palette_bench.scoring.metrics.classifier import accuracy, inception_score, inception_score_10
from palette_bench.scoring.metrics.frechet import frechet_distance
from palette_bench.scoring.metrics.kid import kernel_distance, kid_subsets
from palette_bench.scoring.metrics.outcome import Reference, Tables


def drawn(seed: int, n: int, d: int) -> torch.Tensor:
    draw = np.random.default_rng(seed)
    return torch.from_numpy(draw.normal(size=(n, d)) @ draw.normal(size=(d, d)) + draw.normal(size=d))


@pytest.mark.parametrize(
    ("n", "d"), [(8, 2), (64, 2), (40, 16), (200, 16), (1000, 64), (300, 256), (4096, 256)]
)
def test_frechet_equals_torch_fidelity_above_the_dimension(n: int, d: int) -> None:
    one, two = drawn(1, n, d), drawn(2, n, d)
    expected = fid_statistics_to_metric(
        fid_features_to_statistics(one), fid_features_to_statistics(two), verbose=False
    )["frechet_inception_distance"]
    assert frechet_distance(one.numpy(), two.numpy()).value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "k"), [(30, 5), (500, 100)])
def test_inception_score_equals_torch_fidelity_with_one_split(n: int, k: int) -> None:
    logits = drawn(3, n, k).float()
    expected = isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    found = inception_score(Tables(logits.numpy(), logits.numpy()))
    assert found.value == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("n", "k"), [(57, 5), (500, 100)])
def test_ten_shuffled_splits_equal_torch_fidelitys(n: int, k: int) -> None:
    logits = drawn(3, n, k).float()
    expected = isc_features_to_metric(logits)
    found = inception_score_10(Tables(logits.numpy(), logits.numpy()))
    assert found.value == pytest.approx(expected["inception_score_mean"], rel=1e-10)
    assert found.params["sd"] == pytest.approx(expected["inception_score_std"], rel=1e-9)


@pytest.mark.parametrize(("subsets", "size"), [(1, 300), (20, 100)])
def test_kernel_distance_of_subsets_equals_torch_fidelity(subsets: int, size: int) -> None:
    one, two = drawn(1, 300, 32), drawn(2, 400, 32)
    expected = kid_features_to_metric(one, two, kid_subsets=subsets, kid_subset_size=size, verbose=False)
    mean, sd = kid_subsets(one.numpy(), two.numpy(), subsets=subsets, size=size)
    assert mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-10)
    assert sd == pytest.approx(expected["kernel_inception_distance_std"], rel=1e-9, abs=1e-12)


def test_kernel_distance_over_all_pairs_is_torch_fidelitys_one_subset_of_everything() -> None:
    one, two = (drawn(seed, 250, 32).float() for seed in (1, 2))
    expected = kid_features_to_metric(
        one.double(), two.double(), kid_subsets=1, kid_subset_size=250, verbose=False
    )
    found = kernel_distance(Tables(one.numpy(), one.numpy(), Reference.of("originals", two.numpy())))
    assert found.value == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-10)


def _pictures(count: int, side: int = 256) -> torch.Tensor:
    draw = np.random.default_rng(11)
    return as_images(list(draw.integers(0, 256, (count, side, side, 3), dtype=np.uint8)))


@pytest.fixture(scope="module")
def inception() -> TorchExtractor:
    return open_inception("inception-v3-fid", "random:5", "center224", "cpu")


@pytest.fixture(scope="module")
def inception_file(inception: TorchExtractor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the layout of the real one, with random values."""
    path = tmp_path_factory.mktemp("weights") / "pt_inception.pth"
    torch.save(inception.network.model.state_dict(), path)  # type: ignore[union-attr]
    return path


@pytest.mark.parametrize("side", [64, 256])
def test_inception_features_equal_torch_fidelitys_own(
    side: int, inception: TorchExtractor, inception_file: Path
) -> None:
    theirs = FeatureExtractorInceptionV3(
        "theirs", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(inception_file)
    )
    images = _pictures(2, side)
    with torch.inference_mode():
        pool, logits = theirs(images)
    found = inception(images)
    for head, expected in (("pool_3", pool.numpy()), ("logits", logits.numpy())):
        assert found[head] == pytest.approx(expected, rel=1e-4, abs=1e-4 * float(np.abs(expected).max()))


def test_a_file_whose_digest_is_pinned_gives_the_same_network_without_a_note(
    inception: TorchExtractor, inception_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = inception_file.read_bytes()
    row = weights.pinned()["inception-v3-fid"].model_copy(
        update={"bytes": len(data), "sha256": weights.sha256(data)}
    )
    monkeypatch.setattr(weights, "pinned", lambda: {"inception-v3-fid": row})
    loaded = open_inception("inception-v3-fid", str(inception_file), "center224", "cpu")
    assert loaded.fingerprint == inception.fingerprint
    assert loaded.notes == ()
    images = _pictures(1)
    assert np.array_equal(loaded(images)["pool_3"], inception(images)["pool_3"])


def test_resnet_and_accuracy_equal_torchvision() -> None:
    ours = open_classifier("resnet50-v1", "random:2", "center224", "cpu")
    theirs = resnet50(weights=None).eval()
    theirs.load_state_dict(ours.network.model.state_dict())  # type: ignore[union-attr]
    images = _pictures(6)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.inference_mode():
        expected = theirs((images[:, :, 16:240, 16:240] / 255 - mean) / std)
    logits = ours(images)["logits"]
    assert logits == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4 * float(expected.abs().max()))
    labels = expected.argmax(dim=1).numpy().copy()
    labels[:2] = (labels[:2] + 1) % 1000
    share = (expected.argmax(dim=1).numpy() == labels).mean()
    assert accuracy(Tables(logits, logits, labels=labels)).value == pytest.approx(100 * share)
