"""Kill verbs at seeded writes, run them again, and compare with an undisturbed run.

    python tests/faults/kills.py --kills 20                every verb
    python tests/faults/kills.py --verb train --kills 3    one

Each kill is a `kill -9` at a write, a sync or a rename drawn from a seed, half of the bytes written. After
every kill all files under final names are compared with those of the undisturbed run; a run that ends is
compared as a whole. The study server, whose votes a database holds, is killed in its own journey.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from random import Random

sys.path.append(
    str(Path(__file__).parents[1])
)  # run as a script, the other modules of the tests are not found

from page import Report
from shims import FaultyOs, kill, standing_in

from palette_bench.cli import exit_code, main
from palette_bench.core import atomic
from palette_bench.core.fingerprint import sha256
from palette_bench.core.journal import is_ours


@dataclass(frozen=True)
class Verb:
    """A verb to be killed.

    Attributes:
        prepare: makes what it reads, in a folder of inputs.
        run: runs it once, from inputs to an output folder; returns an exit code.
        volatile: names of final files that carry times, and so differ from run to run.
    modules: slow imports, done once before the children are forked.
    """

    prepare: Callable[[Path], None]
    run: Callable[[Path, Path], int]
    volatile: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


def _cli(*words: object) -> int:
    sys.argv = ["palette-bench", *map(str, words)]
    return exit_code(main)


def _set(inputs: Path) -> None:
    _cli("-q", "generate", "smoke", "jpeg/qf5", "-o", inputs / "set", "--workers", 1)


def _submission(inputs: Path) -> None:
    _set(inputs)
    _cli("-q", "restore", "copy-input", "--set", inputs / "set", "-o", inputs / "sub")


def _score(inputs: Path, out: Path) -> int:
    options = ("--set", inputs / "set", "--extractor", "smoke-random", "-o", out / "card.json")
    return _cli("-q", "score", inputs / "sub", *options)


def _cards(inputs: Path) -> None:
    from cards import make_card, make_table

    from palette_bench.scoring.scorecard import write_scorecard

    for number in range(2):
        table = make_table([f"p{i:02d}" for i in range(20)], seed=number)
        write_scorecard(make_card(table, f"method-{number}"), table, inputs / f"card{number}.json")


def _board(inputs: Path, out: Path) -> int:
    cards = sorted(inputs.glob("card?.json"))
    codes = [_cli("-q", "board", "add", card, "--record", out / "record") for card in cards]
    return max(*codes, _cli("-q", "board", "build", out / "record", "-o", out / "site"))


def _pack(inputs: Path) -> None:
    from toy_method import write_pack

    inputs.mkdir(exist_ok=True)
    write_pack(inputs / "pack.safetensors")


def _train(inputs: Path, out: Path) -> int:
    from toy_method import Toy, run_toy

    run_toy(Toy(), inputs / "pack.safetensors", out / "run")
    return 0


_NETWORK = "palette_bench.scoring.features.smoke_random"
VERBS = {
    "generate": Verb(
        lambda inputs: None,
        lambda inputs, out: _cli("-q", "generate", "smoke", "jpeg/qf5", "-o", out, "--workers", 1),
    ),
    "restore": Verb(
        _set,
        lambda inputs, out: _cli("-q", "restore", "copy-input", "--set", inputs / "set", "-o", out),
        ("submission.toml",),  # names the seconds an image took
    ),
    "restore-tars": Verb(
        _set,
        lambda inputs, out: _cli(
            *("-q", "restore", "copy-input", "--set", inputs / "set", "-o", out, "--batch", 2),
            *("--samples", 2, "--shards", "tar"),
        ),
        ("submission.toml",),
    ),
    "score": Verb(_submission, _score, modules=("palette_bench.scoring.score", _NETWORK)),
    "board": Verb(_cards, _board, modules=("palette_bench.board.site", "palette_bench.board.record")),
    "train": Verb(_pack, _train, ("log.jsonl", "state.json", "samples"), ("toy_method",)),
}


def final_files(folder: Path) -> dict[str, str]:
    """Return the digest of every file under a final name; journals, locks and temporaries are none."""
    files = {
        path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()
    }
    return {
        name: sha256(path.read_bytes())
        for name, path in files.items()
        if not any(is_ours(part) or part == "tensorboard" for part in Path(name).parts)  # named by the time
    }


def in_child(function: Callable[[], int]) -> int:
    """Return how a forked child ended that ran `function`: its exit code, or minus the signal."""
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        logging.disable()
        os._exit(function())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_run(verb: Verb, inputs: Path, out: Path, at: int) -> int:
    """Run a verb that dies at write `at`; return how it ended."""

    def run() -> int:
        with standing_in(FaultyOs(kill, at)):
            return verb.run(inputs, out)

    return in_child(run)


def count_writes(verb: Verb, inputs: Path, out: Path) -> int:
    """Run a verb undisturbed in a child; return how often it changes the disk."""
    read, write = os.pipe()

    def run() -> int:
        with standing_in(FaultyOs()) as shim:
            code = verb.run(inputs, out)
        os.write(write, str(len(shim.calls)).encode())
        return code

    code = in_child(run)
    assert code == 0, f"the undisturbed run ends with {code}"
    return int(os.read(read, 20))


def differences(verb: Verb, expected: dict[str, str], found: dict[str, str], whole: bool) -> list[str]:
    """Return the final files that differ from the undisturbed run's, and those absent from a whole run."""
    fixed = {n for n in expected if not set(Path(n).parts) & set(verb.volatile)}
    faults = [f"{name} differs" for name in sorted(fixed & found.keys()) if found[name] != expected[name]]
    faults += [f"{name} is foreign" for name in sorted(found.keys() - expected.keys()) if whole]
    return faults + (
        [f"{name} is absent" for name in sorted(expected.keys() - found.keys())] if whole else []
    )


