"""The cache: keys know content only, damage is recomputed, killed runs take up where they were."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch

from palette_bench.core.errors import InputError
from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.core.processes import Interrupted
from palette_bench.scoring.extraction import Extraction, ImageSet
from palette_bench.scoring.features.cache import ArrayCache, cache_key, statistics_key
from palette_bench.scoring.metrics.moments import Moments
from palette_bench.scoring.references import ImageReference

LOG = "palette_bench.scoring.features.cache"
KEY = sha256(b"key")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@dataclass
class Means:
    """An extractor without weights: mean and spread of each channel. Counts the images it sees."""

    id: str = "means"
    micro_batch: int = 4
    heads: dict[str, str] = field(default_factory=lambda: {"features": "pool"})
    seen: int = 0
    broken_at: int = -1

    @property
    def fingerprint(self) -> str:
        return sha256(self.id.encode())

    def __call__(self, images: torch.Tensor) -> dict[str, np.ndarray]:
        flat = images.double().flatten(2)
        rows = torch.cat([flat.mean(2), flat.std(2)], dim=1).float().numpy()
        if self.seen <= self.broken_at < self.seen + len(images):
            rows[self.broken_at - self.seen, 0] = np.nan
        self.seen += len(images)
        return {"pool": rows}


def images(count: int) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(3)
    return {f"p{i:02d}": draw.integers(0, 256, (8, 8, 3), dtype=np.uint8) for i in range(count)}


def side(images: dict[str, np.ndarray]) -> ImageSet:
    return ImageSet("outputs", {i: pixel_digest(image) for i, image in images.items()}, images.__getitem__)


def extraction(*networks: Means) -> Extraction:
    return Extraction(networks, ArrayCache("features"), "cpu")  # type: ignore[arg-type]


def test_keys_depend_on_ids_pixels_and_network_and_not_on_order() -> None:
    digests = {"a": "1" * 64, "b": "2" * 64}
    key = cache_key(digests, "x")
    assert key == cache_key(dict(reversed(digests.items())), "x")
    others = [({"a": "1" * 64}, "x"), ({"a": "2" * 64, "b": "1" * 64}, "x"), (digests, "y")]
    assert len({key, *(cache_key(*other) for other in others)}) == 4
    assert statistics_key(key, "pool", "moments") != statistics_key(key, "pool", "kernel-mean") != key


def test_what_is_kept_comes_back_bit_for_bit() -> None:
    cache = ArrayCache("statistics")
    arrays = {"a": np.random.default_rng(1).normal(size=(5, 7)), "b": np.arange(3, dtype=np.float32)}
    cache.store(KEY, arrays, {"device": "cpu"})
    found = ArrayCache("statistics").load(KEY)
    assert found is not None
    assert all(np.array_equal(found[k], arrays[k]) and found[k].dtype == arrays[k].dtype for k in arrays)
    assert ArrayCache("features").load(KEY) is None


def test_fresh_ignores_what_was_there_and_keeps_what_it_makes() -> None:
    ArrayCache("features").store(KEY, {"a": np.zeros(2)}, {})
    fresh = ArrayCache("features", fresh=True)
    assert fresh.load(KEY) is None
    fresh.store(KEY, {"a": np.ones(2)}, {})
    found = fresh.load(KEY)
    assert found is not None
    assert found["a"].tolist() == [1, 1]


def test_every_flipped_byte_of_the_payload_is_noticed(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    ArrayCache("features").store(KEY, {"a": np.arange(4.0)}, {})
    (path,) = (folder / "features").iterdir()
    intact = path.read_bytes()
    for at in range(len(intact) - 32, len(intact)):
        path.write_bytes(intact[:at] + bytes([intact[at] ^ 1]) + intact[at + 1 :])
        with caplog.at_level(logging.WARNING, LOG):
            assert ArrayCache("features").load(KEY) is None
        assert "PB808" in caplog.text
        caplog.clear()


def test_an_unwritable_cache_warns_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder.write_text("a file where the folder should be")
    cache = ArrayCache("features")
    with caplog.at_level(logging.WARNING, LOG):
        for name in ("one", "two"):
            cache.store(sha256(name.encode()), {"a": np.zeros(1)}, {})
    assert caplog.text.count("scored without a cache") == 1


def test_a_network_added_later_runs_alone() -> None:
    batch, first, second = side(images(10)), Means("first"), Means("second")
    alone = extraction(first).tables(batch)
    both = extraction(first, second).tables(batch)
    assert (first.seen, second.seen) == (10, 10)
    assert np.array_equal(alone["first"]["pool"], both["first"]["pool"])


def test_a_run_killed_in_the_second_side_computes_only_that_side_again() -> None:
    network, done = Means(), side(images(9))
    other = side({i: 255 - image for i, image in images(9).items()})

    @contextmanager
    def killed(label: str, total: int) -> Iterator[Callable[[int], None]]:
        def stop(count: int) -> None:
            raise Interrupted(15)

        yield stop

    extraction(network).tables(done)
    with pytest.raises(Interrupted):
        Extraction([network], ArrayCache("features"), "cpu", progress=killed).tables(other)  # type: ignore[list-item]
    network.seen = 0
    extraction(network).tables(done)
    assert network.seen == 0
    extraction(network).tables(other)
    assert network.seen == 9


def test_a_feature_that_is_no_number_names_its_image_and_nothing_is_kept(folder: Path) -> None:
    with pytest.raises(InputError, match="means: pool is not finite for p06"):
        extraction(Means(broken_at=6)).tables(side(images(10)))
    assert not (folder / "features").exists()


def test_statistics_of_a_large_reference_need_no_features_the_second_time() -> None:
    rows = np.random.default_rng(2).normal(size=(50, 6)).astype(np.float32)
    network = Means()
    loads = []

    def load(name: str) -> dict[str, np.ndarray]:
        loads.append(name)
        return {"pool": rows}

    def reference(kernel: bool) -> object:
        made = ImageReference("val-full@x", 50, {"means": KEY}, load, ArrayCache("statistics"))
        return made.reference(network, "pool", kernel, "cubic" if kernel else None)  # type: ignore[arg-type]

    first, again, kernel, kernel_again = (reference(k) for k in (False, False, True, True))
    assert loads == ["means"] * 3  # moments, then features for KID's pairs, twice
    assert again.moments.equals(Moments.of(rows))  # type: ignore[attr-defined]
    assert np.array_equal(again.moments.factor, first.moments.factor)  # type: ignore[attr-defined]
    assert kernel.kernel_mean == kernel_again.kernel_mean is not None  # type: ignore[attr-defined]
