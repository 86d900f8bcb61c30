"""restore: any model becomes a submission, resumable, sharded, never half written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from submissions import ready

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.benchset.public import export_public
from palette_bench.core.errors import BenchSetError, InputError, SubmissionError, UsageError
from palette_bench.core.fingerprint import sha256
from palette_bench.core.journal import Shard
from palette_bench.core.rng import fill, stream_key
from palette_bench.submission.card import SubmissionCard
from palette_bench.submission.check import check
from palette_bench.submission.contestant import About, Batch, Restorer, baselines, load_baseline
from palette_bench.submission.restore import restore

COPY = ready("copy-input")


@dataclass
class Flat:
    """A model that paints one level, and may misbehave."""

    about: About
    level: int = 9
    shape: tuple[int, ...] = ()
    seen: int = 0
    identity: str = "flat"

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        self.seen += len(batch.ids)
        return np.full(self.shape or (*batch.inputs.shape[:3], 3), self.level, np.uint8)


def flat(**options: object) -> Flat:
    return Flat(COPY.about, **options)  # type: ignore[arg-type]


@pytest.fixture
def smoke(smoke_sets: Path) -> ContestantSet:
    return ContestantSet.open(smoke_sets / "inpainting.center128")


def bytes_of(folder: Path) -> dict[str, str]:
    return {p.name: sha256(p.read_bytes()) for p in sorted((folder / "outputs").iterdir())}


def test_both_anchors_are_installed() -> None:
    assert {"copy-input", "original"} <= set(baselines())
    with pytest.raises(UsageError, match="did you mean copy-input"):
        load_baseline("copy_input")


@pytest.mark.parametrize("name", ["colorization", "inpainting.center128", "jpeg.qf5"])
@pytest.mark.parametrize("method", ["copy-input", "original"])
def test_a_restored_submission_passes_the_check(
    method: str, name: str, smoke_sets: Path, tmp_path: Path
) -> None:
    card = restore(ready(method), ContestantSet.open(smoke_sets / name), tmp_path / "sub")
    assert card == SubmissionCard.read(tmp_path / "sub" / "submission.toml")
    assert check(tmp_path / "sub", smoke_sets / name).ok


def test_batch_size_and_shards_change_nothing(smoke: ContestantSet, tmp_path: Path) -> None:
    restore(COPY, smoke, tmp_path / "one", batch_size=5)
    assert restore(COPY, smoke, tmp_path / "two", shard=Shard(1, 2)) is None
    assert not (tmp_path / "two" / "submission.toml").exists()
    assert restore(COPY, smoke, tmp_path / "two", shard=Shard(0, 2)) is not None
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_only_damaged_outputs_are_redone(smoke: ContestantSet, tmp_path: Path) -> None:
    restore(flat(), smoke, tmp_path / "sub")
    right = bytes_of(tmp_path / "sub")
    (tmp_path / "sub" / "outputs" / f"{smoke.ids[0]}.png").unlink()
    second = tmp_path / "sub" / "outputs" / f"{smoke.ids[1]}.png"
    second.write_bytes(second.read_bytes()[:-10])
    model = flat()
    restore(model, smoke, tmp_path / "sub")
    assert model.seen == 2
    assert bytes_of(tmp_path / "sub") == right


def test_another_method_or_set_is_refused_in_the_same_folder(
    smoke: ContestantSet, smoke_sets: Path, tmp_path: Path
) -> None:
    restore(COPY, smoke, tmp_path / "sub")
    for method, target in (("original", smoke), ("copy-input", ContestantSet.open(smoke_sets / "jpeg.qf5"))):
        with pytest.raises(InputError, match="PB605"):
            restore(ready(method), target, tmp_path / "sub")


@pytest.mark.parametrize("shape", [(12, 256, 256, 1), (12, 128, 128, 3), (11, 256, 256, 3)])
def test_a_model_that_returns_another_shape_is_refused(
    shape: tuple[int, ...], smoke: ContestantSet, tmp_path: Path
) -> None:
    with pytest.raises(SubmissionError, match="must return"):
        restore(flat(shape=shape), smoke, tmp_path / "sub")
    assert not list((tmp_path / "sub" / "outputs").iterdir())


def test_contestants_need_only_the_public_part(smoke_sets: Path, tmp_path: Path) -> None:
    export_public(smoke_sets / "inpainting.center128", tmp_path / "public")
    public = ContestantSet.open(tmp_path / "public")
    assert restore(COPY, public, tmp_path / "sub") is not None
    with pytest.raises(BenchSetError, match=r"manifest\.json"):
        restore(ready("original"), public, tmp_path / "cheat")


def test_a_batch_holds_the_protocol_s_fill(smoke: ContestantSet, tmp_path: Path) -> None:
    found: list[NDArray[np.float32]] = []

    class Looks(Flat):
        def restore(self, batch: Batch) -> NDArray[np.uint8]:
            found.append(batch.fill())
            return super().restore(batch)

    model: Restorer = Looks(COPY.about)
    restore(model, smoke, tmp_path / "sub")
    key = stream_key("smoke", "inpainting", "center128", "smoke-photos", smoke.ids[0], "fill")
    np.testing.assert_array_equal(found[0][0], fill(key, 256))
