"""How far a run is, over all its shards, from the journals and logs on disk; the run itself is not asked.

A journal is a few bytes an item, so that looking is cheap while thousands of processes work.
"""

from __future__ import annotations

import json
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from palette_bench.core.errors import InputError, StorageError
from palette_bench.core.journal import JOURNAL, JournalFile, Shard, read_journal
from palette_bench.core.records import read_file
from palette_bench.core.text import decode_text
from palette_bench.submission.card import CARD
from palette_bench.submission.files import output_name
from palette_bench.submission.training_runs import RECIPE

_TRAINING_LOG = "log.jsonl"
_SILENT = 900.0  # seconds without a finished item after which a shard no longer counts as running

Kind = Literal["generate", "restore", "score", "train"]


@dataclass(frozen=True)
class ShardStatus:
    """One shard of a run, or a run as a whole.

    Attributes:
        name: I/N, or `all`.
        done: finished items; for a training run, steps.
        total: items of the shard.
        lost: items that are journalled and whose file is gone; the next run makes them again.
        per_second: images per second in the last run; None if too little is known.
        seconds_left: estimate; None if too little is known.
        silent_s: seconds since the last item; None if there is none.
    """

    name: str
    done: int
    total: int
    lost: int
    per_second: float | None
    seconds_left: float | None
    silent_s: float | None

    @property
    def missing(self) -> int:
        """Return the number of items that are still to be made."""
        return self.total - self.done


@dataclass(frozen=True)
class RunStatus:
    """A run: what it is, whether its closing record is written, and its shards.

    Attributes:
        kind: the verb that makes it.
        folder: its folder.
        unit: what is counted, `images` or `steps`.
        closed: whether the manifest, card or last checkpoint is there.
        whole: all shards together.
        shards: the shards of the youngest division into shards; empty for a training run.
    """

    kind: Kind
    folder: Path
    unit: str
    closed: bool
    whole: ShardStatus
    shards: tuple[ShardStatus, ...] = ()


def run_status(path: Path) -> list[RunStatus]:
    """Return how far the run at a path is; several for a folder of sets.

    Args:
        path: a set, a submission, a training run, the parts of a card, the card itself, or a folder of sets.

    Raises:
        StorageError: PB801, nothing at the path tells of a run.
        InputError: PB403, a journal does not say what it belongs to.
    """
    folder = path.with_suffix(".parts") if path.suffix == ".json" else path
    if (folder / RECIPE).is_file():
        return [_training(folder)]
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [
        f for f in (folder, *inside) if f.is_dir() and any(JOURNAL.fullmatch(p.name) for p in f.iterdir())
    ]
    if not found:
        fix = "give the folder of -o of generate, restore, score --shard or train"
        raise StorageError.of("PB801", str(path), expected="journals of a run", found="none", fix=fix)
    return [_journalled(one) for one in found]


def _journalled(folder: Path) -> RunStatus:
    """Return the status of a folder with journals."""
    journals: dict[Shard, JournalFile] = {}
    changed: dict[Shard, float] = {}
    for path in sorted(folder.iterdir()):
        if match := JOURNAL.fullmatch(path.name):
            shard = Shard(int(match[1]), int(match[2]))
            journals[shard], changed[shard] = read_journal(path), path.stat().st_mtime
    header = next((one.header for one in journals.values() if one.header), None)
    kind = _kind_of(header or {}, folder)
    assert header is not None, "a journal without a header has no kind"
    done = {entry["id"] for one in journals.values() for entry in one.entries}
    in_tars = "tars" in (header or {})  # a tar is read by the run alone
    there = {key for key in done if in_tars or _is_there(folder, kind, key)}
    # of several divisions into shards, the youngest is at work
    count = max(journals, key=lambda shard: changed[shard]).count
    nothing = JournalFile(header, [], [])
    shards = tuple(
        _shard_status(shard, journals.get(shard, nothing), header, there)
        for shard in (Shard(index, count) for index in range(count))
    )
    total = _share(Shard(), header)
    rate = sum(
        shard.per_second
        for shard in shards
        if shard.per_second and shard.missing and (shard.silent_s or 0) < _SILENT
    )
    silent = min((s.silent_s for s in shards if s.silent_s is not None), default=None)
    left = (total - len(there)) / rate if rate else 0.0 if len(there) == total else None
    whole = ShardStatus("all", len(there), total, len(done - there), rate or None, left, silent)
    closing = {"generate": folder / "manifest.json", "restore": folder / CARD}
    closed = closing.get(kind, folder.with_suffix(".json")).is_file()
    return RunStatus(kind, folder, "images", closed, whole, shards)


def _kind_of(header: Mapping[str, Any], folder: Path) -> Kind:
    """Return the verb whose journal has this header.

    Raises:
        InputError: PB403, none has, or the header does not state the number of images.
    """
    kinds: dict[str, Kind] = {"rules": "generate", "restorer": "restore", "extractors": "score"}
    found = next((kind for key, kind in kinds.items() if key in header), None)
    if found is None or not isinstance(header.get("n"), int):
        fix = "run the command of this folder once more; journals of earlier versions do not state it"
        expected = "a first line with the kind of the run and n, its images"
        raise InputError.of("PB403", str(folder / "journal"), expected=expected, found="none", fix=fix)
    return found


def _share(shard: Shard, header: Mapping[str, Any]) -> int:
    """Return the number of items of a shard: every N-th image, or every N-th micro-batch of a score."""
    n, batch, samples = header["n"], header.get("batch", 1), header.get("samples", 1)
    starts = range(shard.index * batch, n, shard.count * batch)
    return int(sum(min(batch, n - start) for start in starts) * samples)


def _is_there(folder: Path, kind: Kind, key: str) -> bool:
    """Return whether the file of a journalled item exists; K/ID is sample K of an output."""
    if kind == "score":
        return True
    if kind == "generate":
        return (folder / "input" / f"{key}.png").is_file()
    sample, _, image_id = key.rpartition("/")
    return (folder / output_name(image_id, int(sample or 0) + 1)).is_file()


def _shard_status(
    shard: Shard, journal: JournalFile, header: Mapping[str, Any], there: set[str]
) -> ShardStatus:
    keys = {entry["id"] for entry in journal.entries}
    total, done, times = _share(shard, header), len(keys & there), journal.times
    span = max(times) - min(times) if times else 0.0
    # the first batch has no beginning in the journal, so its items do not count
    rate = sum(at > min(times) for at in times) / span if span > 0 else None
    left = 0.0 if done >= total else (total - done) / rate if rate else None
    silent = max(0.0, time.time() - max(times)) if times else None
    return ShardStatus(str(shard), done, total, len(keys - there), rate, left, silent)


def _training(run: Path) -> RunStatus:
    """Return the status of a training run, from its recipe and the last line of its log."""
    steps = tomllib.loads(decode_text(read_file(run / RECIPE)))["training"]["steps"]
    log = run / _TRAINING_LOG
    lines = read_file(log).splitlines() if log.is_file() else []
    last: dict[str, Any] = {}
    for line in reversed(lines):
        try:
            last = json.loads(line)
            break
        except ValueError:  # the last line is being written
            continue
    step, seen, rate = last.get("step", 0), last.get("images_seen", 0), last.get("images_per_second")
    left = (steps - step) * seen / step / rate if step and rate else None
    silent = max(0.0, time.time() - log.stat().st_mtime) if last else None
    closed = (run / "checkpoints" / f"step-{steps:08d}").is_dir()
    whole = ShardStatus("all", step, steps, 0, rate, 0.0 if step >= steps else left, silent)
    return RunStatus("train", run, "steps", closed, whole)
