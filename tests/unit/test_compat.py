"""`calculate_metrics` against torch-fidelity itself, and every folder it must read, warn of or refuse."""

from __future__ import annotations

import logging
import struct
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_fidelity
from PIL import Image as PillowImage

from palette_bench.compat import calculate_metrics
from palette_bench.core.errors import InputError, UsageError
from palette_bench.scoring import compat
from palette_bench.scoring.features import FID_NETWORK, inception, open_extractor
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.folders import find_folder

SUFFIXES = ("png", "jpg", "jpeg")
RANDOM = {"feature_extractor_weights_path": "random:5", "cuda": False}


@pytest.fixture(scope="module")
def network() -> FeatureExtractor:
    return open_extractor(FID_NETWORK, "random:5", "center224", "cpu")


@pytest.fixture(autouse=True)
def opened_once(network: FeatureExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hand out one network where seed 5 is asked for: building it is most of a call."""

    def open_it(name: str, weights: str | None, crop: str, device: str) -> FeatureExtractor:
        same = (name, weights, device) == (FID_NETWORK, "random:5", "cpu")
        return network if same else open_extractor(name, weights, crop, device)

    monkeypatch.setattr(compat, "open_extractor", open_it)


def images(count: int, seed: int, side: int = 64) -> np.ndarray:
    """Return smooth images: noise enlarged, with a tint of its own."""
    draw = np.random.default_rng(seed)
    small = draw.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    return small.repeat(side // 8, axis=1).repeat(side // 8, axis=2)


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    def save(name: str, images: np.ndarray) -> Path:
        place = tmp_path / name
        place.mkdir()
        for at, image in enumerate(images):
            PillowImage.fromarray(image).save(place / f"{at:03d}.png")
        return place

    return save


@pytest.mark.long
def test_every_number_equals_torch_fidelitys_on_the_same_weights(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    one, two = folder("one", images(9, 1)), folder("two", images(8, 2) // 4)
    weights = tmp_path / "weights.pth"
    torch.save(inception.random_tensors(5), weights)
    options = {"isc": True, "fid": True, "kid": True, "isc_splits": 3, "kid_subsets": 4, "kid_subset_size": 6}
    theirs = torch_fidelity.calculate_metrics(
        input1=str(one),
        input2=str(two),
        cuda=False,
        verbose=False,
        cache=False,
        save_cpu_ram=True,
        feature_extractor_weights_path=str(weights),
        **options,
    )
    ours = calculate_metrics(one, two, **options, **RANDOM)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        # theirs is float32 in places: a spread is as exact as the mean it is around
        scale = abs(theirs[name.replace("_std", "_mean")])
        assert abs(value - theirs[name]) <= 1e-5 * scale, f"{name}: {ours} {theirs}"


def test_a_folder_and_an_array_of_the_same_pixels_give_equal_bits(folder: Callable[..., Path]) -> None:
    batch = images(5, 3)
    found = [
        calculate_metrics(given, isc=True, isc_splits=2, **RANDOM) for given in (folder("a", batch), batch)
    ]
    assert found[0] == found[1]
    assert set(found[0]) == {"inception_score_mean", "inception_score_std"}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("isc_splits", 0, "an integer from 1"),
        ("isc_splits", -3, "an integer from 1"),
        ("isc_splits", 2.0, "an integer from 1"),
        ("kid_subsets", 0, "an integer from 1"),
        ("kid_subset_size", 1, "an integer from 2"),
        ("kid_subset_size", True, "an integer from 2"),
        ("rng_seed", -1, "an integer from 0 to 4294967295"),
        ("rng_seed", 2**32, "an integer from 0 to 4294967295"),
        ("sixteen_bit", False, "None or 'div257'"),
        ("sixteen_bit", "div256", "did you mean div257"),
        ("alpha", "red", "known: black, drop, white"),
        ("alpha", "blak", "did you mean black"),
        ("alpha", 0, "None or 'drop' or 'black' or 'white'"),
        ("fid", 1, "True or False"),
        ("kid", "yes", "True or False"),
        ("isc", None, "True or False"),
        ("samples_shuffle", "no", "True or False"),
        ("samples_find_deep", 1, "True or False"),
        ("samples_find_ext", "", "suffixes separated by commas"),
        ("samples_find_ext", ["png"], "suffixes separated by commas"),
        ("cuda", "cpu", "None, True or False"),
        ("feature_extractor_weights_path", 5, "None, a path, or 'random:SEED'"),
    ],
)
def test_an_option_of_another_type_or_range_is_refused_before_anything_is_read(
    option: str, value: object, message: str
) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        calculate_metrics("nowhere", **{option: value})
    assert [(p.code, p.where) for p in caught.value.problems] == [("PB403", option)]


def test_every_impossible_option_is_named_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        calculate_metrics("nowhere", isc_splits=0, alpha="red", kid_subsets=0)
    assert [p.where for p in caught.value.problems] == ["isc_splits", "alpha", "kid_subsets"]


def test_every_option_has_a_rule() -> None:
    assert set(compat._RULES) == {field.name for field in fields(compat.FidelityOptions)}
    assert all(rule.accepts(getattr(compat.FidelityOptions(), name)) for name, rule in compat._RULES.items())


def test_unknown_and_declined_keywords_are_refused_with_a_suggestion() -> None:
    with pytest.raises(TypeError, match="did you mean kid_subset_size"):
        calculate_metrics(images(2, 1), isc=True, kid_subsetsize=10)
    with pytest.raises(TypeError, match="the batch is fixed"):
        calculate_metrics(images(2, 1), isc=True, batch_size=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "at least one metric"),
        ({"fid": True}, "give input2"),
        ({"isc": True}, "10 splits of 4 images"),
        ({"kid": True, "input2": images(3, 1)}, "1,000 images from a side of 3"),
    ],
)
def test_what_cannot_be_computed_is_refused_before_a_network_is_opened(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        calculate_metrics(images(4, 1), feature_extractor_weights_path="nowhere", **options)


@pytest.mark.parametrize(
    "wrong",
    [
        images(2, 1).astype(np.float32) / 255,
        images(2, 1)[0],
        images(2, 1)[..., :1],
        images(2, 1).transpose(0, 3, 1, 2),
        images(1, 1)[:0],
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
    ],
    ids=["float", "one image", "gray", "channels first", "empty", "tensor"],
)
def test_arrays_of_another_kind_are_refused_never_rescaled(wrong: object) -> None:
    with pytest.raises(InputError, match=r"\(N, H, W, 3\) uint8|no images"):
        calculate_metrics(wrong, isc=True, **RANDOM)  # type: ignore[arg-type]


def test_an_empty_folder_names_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"looked for \*.png, \*.jpg, \*.jpeg"):
        find_folder(tmp_path, SUFFIXES, deep=False)


def test_alpha_is_refused_unless_told_what_it_means(tmp_path: Path) -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[..., :3] = 90  # fully transparent gray
    PillowImage.fromarray(clear).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="an alpha channel"):
        find_folder(tmp_path, SUFFIXES, deep=False).read(0)
    for alpha, level in (("drop", 90), ("black", 0), ("white", 255)):
        image = find_folder(tmp_path, SUFFIXES, False, alpha).read(0)  # type: ignore[arg-type]
        assert (image == level).all()
        assert image.shape == (4, 4, 3)


def test_sixteen_bits_are_refused_unless_told_how_to_divide(tmp_path: Path) -> None:
    levels = np.array([[0, 128, 129], [257, 65406, 65535]], np.uint16)
    PillowImage.fromarray(levels).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="found     16 bits"):
        find_folder(tmp_path, SUFFIXES, deep=False).read(0)
    image = find_folder(tmp_path, SUFFIXES, False, None, "div257").read(0)
    assert image[..., 0].tolist() == [[0, 0, 1], [1, 254, 255]]


def test_a_truncated_image_is_named(tmp_path: Path, folder: Callable[..., Path]) -> None:
    place = folder("a", images(2, 4))
    (place / "001.png").write_bytes((place / "001.png").read_bytes()[:200])
    with pytest.raises(InputError, match=r"001\.png"):
        find_folder(place, SUFFIXES, deep=False).read(1)


def test_mixed_sizes_gray_turns_and_other_files_are_read_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    large, small = images(2, 5, side=64), images(1, 6, side=32)
    PillowImage.fromarray(large[0]).save(tmp_path / "a.png")
    PillowImage.fromarray(small[0]).save(tmp_path / "b.png")
    turned = PillowImage.Exif()
    turned[0x0112] = 6
    PillowImage.fromarray(large[1]).save(tmp_path / "c.png", exif=turned)
    PillowImage.fromarray(small[0][..., 0]).save(tmp_path / "d.png")
    (tmp_path / "readme.txt").touch()
    with caplog.at_level(logging.WARNING):
        mixed = find_folder(tmp_path, SUFFIXES, deep=False)
        assert mixed.by_size() == [[0, 2], [1, 3]]
    for said in ("images of 2 sizes", "1 gray images", "1 EXIF rotations", "1 other files"):
        assert said in caplog.text
    assert np.array_equal(mixed.read(2), large[1])
    assert np.array_equal(mixed.read(3), small[0][..., :1].repeat(3, axis=2))


def test_features_of_mixed_sizes_come_back_in_name_order(folder: Callable[..., Path]) -> None:
    """Two splits: the first holds the large images alone only if rows are in name order."""
    large, small = images(2, 7, side=64), images(2, 8, side=32)
    place = folder("mixed", large)
    for at, image in enumerate(small):
        PillowImage.fromarray(image).save(place / f"00{at}a.png")  # 000, 000a, 001, 001a
    options = {"isc": True, "isc_splits": 4, "samples_shuffle": False, **RANDOM}
    assert calculate_metrics(place, **options)["inception_score_mean"] == pytest.approx(1.0)
    options["isc_splits"] = 2
    ordered = calculate_metrics(place, **options)["inception_score_mean"]
    pairs = [calculate_metrics(given, **{**options, "isc_splits": 1}) for given in (large, small)]
    assert ordered != pytest.approx(np.mean([p["inception_score_mean"] for p in pairs]), rel=1e-9)


def cut(path: Path) -> None:
    PillowImage.effect_noise((64, 64), 40).convert("RGB").save(path)
    path.write_bytes(path.read_bytes()[:3000])


def write_deep_tiff(path: Path) -> None:
    """Write an RGB TIFF of 16 bits a channel, 8 x 8, which Pillow reads and cannot write."""
    pixels = bytes(8 * 8 * 3 * 2)
    tags = {
        256: (3, 8),
        257: (3, 8),
        259: (3, 1),
        262: (3, 2),
        277: (3, 3),
        278: (3, 8),
        279: (4, len(pixels)),
    }
    count = len(tags) + 2
    bits_at = 8 + 2 + 12 * count + 4
    entries = {tag: struct.pack("<HHLL", tag, kind, 1, value) for tag, (kind, value) in tags.items()}
    entries[258] = struct.pack("<HHLL", 258, 3, 3, bits_at)
    entries[273] = struct.pack("<HHLL", 273, 4, 1, bits_at + 6)
    ordered = b"".join(entries[tag] for tag in sorted(entries))
    head = b"II*\0" + struct.pack("<L", 8) + struct.pack("<H", count) + ordered + bytes(4)
    path.write_bytes(head + struct.pack("<3H", 16, 16, 16) + pixels)


@pytest.mark.trust("images: kinds")
@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("a.tif", write_deep_tiff, "16"),
        ("a.tiff", lambda p: PillowImage.fromarray(np.zeros((40, 40), np.float32)).save(p), "floating point"),
        ("a.webp", lambda p: PillowImage.new("RGB", (40, 40)).save(p, save_all=True,
            append_images=[PillowImage.new("RGB", (40, 40), "red")]), "several"),
        ("a.png", cut, "truncated"),
    ],
)  # fmt: skip
def test_depth_and_damage_are_told_in_every_format(
    name: str, write: Callable[[Path], object], told: str, tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(InputError, match=told):
        find_folder(tmp_path, (name.partition(".")[2],), False).read(0)
