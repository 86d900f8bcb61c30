"""Kill shards of a whole job array at random, repeat and reorder them, and compare with one process.

    python tests/faults/shard_kills.py --shards 8 --kills 20
    python tests/faults/shard_kills.py --shards 3 --kills 6 --images 32

A set is generated, restored and scored by shards. A kill is a `kill -9` at a write, a sync or a rename that a
seed draws, half of the bytes written. Then the shards run in a drawn order, two at a time, some of them
twice and one late. Every final file must equal that of a single process.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from random import Random

sys.path.append(str(Path(__file__).parents[1]))  # run as a script, other modules of the tests are not found

from kills import final_files
from shims import FaultyOs, kill, standing_in

from palette_bench.cli import exit_code, main
from palette_bench.core import atomic

VERBS = {
    "generate": "generate palette-mini jpeg/qf5 -o {out}/set --workers 1 --limit {images}",
    "restore": "restore copy-input --set {set} -o {out}/sub --batch 4",
    "score": "score {sub} --set {set} -o {out}/card.json --extractor smoke-random",
}
VOLATILE = {"submission.toml"}  # names the seconds an image took
# what the verbs import, done once before the children are forked
MODULES = (
    *(f"palette_bench.cli.{verb}" for verb in VERBS),
    *("palette_bench.benchset.generate", "palette_bench.submission.restore"),
    *("palette_bench.baselines.copy_input", "palette_bench.pages.text"),
    *("palette_bench.scoring.shards", "palette_bench.scoring.features.smoke_random"),
)


def start(words: list[str], at: int = 0) -> int:
    """Run a command in a forked child, which dies at its write `at`, and return the child's id."""
    child = os.fork()
    if child:
        return child
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    logging.disable()
    sys.argv = ["palette-bench", "-q", *words]
    with standing_in(FaultyOs(kill, at)):
        os._exit(exit_code(main))


def end(child: int) -> int:
    """Return how a child ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def results(folder: Path) -> dict[str, str]:
    """Return the digest of every final file but parts and times."""
    found = final_files(folder)
    return {n: digest for n, digest in found.items() if not n.startswith("card.parts/") and n not in VOLATILE}


def same(found: dict[str, str], expected: dict[str, str], *, whole: bool) -> list[str]:
    """Return what differs from the files of one process; a run that is not whole may lack some."""
    faults = [f"{name} differs" for name in found.keys() & expected.keys() if found[name] != expected[name]]
    faults += [f"{name} is foreign" for name in found.keys() - expected.keys()]
    return faults + [f"{name} is absent" for name in expected.keys() - found.keys() if whole]


def array(
    words: list[str], out: Path, shards: int, kills: int, random: Random
) -> tuple[list[int], list[str]]:
    """Run a command as a job array under kills; return the exit codes of its runs and how it failed."""
    codes: list[int] = []

    def shard(index: int) -> list[str]:
        return [*words, "--shard", f"{index}/{shards}"]

    while codes.count(-9) < kills:
        pair = random.sample(range(shards), 2)
        children = [start(shard(index), random.randint(1, 40)) for index in pair]
        codes += [end(child) for child in children]
        if codes[-2:] == [0, 0] and len(codes) > 6 * kills:  # all is done: there is nothing left to kill
            atomic.remove_folder(out)
    order = [*range(shards), *random.choices(range(shards), k=2)]
    random.shuffle(order)
    for first, second in zip(order[::2], [*order[1::2], None][: (len(order) + 1) // 2], strict=True):
        pair = [first] if second in (None, first) else [first, second]
        codes += [end(child) for child in [start(shard(index)) for index in pair]]
    return codes, [f"ended with {code}" for code in codes if code not in (0, -9)]


def run() -> int:
    """Run the command line; return 1 if anything differed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--kills", type=int, default=20, help="over all verbs")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random, failed = Random(given.seed), 0
    for module in MODULES:
        import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        os.environ["SOURCE_DATE_EPOCH"] = "1700000000"  # cards carry the day
        one = base / "one"
        sources = {"set": one / "set", "sub": one / "sub", "images": given.images}
        for number, (verb, line) in enumerate(VERBS.items()):
            kills = given.kills // 3 + (number < given.kills % 3)
            os.environ["PALETTE_BENCH_CACHE"] = str(base / "cache-one")
            assert end(start(line.format(out=one, **sources).split())) == 0, f"{verb} fails undisturbed"
            os.environ["PALETTE_BENCH_CACHE"] = str(base / "cache-shards")
            out = base / "shards" / verb
            words = line.format(out=out, **sources).split()
            codes, faults = array(words, out, given.shards, kills, random)
            made = {"generate": "set", "restore": "sub", "score": ""}[verb]
            expected = results(one / made)
            if not made:
                expected = {name: digest for name, digest in expected.items() if name.startswith("card.")}
            faults += same(results(out / made), expected, whole=True)
            late = end(start([*words, "--shard", f"1/{given.shards}"]))
            faults += [f"a late shard ended with {late}"] * (late != 0)
            faults += same(results(out / made), expected, whole=True)
            left = [path.name for path in out.rglob("*") if atomic.is_temporary(path.name)]
            faults += [f"{name} left behind" for name in left]
            ended, struck = codes.count(0), codes.count(-9)
            said = f"{given.shards} shards, {struck} kills, {ended} runs ended, {len(expected)} files"
            print(f"{verb:<9} {said}: {len(faults)} faults")
            for fault in sorted(set(faults)):
                print(f"  {fault}")
            failed += len(faults)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run())
