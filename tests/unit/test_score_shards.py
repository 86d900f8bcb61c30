"""score --shard: shards in any order, lost, repeated or late, give the card of one process, byte for byte."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from common import RunCli
from submissions import submit

from palette_bench.core import png
from palette_bench.core.errors import InputError, SubmissionError, UsageError
from palette_bench.core.journal import Shard, read_journal
from palette_bench.core.processes import Interrupted
from palette_bench.scoring import extraction
from palette_bench.scoring.score import score
from palette_bench.scoring.shards import merge_shards, score_shard

OPTIONS: dict[str, Any] = {"extractors": ["smoke-random"]}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PALETTE_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")


@pytest.fixture(scope="session")
def outputs(mini_jpeg: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A submission to a set of 256 images, so that there are 16 micro-batches to share; read-only."""
    return submit(mini_jpeg, tmp_path_factory.mktemp("shards") / "sub")


@pytest.fixture(scope="session")
def straight(outputs: Path, mini_jpeg: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process writes: the card and its table, by suffix."""
    folder = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PALETTE_BENCH_CACHE", str(folder / "cache"))
        patch.setenv("SOURCE_DATE_EPOCH", "1700000000")
        score(outputs, mini_jpeg, folder / "card.json", **OPTIONS)
    return card_in(folder)


def card_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("card*")) if path.is_file()}


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no network run any more."""

    def run(*_: object, **__: object) -> None:
        raise AssertionError("a network ran")

    monkeypatch.setattr(extraction, "extract", run)


def test_three_shards_write_the_card_of_one_process_and_the_last_computes_only_its_part(
    outputs: Path,
    mini_jpeg: Path,
    straight: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = []
    extract = extraction.extract

    def count(extractors: Any, images: Any, count: int, *rest: Any, **more: Any) -> Any:
        seen.append(count)
        return extract(extractors, images, count, *rest, **more)

    monkeypatch.setattr(extraction, "extract", count)
    arguments = (outputs, mini_jpeg, tmp_path / "card.json")
    for index, cached in ((2, False), (0, True), (1, False)):
        if not cached:  # another machine, with another cache
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
        card = score_shard(*arguments, Shard(index, 3), **OPTIONS)
        assert (card is None) == (index != 1)
    assert sum(seen) == 2 * 256  # outputs and originals, each once over all shards
    assert card_in(tmp_path) == straight


def test_a_repeated_and_a_late_shard_run_no_network_and_change_nothing(
    outputs: Path,
    mini_jpeg: Path,
    straight: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arguments = (outputs, mini_jpeg, tmp_path / "card.json")
    for index in range(2):
        score_shard(*arguments, Shard(index, 2), **OPTIONS)
    forbid(monkeypatch)
    written = (tmp_path / "card.json").stat().st_ino
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1800000000")  # years later
    assert score_shard(*arguments, Shard(0, 2), **OPTIONS) is not None
    assert (tmp_path / "card.json").stat().st_ino == written
    assert card_in(tmp_path) == straight


def test_merge_measures_what_shards_have_left_out_or_lost(
    outputs: Path, mini_jpeg: Path, straight: dict[str, bytes], tmp_path: Path
) -> None:
    arguments = (outputs, mini_jpeg, tmp_path / "card.json")
    with pytest.raises(UsageError, match="there is no"):
        merge_shards(*arguments, **OPTIONS)
    assert score_shard(*arguments, Shard(1, 4), **OPTIONS) is None
    features = sorted((tmp_path / "card.parts").rglob("*.safetensors"))
    features[0].unlink()
    features[1].write_bytes(b"torn")
    merge_shards(*arguments, **OPTIONS)
    assert card_in(tmp_path) == straight


def test_an_output_that_changed_between_the_shards_is_measured_again(
    outputs: Path, mini_jpeg: Path, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(outputs, tmp_path / "sub"))
    arguments = (changed, mini_jpeg, tmp_path / "card.json")
    assert score_shard(*arguments, Shard(0, 2), **OPTIONS) is None
    first, second, *_ = sorted((changed / "outputs").iterdir())
    first.write_bytes(second.read_bytes())
    score_shard(*arguments, Shard(1, 2), **OPTIONS)
    (tmp_path / "other").mkdir()
    score(changed, mini_jpeg, tmp_path / "other" / "card.json", fresh=True, **OPTIONS)
    assert card_in(tmp_path) == card_in(tmp_path / "other")


def test_what_a_shard_cannot_score_is_told_and_leaves_no_card(
    outputs: Path, mini_jpeg: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(outputs, tmp_path / "sub"))
    arguments = (broken, mini_jpeg, tmp_path / "card.json")
    files = sorted((broken / "outputs").iterdir())
    files[3].write_bytes(b"no image")
    assert score_shard(*arguments, Shard(1, 2), **OPTIONS) is None  # the fault is in the other part
    with pytest.raises(SubmissionError, match="PB301") as caught:
        score_shard(*arguments, Shard(0, 2), **OPTIONS)
    assert files[3].name in str(caught.value)
    files[5].unlink()
    with pytest.raises(SubmissionError, match="PB201"):  # told by every shard, before it measures anything
        score_shard(*arguments, Shard(1, 2), **OPTIONS)
    assert not card_in(tmp_path)


def test_a_shard_that_runs_out_of_time_keeps_what_it_has_measured(
    outputs: Path, mini_jpeg: Path, straight: dict[str, bytes], tmp_path: Path
) -> None:
    @contextmanager
    def short_of_time(label: str, total: int) -> Iterator[Callable[[int], None]]:
        yield lambda count: signal.raise_signal(signal.SIGUSR1)

    arguments = (outputs, mini_jpeg, tmp_path / "card.json")
    for number in (1, 2):
        with pytest.raises(Interrupted) as caught:
            score_shard(*arguments, Shard(0, 2), progress=short_of_time, **OPTIONS)
        assert caught.value.exit_code == 75
        (journal,) = (tmp_path / "card.parts").glob("journal.*")
        assert len({entry["id"] for entry in read_journal(journal).entries}) == 16
        if number == 1:  # damaged behind the micro-batch: it is measured again
            journal.write_bytes(journal.read_bytes()[:-9])
    assert score_shard(*arguments, Shard(0, 2), **OPTIONS) is None
    assert score_shard(*arguments, Shard(1, 2), **OPTIONS) is not None
    assert card_in(tmp_path) == straight


def test_shards_of_a_partial_submission_write_its_partial_card(
    outputs: Path, mini_jpeg: Path, tmp_path: Path
) -> None:
    some = Path(shutil.copytree(outputs, tmp_path / "sub"))
    for path in sorted((some / "outputs").iterdir())[5:60]:
        path.unlink()
    for index in range(3):
        score_shard(some, mini_jpeg, tmp_path / "card.json", Shard(index, 3), partial=True, **OPTIONS)
    score(some, mini_jpeg, tmp_path / "one" / "card.json", partial=True, fresh=True, **OPTIONS)
    assert card_in(tmp_path) == card_in(tmp_path / "one")


def test_shards_and_ranks_of_torchrun_do_not_mix(
    outputs: Path, mini_jpeg: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "1")
    with pytest.raises(UsageError, match="under torchrun"):
        score_shard(outputs, mini_jpeg, tmp_path / "card.json", Shard(0, 2), **OPTIONS)


def test_parts_of_another_run_are_refused(outputs: Path, mini_jpeg: Path, tmp_path: Path) -> None:
    arguments = (outputs, mini_jpeg, tmp_path / "card.json")
    score_shard(*arguments, Shard(0, 4), **OPTIONS)
    with pytest.raises(InputError, match="PB605"):
        score_shard(*arguments, Shard(1, 4), metrics=["psnr"], **OPTIONS)


def test_shards_of_several_samples_and_of_holes_write_the_card_of_one_process(
    smoke_sets: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    benchset = smoke_sets / "inpainting.center128"
    options = ("--set", benchset, "--extractor", "smoke-random", "--weights", "lpips-alex=random:0")
    done = run_cli("restore", "copy-input", "--set", benchset, "-o", "sub", "--samples", 3)
    assert done.returncode == 0, done.stderr
    image = next((tmp_path / "sub" / "samples" / "1").iterdir())
    pixels = png.decode_strict(image.read_bytes(), 256, 256, 3)[0].copy()
    pixels[100:120, 100:120] //= 2  # so that the samples of an image differ
    image.write_bytes(png.encode(pixels))
    for index in range(3):
        shard = run_cli("score", "sub", *options, "-o", "card.json", "--shard", f"{index}/3")
        assert shard.returncode == 0, shard.stderr
    whole = run_cli("score", "sub", *options, "-o", "whole/card.json", "--fresh")
    assert whole.returncode == 0, whole.stderr
    sharded, alone = (json.loads((tmp_path / at).read_bytes()) for at in ("card.json", "whole/card.json"))
    assert sharded["scores"] == alone["scores"]
    assert sharded["scores"]["diversity_ms_ssim"]["value"] is not None
    assert sharded["per_image"] == alone["per_image"]


def test_the_command_on_a_card_names_no_shard(smoke_sets: Path, run_cli: RunCli, tmp_path: Path) -> None:
    benchset = smoke_sets / "jpeg.qf5"
    run_cli("restore", "copy-input", "--set", benchset, "-o", "sub")
    words = ("score", "sub", "--set", benchset, "--extractor", "smoke-random", "-o", "card.json")
    assert "waiting" in run_cli(*words, "--shard", "1/2").stderr
    merged = run_cli(*words, "--merge")
    assert merged.returncode == 0, merged.stderr
    first = (tmp_path / "card.json").read_bytes()
    alone = run_cli(*words)
    assert alone.returncode == 0
    assert (tmp_path / "card.json").read_bytes() == first
    assert run_cli(*words, "--merge", "--shard", "0/2").returncode == 2
