"""ctest10k and places10k rebuilt by rule; labels in every form people have them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from palette_bench.benchset import splits
from palette_bench.core.errors import SourceError
from palette_bench.core.resources import protocol_file
from palette_bench.tasks.protocol import ImageNetSource, PlacesSource, load

SPEC = load("palette-2022").sources["imagenet-ctest10k"]
assert isinstance(SPEC, ImageNetSource)
DROPPED = [int(text) for text in protocol_file("palette-2022", SPEC.dropped).split()]


def test_182_numbers_are_dropped() -> None:
    assert len(DROPPED) == len(set(DROPPED)) == 182


def test_ctest10k_is_the_published_list_entry_by_entry(imagenet_labels: Path) -> None:
    chosen = splits.ctest10k(splits.read_imagenet_labels(imagenet_labels), SPEC, DROPPED)
    published = imagenet_labels.with_name("ctest10k.txt")
    lines = [line.rsplit("/", 1)[1] for line in published.read_text().splitlines()]
    assert [f"{splits.imagenet_id(n)}.JPEG {label}" for n, label in chosen.items()] == lines


def test_a_copy_with_only_the_chosen_images_is_enough(imagenet_labels: Path) -> None:
    chosen = splits.ctest10k(splits.read_imagenet_labels(imagenet_labels), SPEC, DROPPED)
    assert splits.ctest10k(chosen, SPEC, DROPPED).keys() == chosen.keys()
    chosen.popitem()
    with pytest.raises(SourceError, match="9,999 labels of another set"):
        splits.ctest10k(chosen, SPEC, DROPPED)


def test_swapped_labels_are_not_the_listed_ones(imagenet_labels: Path) -> None:
    labels = splits.read_imagenet_labels(imagenet_labels)
    labels[1], labels[2] = labels[2], labels[1]
    with pytest.raises(SourceError, match="PB607"):
        splits.ctest10k(labels, SPEC, DROPPED)


def test_the_order_takes_one_image_of_each_class_in_turn() -> None:
    assert splits.class_by_class({1: 2, 2: 0, 3: 2, 4: 0, 5: 1}) == [2, 5, 1, 4, 3]


def wnid(label: int) -> str:
    return f"n{label:08d}"


LABELS = {number: int(v) for number, v in enumerate(np.random.default_rng(3).permutation(1000), start=1)}


@pytest.mark.parametrize("form", ["lines", "names", "wnids", "csv"])
def test_label_files_of_every_form_agree(form: str, tmp_path: Path) -> None:
    name = {n: f"val/{splits.imagenet_id(n)}.JPEG" for n in LABELS}
    text = {
        "lines": "".join(f"{label}\n" for label in LABELS.values()),
        "names": "".join(f"{name[n]} {label}\n" for n, label in LABELS.items()),
        "wnids": "".join(f"{name[n]} {wnid(label)}\n" for n, label in LABELS.items()),
        "csv": "ImageId,PredictionString\n"
        + "".join(f"{splits.imagenet_id(n)},{wnid(label)} 1 2 3 4\n" for n, label in LABELS.items()),
    }[form]
    path = tmp_path / "labels.txt"
    path.write_text(text)
    assert splits.read_imagenet_labels(path) == LABELS


def test_the_development_kit_is_read_with_its_id_table(tmp_path: Path) -> None:
    from scipy.io import savemat

    kit_ids = np.random.default_rng(5).permutation(1000) + 1  # kit_ids[label] is the kit's number of a label
    table = np.array(
        [(int(k), wnid(label)) for label, k in enumerate(kit_ids)] + [(1001, "n99999999")],
        dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")],
    )
    savemat(tmp_path / "meta.mat", {"synsets": table})
    truth = tmp_path / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{kit_ids[label]}\n" for label in LABELS.values()))
    assert splits.read_imagenet_labels(truth) == LABELS


def test_a_text_that_is_no_label_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("hello\n")
    with pytest.raises(SourceError, match="one label per line"):
        splits.read_imagenet_labels(path)


def test_places10k_takes_the_first_thirty_of_each_class(tmp_path: Path) -> None:
    rows = [(f"Places365_val_{i:08d}.jpg", i % 365) for i in range(1, 365 * 40 + 1)]
    path = tmp_path / "places365_val.txt"
    path.write_text("".join(f"{name} {label}\n" for name, label in reversed(rows)))
    spec = PlacesSource(
        kind="places",
        title="test",
        redistributable=False,
        per_class=30,
        list_md5=hashlib.md5(path.read_bytes()).hexdigest(),
    )
    chosen = splits.places10k(path, spec)
    assert list(chosen) == [name for name, _ in rows[: 365 * 30]]
    path.write_text(path.read_text() + "\n")
    with pytest.raises(SourceError, match="PB607"):
        splits.places10k(path, spec)