def kill_loop(verb: Verb, kills: int, seed: int, base: Path) -> tuple[int, list[str]]:
    """Kill a verb again and again; return how often it ended before its kill, and what differed."""
    inputs, straight, out = base / "inputs", base / "straight", base / "out"
    for module in verb.modules:
        import_module(module)
    inputs.mkdir()
    in_child(lambda: verb.prepare(inputs) or 0)
    writes = count_writes(verb, inputs, straight)
    expected, random = final_files(straight), Random(seed)
    ended, faults, struck = 0, [], 0
    while struck < kills:
        code = killed_run(verb, inputs, out, random.randint(1, writes))
        struck += code == -9
        ended += code == 0
        faults += [f"ended with {code}"] * (code not in (0, -9))
        faults += differences(verb, expected, final_files(out), whole=code == 0)
        if code != -9:
            atomic.remove_folder(out)
    code = in_child(lambda: verb.run(inputs, out))
    faults += [f"the last run ended with {code}"] * (code != 0)
    left = [path.name for path in out.rglob("*") if atomic.is_temporary(path.name)]
    faults += [f"{name} left behind" for name in left]
    return ended, faults + differences(verb, expected, final_files(out), whole=True)


def run() -> int:
    """Run the command line; return 1 if anything differed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="per verb")
    parser.add_argument("--verb", choices=VERBS, help="one verb instead of all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="put the lines into docs/trust.md")
    given = parser.parse_args()
    failed, report = 0, Report()
    for name in [given.verb] if given.verb else VERBS:
        with tempfile.TemporaryDirectory() as folder:
            os.environ["PALETTE_BENCH_CACHE"] = f"{folder}/cache"
            os.environ["SOURCE_DATE_EPOCH"] = "1700000000"  # cards carry the day
            ended, faults = kill_loop(VERBS[name], given.kills, given.seed, Path(folder))
        report.say(f"{name:<10} {given.kills} kills, {ended} runs between them ended: {len(faults)} faults")
        for fault in sorted(set(faults)):
            report.say(f"  {fault}")
        failed += len(faults)
    if given.write:
        report.write("kills", f"python tests/faults/kills.py --kills {given.kills}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run())
