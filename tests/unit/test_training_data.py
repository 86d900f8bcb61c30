"""Training images: every kind of source, together, in a fixed order; what cannot be read is passed over."""

from __future__ import annotations

import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from common import SHARED
from toy_method import Toy, run_toy, write_images, write_pack

from palette_bench.baselines.training.data import JoinedImages, open_images
from palette_bench.baselines.training.dataset import TrainingPairs, read_next
from palette_bench.baselines.training.loader import BatchShard, micro_batches
from palette_bench.core.errors import SourceError, UsageError
from palette_bench.tasks.preprocess import decode


def opened(*paths: Path, saw: str = "unknown") -> JoinedImages:
    return open_images(paths, saw)


def as_tar(folder: Path, file: Path) -> Path:
    with tarfile.open(file, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.add(path, f"train/n01443537/{path.name}")
    return file


def test_folder_list_tar_and_pack_hold_the_same_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "folder" / "class", 5, (16, 16))
    names = sorted(path.name for path in folder.iterdir())
    pixels = np.stack([decode((folder / name).read_bytes()) for name in names])
    listed = tmp_path / "list.txt"
    listed.write_text(f"folder/class/{names[0]}\n" + "\n".join(str(folder / n) for n in names[1:]) + "\n")
    pack = tmp_path / "pack.safetensors"
    safetensors.numpy.save_file({"images": pixels}, pack)
    sources = [folder.parent, listed, as_tar(folder, tmp_path / "t.tar"), pack]
    joined = pickle.loads(pickle.dumps(opened(*sources)))  # as workers get it
    assert len(joined) == 4 * 5
    assert all(np.array_equal(joined.pixels(i), pixels[i % 5]) for i in range(20))
    assert [joined.name(i) for i in (0, 10, 15)] == [
        f"class/{names[0]}", f"train/n01443537/{names[0]}", "pack.safetensors:0"
    ]  # fmt: skip
    assert opened(*sources[::-1]).fingerprint != joined.fingerprint  # another order is another run


def test_all_problems_of_all_sources_are_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    pack = tmp_path / "pack.safetensors"
    safetensors.numpy.save_file({"images": np.zeros((2, 8, 9, 3), np.uint8)}, pack)
    cut = write_pack(tmp_path / "cut.safetensors")
    cut.write_bytes(cut.read_bytes()[:-1])
    tests = write_images(tmp_path / "tests", 1)
    for name in ("ILSVRC2012_val_00000001.png", "Places365_val_00000001.png", "chelsea.png"):
        (tests / name).write_bytes((tests / "p000.png").read_bytes())
    with pytest.raises(SourceError) as caught:
        opened(tmp_path / "absent", tmp_path / "empty", pack, cut, tests)
    assert [p.code for p in caught.value.problems] == ["PB801", "PB201", "PB412", "PB412", "PB106"]
    assert caught.value.problems[-1].count == 3
    assert len(opened(tests, saw="yes")) == 4  # admitted by the recipe


@pytest.mark.parametrize(
    "header",
    [
        '{"images": 3}',
        "[" * 100_000,
        '{"images": {"dtype": "U8", "shape": [1, 8, 8, 3], "data_offsets": []}}',
        '{"images": {"dtype": "U8", "shape": [1, 8, 8, 3], "data_offsets": [true, "x"]}}',
        '{"images": {"dtype": "U8", "shape": [-1, -8, -8, 3], "data_offsets": [0, 192]}}',
        '{"images": {"dtype": "U8", "shape": [1, 99999999999999999999, 8, 3], "data_offsets": [0, 192]}}',
    ],
    ids=["number", "deep", "no offsets", "other offsets", "negative", "huge"],
)
def test_a_pack_with_any_header_is_refused(tmp_path: Path, header: str) -> None:
    pack = tmp_path / "pack.safetensors"
    pack.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(192))
    with pytest.raises(SourceError, match="PB412"):
        opened(pack)


