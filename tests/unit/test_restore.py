"""restore: any model becomes a submission, resumable, sharded, never half written."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from submissions import ready

from palette_bench.benchset.manifest import ContestantSet, export_public
from palette_bench.core.errors import BenchSetError, InputError, MethodError, UsageError
from palette_bench.core.fingerprint import sha256
from palette_bench.core.journal import Journal, Shard
from palette_bench.core.rng import hole_noise, sampling_noise, stream_key
from palette_bench.submission.card import SubmissionCard
from palette_bench.submission.check import check
from palette_bench.submission.methods import Batch, MethodInfo, RestoreOptions, baselines, load_baseline
from palette_bench.submission.restore import restore

COPY = ready("copy-input")
SEED = 7
SEEDED = replace(COPY.about, sampling=COPY.about.sampling.model_copy(update={"seed": SEED}))


@dataclass
class Noisy:
    """A model that paints noise under its keys, and may misbehave."""

    about: MethodInfo = SEEDED
    identity: str = "noisy 1"
    shape: tuple[int, ...] = ()
    fails_after: int = 10**9
    shift: int = 0
    batches: list[Batch] = field(default_factory=list)

    def restore(self, batch: Batch) -> NDArray[np.uint8]:
        if len(self.batches) == self.fails_after:
            raise RuntimeError("out of memory")
        self.batches.append(batch)
        levels = np.clip(128 + 40 * batch.noise(SEED, 0), 0, 250).astype(np.uint8).transpose(0, 2, 3, 1)
        levels += np.uint8(self.shift)
        return np.zeros(self.shape, np.uint8) if self.shape else levels

    @property
    def seen(self) -> list[str]:
        """The ids asked for, each once however often a batch repeats it."""
        return [i for batch in self.batches for i in dict.fromkeys(batch.ids)]


@pytest.fixture
def smoke(smoke_sets: Path) -> ContestantSet:
    return ContestantSet.open(smoke_sets / "inpainting.center128")


def bytes_of(folder: Path) -> dict[str, str]:
    """Digests of the images of a submission, by relative name."""
    return {
        p.relative_to(folder).as_posix(): sha256(p.read_bytes())
        for place in ("outputs", "samples")
        for p in sorted((folder / place).rglob("*.png"))
    }


def test_both_anchors_are_installed() -> None:
    assert {"copy-input", "original"} <= set(baselines())
    with pytest.raises(UsageError, match="did you mean copy-input"):
        load_baseline("copy_input")


@pytest.mark.parametrize("method", ["copy-input", "original"])
def test_options_that_would_do_nothing_are_refused(method: str) -> None:
    with pytest.raises(UsageError, match="--seed, --steps"):
        load_baseline(method).restorer(RestoreOptions(seed=1, steps=5))


@pytest.mark.parametrize("name", ["colorization", "inpainting.center128", "jpeg.qf5"])
@pytest.mark.parametrize("method", ["copy-input", "original"])
def test_a_restored_submission_passes_the_check(
    method: str, name: str, smoke_sets: Path, tmp_path: Path
) -> None:
    card = restore(ready(method), ContestantSet.open(smoke_sets / name), tmp_path / "sub")
    assert card == SubmissionCard.read(tmp_path / "sub" / "submission.toml")
    assert check(tmp_path / "sub", smoke_sets / name).ok


def test_batch_size_and_shards_change_nothing(smoke: ContestantSet, tmp_path: Path) -> None:
    restore(Noisy(), smoke, tmp_path / "one", batch_size=5)
    assert restore(Noisy(), smoke, tmp_path / "two", shard=Shard(1, 2)) is None
    assert not (tmp_path / "two" / "submission.toml").exists()
    assert restore(Noisy(), smoke, tmp_path / "two", shard=Shard(0, 2)) is not None
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_under_torchrun_a_rank_is_a_shard_of_every_nth_id(
    smoke: ContestantSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"WORLD_SIZE": "5", "LOCAL_RANK": "3", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, value in {"RANK": "3", **told}.items():
        monkeypatch.setenv(name, value)
    model = Noisy()
    assert restore(model, smoke, tmp_path / "sub") is None
    assert model.seen == smoke.ids[3::5]
    assert (tmp_path / "sub" / "journal.3-of-5.jsonl").is_file()


def test_more_ranks_than_images_do_no_harm(smoke: ContestantSet, tmp_path: Path) -> None:
    assert restore(Noisy(), smoke, tmp_path / "sub", shard=Shard(12, 13)) is None
    assert not list((tmp_path / "sub" / "outputs").iterdir())


def test_samples_differ_by_their_noise_and_pass_the_check(smoke: ContestantSet, tmp_path: Path) -> None:
    card = restore(Noisy(), smoke, tmp_path / "sub", samples=3)
    assert card is not None
    assert card.target.samples_per_image == 3
    found = bytes_of(tmp_path / "sub")
    assert len(set(found.values())) == len(found) == 36
    assert {name.rpartition("/")[0] for name in found} == {"outputs", "samples/1", "samples/2"}
    restore(Noisy(), smoke, tmp_path / "one")
    assert bytes_of(tmp_path / "one").items() <= found.items()
    assert check(tmp_path / "sub", smoke.folder).ok


def test_every_call_has_as_many_images_as_the_first(smoke: ContestantSet, tmp_path: Path) -> None:
    model = Noisy()
    restore(model, smoke, tmp_path / "sub", samples=2, batch_size=5)
    assert [len(batch.ids) for batch in model.batches] == [5] * 6
    last = model.batches[2]
    assert last.ids == (*smoke.ids[10:12], *[smoke.ids[11]] * 3)
    assert last.inputs.shape == (5, 256, 256, 3)
    assert last.masks is not None
    assert last.masks.shape == (5, 256, 256)
    assert model.seen == smoke.ids * 2
    assert [batch.sample for batch in model.batches] == [0, 0, 0, 1, 1, 1]


def test_few_images_make_small_batches(smoke: ContestantSet, tmp_path: Path) -> None:
    model = Noisy()
    restore(model, smoke, tmp_path / "sub", samples=2, shard=Shard(0, 4))
    assert [len(batch.ids) for batch in model.batches] == [3, 3]


def test_only_damaged_outputs_are_redone(smoke: ContestantSet, tmp_path: Path) -> None:
    restore(Noisy(), smoke, tmp_path / "sub", samples=2)
    right = bytes_of(tmp_path / "sub")
    (tmp_path / "sub" / "outputs" / f"{smoke.ids[0]}.png").unlink()
    second = tmp_path / "sub" / "samples" / "1" / f"{smoke.ids[1]}.png"
    second.write_bytes(second.read_bytes()[:-10])
    model = Noisy()
    restore(model, smoke, tmp_path / "sub", samples=2)
    assert model.seen == smoke.ids[:2]
    assert bytes_of(tmp_path / "sub") == right


def test_stopped_and_resumed_equals_straight(smoke: ContestantSet, tmp_path: Path) -> None:
    restore(Noisy(), smoke, tmp_path / "straight", samples=2, batch_size=5)
    first, rest = Noisy(fails_after=2), Noisy()
    with pytest.raises(RuntimeError):
        restore(first, smoke, tmp_path / "sub", samples=2, batch_size=5)
    assert not (tmp_path / "sub" / "submission.toml").exists()
    restore(rest, smoke, tmp_path / "sub", samples=2, batch_size=5)
    assert first.seen + rest.seen == smoke.ids * 2
    assert bytes_of(tmp_path / "sub") == bytes_of(tmp_path / "straight")


def test_another_method_or_set_is_refused_in_the_same_folder(
    smoke: ContestantSet, smoke_sets: Path, tmp_path: Path
) -> None:
    restore(COPY, smoke, tmp_path / "sub")
    for method, target in (("original", smoke), ("copy-input", ContestantSet.open(smoke_sets / "jpeg.qf5"))):
        with pytest.raises(InputError, match="PB605"):
            restore(ready(method), target, tmp_path / "sub")


def test_other_weights_samples_or_noise_are_refused_in_the_same_folder(
    smoke: ContestantSet, tmp_path: Path
) -> None:
    restore(Noisy(), smoke, tmp_path / "sub")
    with pytest.raises(InputError, match=r"PB605[\s\S]*restorer=other weights[\s\S]*restorer=noisy 1"):
        restore(Noisy(identity="other weights"), smoke, tmp_path / "sub")
    with pytest.raises(InputError, match=r"PB605[\s\S]*samples=2"):
        restore(Noisy(), smoke, tmp_path / "sub", samples=2)
    sampling = COPY.about.sampling.model_copy(update={"seed": SEED + 1})
    with pytest.raises(InputError, match=r"PB605[\s\S]*first_noise"):
        restore(Noisy(replace(COPY.about, sampling=sampling)), smoke, tmp_path / "sub")


def test_two_shards_that_begin_together_with_other_weights_do_not_mix(
    smoke: ContestantSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = Journal.start

    def together(self: Journal, kept: object) -> None:
        begin(Journal(tmp_path, {**self.header, "restorer": "other"}, Shard(1, 2)), [])
        begin(self, [])

    monkeypatch.setattr(Journal, "start", together)
    model = Noisy()
    with pytest.raises(InputError, match="PB605"):
        restore(model, smoke, tmp_path, shard=Shard(0, 2))
    assert not model.batches


def test_the_journal_holds_the_first_noise_of_three_ids(smoke: ContestantSet, tmp_path: Path) -> None:
    restore(Noisy(), smoke, tmp_path / "sub")
    header = json.loads((tmp_path / "sub" / "journal.0-of-1.jsonl").read_text().splitlines()[0])
    assert header["first_noise"] == {
        i: sha256(sampling_noise(SEED, i, 0, 0, (3, 256, 256)).tobytes())[:16] for i in smoke.ids[:3]
    }
    restore(COPY, smoke, tmp_path / "other")
    header = json.loads((tmp_path / "other" / "journal.0-of-1.jsonl").read_text().splitlines()[0])
    assert header["first_noise"] is None


def test_the_card_tells_the_cost_only_where_a_device_is_named(smoke: ContestantSet, tmp_path: Path) -> None:
    free = restore(Noisy(), smoke, tmp_path / "free")
    assert free is not None
    assert (free.sampling.seconds_per_image, free.sampling.hardware) == (None, None)
    restore(Noisy(), smoke, tmp_path / "sub", shard=Shard(0, 2), device="cpu")
    card = restore(Noisy(), smoke, tmp_path / "sub", shard=Shard(1, 2), device="cpu")
    assert card is not None
    assert card.sampling.hardware
    assert card.sampling.steps == 0  # the method's own word
    journals = sorted((tmp_path / "sub").glob("journal.*"))
    lines = [json.loads(line) for path in journals for line in path.read_text().splitlines()[1:]]
    median = np.median([line["seconds"] for line in lines])
    assert card.sampling.seconds_per_image == pytest.approx(median, rel=1e-3)
    again = restore(Noisy(), smoke, tmp_path / "sub", shard=Shard(0, 2), device="cpu")
    assert again == card  # nothing was left to do, and the cost is remembered


@pytest.mark.parametrize("shift", [0, 3])
def test_an_audit_tells_the_largest_difference(
    shift: int, smoke: ContestantSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    restore(Noisy(), smoke, tmp_path / "sub")
    model = Noisy(shift=shift)
    with caplog.at_level(logging.INFO):
        restore(model, smoke, tmp_path / "sub", audit=4)
    assert f"largest difference {shift} levels" in caplog.text
    assert len(model.seen) == 4
    assert {len(batch.ids) for batch in model.batches} == {8}  # half the batch of the run


@pytest.mark.parametrize("shape", [(12, 256, 256, 1), (12, 128, 128, 3), (11, 256, 256, 3)])
def test_a_model_that_returns_another_shape_is_refused(
    shape: tuple[int, ...], smoke: ContestantSet, tmp_path: Path
) -> None:
    with pytest.raises(MethodError, match="PB613"):
        restore(Noisy(shape=shape), smoke, tmp_path / "sub")
    assert not list((tmp_path / "sub" / "outputs").iterdir())


def test_contestants_need_only_the_public_part(smoke_sets: Path, tmp_path: Path) -> None:
    export_public(smoke_sets / "inpainting.center128", tmp_path / "public")
    public = ContestantSet.open(tmp_path / "public")
    assert restore(COPY, public, tmp_path / "sub") is not None
    with pytest.raises(BenchSetError, match=r"manifest\.json"):
        restore(ready("original"), public, tmp_path / "cheat")
    assert not (tmp_path / "cheat" / "submission.toml").exists()


def test_a_batch_holds_the_protocol_s_fill_and_keyed_noise(smoke: ContestantSet, tmp_path: Path) -> None:
    model = Noisy()
    restore(model, smoke, tmp_path / "sub", samples=2)
    key = stream_key("smoke", "inpainting", "center128", "smoke-photos", smoke.ids[0], "fill")
    np.testing.assert_array_equal(model.batches[0].hole_noise()[0], hole_noise(key, 256))
    np.testing.assert_array_equal(
        model.batches[1].hole_noise()[0], hole_noise(key, 256)
    )  # one fill whatever the sample
    second = model.batches[1].noise(SEED, 3)
    np.testing.assert_array_equal(second[5], sampling_noise(SEED, smoke.ids[5], 1, 3, (3, 256, 256)))
