"""Damage sound files by the thousand and read them: refused with a code, or read; never anything else.

    python tests/faults/mutate.py --count 10000            every format; counts per outcome
    python tests/faults/mutate.py --format zip --seed 4711 one input again, with its traceback

Outcomes: a code of the package; `same`, read with the sample's own meaning; `other`, read as another sound
file, which only formats without checksums may do. Faults: `crash`, `hang`, `memory`, `altered` (a sealed
file accepted with other content) and `wrote` (a file appeared beside the one read).
"""

from __future__ import annotations

import argparse
import logging
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from formats import formats
from kind import Format
from mutations import mutated
from page import Report

from palette_bench.core.errors import PaletteBenchError
from palette_bench.core.png import PngError
from palette_bench.tasks.preprocess import DecodeError

FAULTS = ("crash", "hang", "memory", "altered", "wrote")
_PATIENCE = 5  # seconds for files of a few kB: a guard against hanging


class Hang(BaseException):
    """A reader took longer than the guard allows."""


@dataclass
class Tally:
    """Outcomes of one format, and the seeds of what must not happen."""

    outcomes: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[str, int, str]] = field(default_factory=list)

    def add(self, outcome: str, seed: int, detail: str) -> None:
        """Count one input."""
        self.outcomes[outcome] += 1
        if outcome in FAULTS:
            self.faults.append((outcome, seed, detail))


def damaged(chosen: Format, seed: int) -> tuple[int, bytes, bool]:
    """Return sample number, damaged bytes, and whether the damage lies below the checksums."""
    random = Random(seed)
    number = random.randrange(len(chosen.samples))
    sample = chosen.samples[number]
    if chosen.inside and random.random() < 0.5:
        return number, chosen.inside(sample, random), True
    return number, mutated(sample, random), False


def run(chosen: Format, seeds: range, folder: Path) -> Tally:
    """Read one damaged file per seed.

    Args:
        chosen: the format.
        seeds: one input each.
        folder: empty; the file lies there.
    """
    tally, path = Tally(), folder / chosen.file
    for name, data in chosen.beside:
        (folder / name).write_bytes(data)
    meanings = [_meaning(chosen, path, sample) for sample in chosen.samples]
    with bounded_memory(chosen.memory):
        for seed in seeds:
            number, data, inside = damaged(chosen, seed)
            outcome, detail = _outcome(chosen, path, data, meanings[number], inside)
            tally.add(outcome, seed, detail)
    return tally


def _meaning(chosen: Format, path: Path, data: bytes) -> Any:
    path.write_bytes(data)
    return chosen.read(path)


def _outcome(chosen: Format, path: Path, data: bytes, meaning: Any, inside: bool) -> tuple[str, str]:
    path.write_bytes(data)
    try:
        with no_longer_than(_PATIENCE), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a warning is no refusal: what was read must still be right
            found = chosen.read(path)
    except (PaletteBenchError, PngError, DecodeError) as error:
        return _code(error), ""
    except Hang:
        return "hang", traceback.format_exc()
    except MemoryError:
        return "memory", traceback.format_exc()
    except Exception:
        return "crash", traceback.format_exc()
    if len(list(path.parent.iterdir())) != 1 + len(chosen.beside):
        return "wrote", ", ".join(entry.name for entry in path.parent.iterdir())
    if found == meaning:
        return "same", ""
    return ("altered", "") if chosen.sealed and not inside else ("other", "")


def _code(error: Exception) -> str:
    if isinstance(error, PngError):
        return error.code
    if isinstance(error, DecodeError):
        return "PB309"  # as its callers report it
    problems = getattr(error, "problems", ())
    return problems[0].code if problems else type(error).__name__


@contextmanager
def no_longer_than(seconds: int) -> Iterator[None]:
    """Raise `Hang` in the block after some seconds."""

    def stop(*signal_and_frame: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def bounded_memory(extra: int) -> Iterator[None]:
    """Hold this process to `extra` bytes more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def main() -> int:
    """Run the command line; return 1 if anything happened that must not."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000, help="inputs per format")
    parser.add_argument("--format", help="one format instead of all")
    parser.add_argument("--seed", type=int, help="one input: show what happens to it")
    parser.add_argument("--write", action="store_true", help="put the lines into docs/trust.md")
    given = parser.parse_args()
    report = Report()
    logging.disable()  # readers warn of what they pass over, once per input
    with tempfile.TemporaryDirectory() as name:
        (samples := Path(name) / "samples").mkdir()
        table = formats(samples)
        seeds = range(given.count) if given.seed is None else range(given.seed, given.seed + 1)
        faults = 0
        for label in [given.format] if given.format else table:
            (folder := Path(name) / label).mkdir()
            faults += _report(report, label, run(table[label], seeds, folder), given.seed is not None)
    if given.write:
        report.write("mutate", f"python tests/faults/mutate.py --count {given.count}")
    return 1 if faults else 0


def _report(report: Report, label: str, tally: Tally, verbose: bool) -> int:
    counts = ", ".join(f"{outcome} {count:,}" for outcome, count in tally.outcomes.most_common())
    report.say(f"{label:<20} {sum(tally.outcomes.values()):>7,}  {counts}")
    kinds: dict[str, tuple[str, int, str]] = {}
    for fault in tally.faults:
        kinds.setdefault(fault[2].strip().rpartition("\n")[2][:24], fault)
    for last, (outcome, seed, detail) in kinds.items():
        report.say(f"  {outcome}  --format {label} --seed {seed}  {last}")
        if verbose:
            print(detail)
    return len(tally.faults)


if __name__ == "__main__":
    sys.exit(main())