def test_unreadable_images_are_passed_over_and_named(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "d", 4)
    (folder / "p001.png").write_bytes(b"no image")
    (folder / "p002.png").write_bytes((folder / "p003.png").read_bytes()[:100])
    joined = opened(folder)
    pixels, passed = read_next(joined, 1)
    assert passed == (1, 2)
    assert np.array_equal(pixels, joined.pixels(3))
    for path in folder.iterdir():
        path.write_bytes(b"")
    with pytest.raises(SourceError, match="PB309"):
        read_next(joined, 0)


def test_more_than_a_thousandth_unreadable_stops_the_run(tmp_path: Path) -> None:
    data = write_images(tmp_path / "d")
    (data / "p003.png").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"PB309[\s\S]*p003\.png"):
        run_toy(Toy(), data, tmp_path / "run")


@pytest.mark.parametrize(("batch", "micro", "world"), [(8, 8, 1), (8, 2, 1), (8, 2, 2), (12, 2, 3)])
def test_ranks_and_micro_batches_share_a_step_without_gap_or_overlap(
    batch: int, micro: int, world: int
) -> None:
    shares = [BatchShard(batch, micro, rank, world) for rank in range(world)]
    for step in (0, 5):
        dealt = [sample for share in shares for part in share.samples(step, step + 1) for sample in part]
        assert sorted(dealt) == list(range(step * batch, (step + 1) * batch))
        assert all(len(list(share.samples(step, step + 1))) == share.accumulation for share in shares)


def test_a_batch_that_does_not_divide_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="batch 8 is not micro_batch 3 x accumulation x 1"):
        BatchShard(8, 3)


def test_workers_prepare_what_a_thread_prepares(tmp_path: Path) -> None:
    images = opened(write_images(tmp_path / "d"))
    pairs = TrainingPairs(images, ("inpainting", "jpeg"), 16, 4, seed=3)
    found = []
    for workers in (0, 2):
        with micro_batches(pairs, BatchShard(4, 2), 2, 5, workers) as feed:
            found.append(list(feed))
    thread, processes = found
    assert len(thread) == len(processes) == 6
    for ours, theirs in zip(thread, processes, strict=True):
        assert (ours.step, ours.tasks, list(ours.positions)) == (
            theirs.step,
            theirs.tasks,
            list(theirs.positions),
        )
        assert all(
            (getattr(ours, name) == getattr(theirs, name)).all() for name in ("reference", "source", "mask")
        )


def test_an_error_while_preparing_reaches_the_loop(tmp_path: Path) -> None:
    data = write_images(tmp_path / "d", 2)
    images = opened(data)
    for path in data.iterdir():
        path.write_bytes(b"")
    with (
        micro_batches(TrainingPairs(images, ("jpeg",), 16, 2, 0), BatchShard(2, 2), 0, 9, 0) as feed,
        pytest.raises(SourceError, match="PB309"),
    ):
        next(feed)


def test_shards_of_real_images_are_read() -> None:
    shard = SHARED / "data" / "tiny-imagenet-100" / "train-00.tar"
    if not shard.is_file():
        pytest.skip("needs the Tiny-ImageNet shards")
    joined = opened(shard)
    assert len(joined) == 10_000
    assert joined.name(0).startswith("train/n")
    assert joined.pixels(9_999).shape == (64, 64, 3)


@pytest.mark.trust("images: lists")
def test_a_list_has_comments_labels_marks_and_tells_its_missing_files(tmp_path: Path) -> None:
    write_images(tmp_path / "in", 3, (40, 48))
    names = sorted(p.name for p in (tmp_path / "in").iterdir())
    path = tmp_path / "list.txt"
    lines = ["# train", f"in/{names[0]}", f"in/{names[1]} 17", "", f"in/{names[2]}\t3"]
    path.write_bytes("\r\n".join(lines).encode("utf-8-sig"))
    assert len(open_images([path], "no")) == 3
    path.write_text(f"in/{names[0]}\nin/gone.png 4\n")
    with pytest.raises(SourceError, match=r"PB201[\s\S]*line 2: in/gone\.png"):
        open_images([path], "no")
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(SourceError, match="a zip"):
        open_images([tmp_path / "a.zip"], "no")
    images = [tmp_path / "in" / name for name in names]  # DIR/*.png, as a shell hands it on
    assert len(open_images(images, "no")) == 3
