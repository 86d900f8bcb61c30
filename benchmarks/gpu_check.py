"""What a GPU computes, how fast, and whether a run on it survives: one command, at most 8 minutes.

    python benchmarks/gpu_check.py [-o FILE] [--device cuda] [--only PART ...]
    python benchmarks/gpu_check.py --device cpu --small    # every part, tiny, to try the script itself
    python benchmarks/gpu_check.py --fake                  # the GPU's code without a GPU: gpu_fake.py

The parts, each with a budget of seconds:

    agree       one set scored on the CPU and on the GPU: network scores within 1e-3 of each other, shares
                of images within one image
    throughput  images a second of the FID network and of a whole scoring, beside torch-fidelity on the same
                images and weights (metrics_speed.py), which must find the same
    speed       training steps and restoring beside diffusers' UNet2DModel of equal width, in bfloat16, with
                compile and channels last; predictions within 6e-2 of diffusers' in bfloat16 without levers
    group       a process group of one rank (NCCL; gloo on a CPU): every collective of the code, a score and
                training steps within 1e-6 of those without a group
    resume      a training run killed after its first checkpoint and begun again: a straight run's weights

It prints one table and writes it as JSON. A part that fails or runs out of time is told in its row, and the
others still run; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from model_contenders import SEED
from model_speed import THEIRS, make_images, make_work, row, started
from PIL import Image as PillowImage
from torch import nn

from palette_bench.baselines.training.checkpoint import TrainedRun, open_run
from palette_bench.baselines.training.presets import PRESETS
from palette_bench.baselines.training.unet import flop
from palette_bench.runtime.distributed import ProcessGroup, training_group

HERE = Path(__file__).resolve().parent
BUDGETS = {"agree": 90, "throughput": 90, "speed": 180, "group": 60, "resume": 50}  # seconds; 470 in all
SCORES, STEPS, BFLOAT16 = 1e-3, 1e-6, 6e-2  # tolerances, relative to the largest value
FID = "inception-v3-fid"
FIELDS = ("forward with resize", "end to end, cold")  # stages of metrics_speed.py

SIDES = (
    f"{THEIRS}+bf16",
    "ours+bf16",
    f"{THEIRS}+bf16+channels_last",
    "ours+bf16+channels_last",
    "ours+bf16+channels_last+fused_adam+device_noise",
    f"{THEIRS}+bf16+compile",
    "ours+bf16+compile",
    "ours+bf16+compile+channels_last+fused_adam+device_noise",
)

RECIPE = """\
schema = "palette-bench/recipe/1.0"
method = "palette"
[network]
preset = "{preset}"
[training]
batch = 4
steps = {steps}
learning_rate = 1e-3
warmup_steps = 2
ema_decay = 0.9
[checkpoints]
save_every = {save_every}
[log]
every = 1
strip_every = 0
"""


class PartError(Exception):
    """Why a part ended early."""


@dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
        scored: images of the set.
        extractors: networks of the scores.
        images: PNG files of the throughput.
        batch: of them.
        fields: stages of metrics_speed.py.
        sides: of model_speed.py.
        work: its options.
        preset: of the network that is trained and killed.
        steps: of those runs.
        save_every: steps between their checkpoints.
    """

    scored: int
    extractors: tuple[str, ...]
    images: int
    batch: int
    fields: tuple[str, ...]
    sides: tuple[str, ...]
    work: dict[str, Any]
    preset: str
    steps: int
    save_every: int


FULL = Size(
    scored=128,
    extractors=("efficientnet-lite0", FID),
    images=1024,
    batch=64,
    fields=FIELDS,
    sides=SIDES,
    work={"preset": "palette-64", "batch": 32, "warmup": 10, "steps": 30, "images": 64, "evaluations": 10},
    preset="palette-smoke",
    steps=120,
    save_every=20,
)
SMALL = Size(
    scored=6,
    extractors=("smoke-random",),
    images=4,
    batch=4,
    fields=FIELDS[:1],
    sides=SIDES[:2],
    work={"preset": "palette-toy", "batch": 2, "warmup": 1, "steps": 2, "images": 2, "evaluations": 2},
    preset="palette-toy",
    steps=12,
    save_every=3,
)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        part: it belongs to.
        what: was done.
        result: in words.
        sound: whether it is as it should be.
        figures: numbers behind the words.
    """

    part: str
    what: str
    result: str
    sound: bool
    figures: dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """Where a part works, on what, and until when.

    Attributes:
        folder: of all parts; later ones read what earlier ones left.
        device: "cpu" or "cuda".
        size: how much is done.
        deadline: of this part, on the clock of `time.monotonic`.
    """

    folder: Path
    device: str
    size: Size
    deadline: float

    @property
    def left(self) -> float:
        """Return the seconds left."""
        return self.deadline - time.monotonic()

    def run(self, command: Sequence[object], name: str, **more: str) -> str:
        """Run a child process to its end and return what it printed; its group is killed when time is up."""
        with self.begun(command, **more) as child:
            try:
                out, err = child.communicate(timeout=max(self.left, 0.01))
            except subprocess.TimeoutExpired:
                end(child)
                raise PartError(f"{name}: no time left") from None
        if child.returncode:
            last = [line for line in err.splitlines() if line.strip()][-3:]
            raise PartError(f"{name}: exit {child.returncode}: {' / '.join(last)[-400:]}")
        return str(out)

    def begun(self, command: Sequence[object], **more: str) -> subprocess.Popen[str]:
        """Start a child process, with a cache of its own unless `more` names one."""
        pipe = subprocess.PIPE
        environment = {**os.environ, "PALETTE_BENCH_CACHE": str(self.folder / "cache"), **more}
        words = [sys.executable, *map(str, command)]
        return subprocess.Popen(
            words, stdout=pipe, stderr=pipe, text=True, env=environment, start_new_session=True
        )

    def verb(self, *words: object, **more: str) -> str:
        """Run a verb of the command line."""
        return self.run(["-m", "palette_bench", "-q", *words], str(words[0]), **more)

    def launched(self, *command: object) -> str:
        """Run a command as the one rank of a process group."""
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 1)
        return self.run([*torchrun, *command], "torchrun", **thin(self.device))


def thin(device: str) -> dict[str, str]:
    """Return the environment of a rank: torchrun warns unless it is told a number of threads."""
    return {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1" if device == "cpu" else "4")}


def end(child: subprocess.Popen[str]) -> None:
    """Kill a child with its children, and read what they said."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


# scores of both devices


def agree(bench: Bench) -> Iterator[Row]:
    """Score one set on the CPU and on the device."""
    benchset, submission = bench.folder / "set", bench.folder / "submission"
    bench.verb("generate", "palette-mini", "jpeg/qf10", "--limit", bench.size.scored, "-o", benchset)
    bench.verb("restore", "copy-input", "--set", benchset, "-o", submission)
    for extractor in bench.size.extractors:
        cards = [scored(bench, extractor, device) for device in ("cpu", bench.device)]
        gaps = score_gaps(*cards)
        name = max(gaps, key=lambda key: gaps[key][0] / gaps[key][1])
        gap, granted = gaps[name]
        yield Row(
            "agree",
            f"{extractor}, {bench.size.scored} images, cpu and {bench.device}",
            f"{len(gaps)} scores; {name} differs most: {gap:.1e}, granted {granted:.1e}",
            all(gap <= granted for gap, granted in gaps.values()),
            {key: {"difference": gap, "granted": granted} for key, (gap, granted) in gaps.items()},
        )


def scored(bench: Bench, extractor: str, device: str) -> dict[str, Any]:
    """Return the card of a score; features of another device must not come from the cache."""
    out = bench.folder / "cards" / device / f"{extractor}.json"
    words = (*scoring(bench, extractor, device), "-o", out)
    cache = {"PALETTE_BENCH_CACHE": str(bench.folder / f"cache-{device}-{extractor}")}
    # of the device, to be compared with a rank's: threads of the CPU decide last bits of the closing step
    bench.verb(*words, **cache, **(thin(device) if device == bench.device else {}))
    card: dict[str, Any] = json.loads(out.read_text())
    return card


def scoring(bench: Bench, extractor: str, device: str) -> tuple[object, ...]:
    """Return the words that score the submission, without where to."""
    random = ("--weights", f"{FID}=random:0") if extractor == FID else ()
    asked = ("--extractor", extractor, *random, "--device", device)
    return ("score", bench.folder / "submission", "--set", bench.folder / "set", *asked)


def score_gaps(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Return the differences of the networks' scores, and what is granted to each."""
    gaps = {}
    for name, mine in one["scores"].items():
        theirs = other["scores"].get(name, {}).get("value")
        if mine["extractor"] is None or mine["value"] is None or theirs is None:
            continue
        gap = abs(mine["value"] - theirs)
        if mine["unit"] == "%":  # one image may fall on the other side
            gaps[name] = gap, 100 / one["n_scored"] + SCORES
        else:
            gaps[name] = gap / max(abs(mine["value"]), abs(theirs), 1e-6), SCORES
    if not gaps:
        raise PartError("the cards hold no scores of a network")
    return gaps


# images a second of scoring


def throughput(bench: Bench) -> Iterator[Row]:
    """Score beside torch-fidelity."""
    for field in bench.size.fields:
        file = bench.folder / "throughput.json"
        given = ["--images", bench.size.images, "--batch", bench.size.batch, "--device", bench.device]
        given += ["--repeats", 2, "--threads", 1 if bench.device == "cpu" else 8]
        given += ["--quick"] if bench.size is SMALL else []
        bench.run([HERE / "metrics_speed.py", *given, "--only", field, "--json", file], field)
        rows = json.loads(file.read_text())["stages"][field]
        # a forward pass is of one batch, a whole scoring of two folders
        images = bench.size.batch if field == FIELDS[0] else 2 * bench.size.images
        for name in ("ours", "torch-fidelity"):
            yield beside_fidelity(f"{field}, {name}", rows[name], images)


def beside_fidelity(what: str, figures: dict[str, Any], images: int) -> Row:
    """Return the row of a contender."""
    if "error" in figures:
        return Row("throughput", what, figures["error"], False, figures)
    told = f"{images / figures['wall']:,.1f} images/s"
    if "ratio" in figures:
        told += f"; {figures['ratio']:.2f} times our time, difference {figures['difference']:.1e}"
    return Row("throughput", what, told, figures.get("agrees", True), figures)


# training steps and restoring


def speed(bench: Bench) -> Iterator[Row]:
    """Train and restore beside diffusers, side by side."""
    folder = bench.folder / "speed"
    folder.mkdir()
    threads = 1 if bench.device == "cpu" else 8
    options = argparse.Namespace(device=bench.device, threads=threads, **bench.size.work)
    make_work(folder, options)
    operations = flop(PRESETS[options.preset])
    theirs: SimpleNamespace | None = None
    for side in bench.size.sides:
        found = worked(side, folder, threads, bench)
        theirs = theirs or found
        figures = row(found, theirs, operations)  # type: ignore[arg-type]
        yield described(side, figures)


def worked(side: str, folder: Path, threads: int, bench: Bench) -> SimpleNamespace:
    """Return the answers of a side to all orders, each in the time that is left."""
    orders = ("agree", "product", "forward", "train", "restore", "memory")
    child = started(side, folder, threads)
    try:
        out, _ = child.communicate("".join(f"{order}\n" for order in orders), timeout=max(bench.left, 0.01))
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return SimpleNamespace(side=side, found={}, error="no time left")
    ready, *answers = map(json.loads, out.splitlines() or ['{"error": "its process ended"}'])
    found = {order: [answer] for order, answer in zip(orders, answers, strict=False) if "error" not in answer}
    error = next((a["error"] for a in (ready, *answers) if "error" in a), None)
    missing = [order for order in orders if order not in found]
    return SimpleNamespace(side=side, found=found, error=error or (missing and f"no {missing[0]}") or None)


def described(side: str, figures: dict[str, Any]) -> Row:
    """Return the row of a side."""
    if "error" in figures:
        return Row("speed", side, str(figures["error"]), False, figures)
    rates, memory = figures["images_per_second"], figures["peak_memory_bytes"] / 2**20
    told = [f"{work} {rates[work]['median']:,.1f}" for work in ("train", "restore")]
    if "ratio" in figures:
        told = [f"{t} (x {figures['ratio'][t.split()[0]]['median']:.2f})" for t in told]
    gap = figures.get("difference")
    told += [f"{memory:,.0f} MiB", f"{figures['share_of_product']:.0%} of a product"]
    told += [] if gap is None else [f"difference {gap:.1e}"]
    return Row("speed", side, "images/s: " + ", ".join(told), gap is None or gap <= BFLOAT16, figures)


# a process group


class Grouped(int):
    """A number of ranks, 1, that does not take the short cut of a run without a group."""

    __hash__ = int.__hash__

    def __eq__(self, other: object) -> bool:
        """Return False: it is not the 1 that skips collectives."""
        return False

    def __gt__(self, other: int) -> bool:
        """Return True."""
        return True


def collectives(device: str) -> None:
    """Use every collective of the code in a group; run as a rank under torchrun."""
    with training_group(device) as alone:
        world = ProcessGroup(alone.rank, Grouped(alone.size), alone.device)
        assert world.run_on_main(lambda: "told") == "told"
        assert world.run_on_all(lambda: 2) == 2
        assert world.gather(lambda: 3) == [3] == world.all_gather(lambda: 3)
        world.require_equal("set", "same")
        assert world.union({4}) == {4}
        assert float(world.sum(torch.full((), 5.0, dtype=torch.float64, device=world.device))) == 5.0
        world.wait()
        torch.manual_seed(SEED)
        plain = nn.Linear(3, 2).to(world.device)
        images = torch.randn(4, 3, device=world.device)
        wanted = torch.autograd.grad(plain(images).square().sum(), plain.weight)[0]
        world.wrap(plain)(images).square().sum().backward()
        assert plain.weight.grad is not None
        assert torch.equal(plain.weight.grad, wanted)
        print(torch.distributed.get_backend(), alone.device)


def group(bench: Bench) -> Iterator[Row]:
    """Run collectives, a score and training steps as the one rank of a group."""
    start = time.monotonic()
    told = bench.launched(Path(__file__).resolve(), "--collectives", "--device", bench.device)
    backend = "gloo" if bench.device == "cpu" else "nccl"
    seconds = {"seconds": round(time.monotonic() - start, 1)}
    yield Row("group", "collectives", told.strip(), told.startswith(backend), seconds)
    extractor = bench.size.extractors[0]
    alone = bench.folder / "cards" / bench.device / f"{extractor}.json"
    if not alone.exists():
        raise PartError("the score without a group is missing: run part agree, too")
    out = bench.folder / "cards" / "group.json"
    bench.launched(
        "-m", "palette_bench", "--", *scoring(bench, extractor, bench.device), "--fresh", "-o", out
    )
    gaps = score_gaps(*(json.loads(file.read_text()) for file in (alone, out)))
    gap = max(found for found, _ in gaps.values())
    told = f"{len(gaps)} scores differ by {gap:.1e} at most, granted {STEPS:.0e}"
    yield Row("group", f"score, {extractor}", told, gap <= STEPS, {"difference": gap})
    run = bench.folder / "run-group"
    bench.launched("-m", "palette_bench", "--", *training(bench, run))
    gap = weights_gap(open_run(run), straight(bench))
    told = f"weights differ by {gap:.1e}, granted {STEPS:.0e}"
    yield Row("group", f"{bench.size.steps} training steps", told, gap <= STEPS, {"difference": gap})


def straight(bench: Bench) -> TrainedRun:
    """Return the training run that nothing disturbs; parts share it."""
    run = bench.folder / "run-straight"
    if not run.exists():
        bench.verb(*training(bench, run), **thin(bench.device))
    return open_run(run)


def training(bench: Bench, run: Path) -> tuple[object, ...]:
    """Return the words that train; the first call writes images and recipe."""
    data, recipe = bench.folder / "pictures", bench.folder / "recipe.toml"
    if not recipe.exists():
        data.mkdir()
        for i, pixels in enumerate(make_images(16, 64)):
            PillowImage.fromarray(pixels).save(data / f"{i:02d}.png")
        size = bench.size
        recipe.write_text(RECIPE.format(preset=size.preset, steps=size.steps, save_every=size.save_every))
    given = ("--task", "inpainting", "--data", data, "--recipe", recipe, "-o", run)
    return ("train", "palette", *given, "--device", bench.device, "--deterministic")


def weights_gap(one: TrainedRun, other: TrainedRun) -> float:
    """Return the largest difference of two runs' weights."""
    return max(float((one.tensors[n] - other.tensors[n]).abs().max()) for n in one.tensors)


# killed and begun again


def resume(bench: Bench) -> Iterator[Row]:
    """Kill a run after its first checkpoint, go on, and compare with a straight run."""
    killed = bench.folder / "run-killed"
    command = ["-m", "palette_bench", "-q", *training(bench, killed)]
    with bench.begun(command, **thin(bench.device)) as child:
        while child.poll() is None and not list(killed.glob("checkpoints/step-*")) and bench.left > 0:
            time.sleep(0.01)
        end(child)
    if child.returncode != -signal.SIGKILL:
        raise PartError(f"it ended before it was killed: exit {child.returncode}")
    last = max((path.name for path in killed.glob("checkpoints/step-*")), default="no checkpoint")
    bench.verb(*training(bench, killed), **thin(bench.device))
    found, wanted = open_run(killed), straight(bench)
    same = found.sha256 == wanted.sha256 and found.step == wanted.step == bench.size.steps
    gap = weights_gap(found, wanted)
    told = f"killed at {last}; " + ("the same weights" if same else f"weights differ by {gap:.1e}")
    yield Row("resume", f"{bench.size.steps} training steps", told, same, {"difference": gap})


# all parts

PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    part.__name__: part for part in (agree, throughput, speed, group, resume)
}


def checked(folder: Path, options: argparse.Namespace) -> tuple[list[Row], dict[str, float]]:
    """Run the parts and print their rows; return them, and the seconds of each part."""
    rows: list[Row] = []
    seconds = {}
    for name in options.only:
        start = time.monotonic()
        bench = Bench(folder, options.device, SMALL if options.small else FULL, start + BUDGETS[name])
        try:
            for found in PARTS[name](bench):
                rows.append(found)
                print(line(found), flush=True)
        except Exception as error:  # a failed part is a row, and the others still run
            reason = str(error).strip().partition("\n")[0] if not isinstance(error, PartError) else str(error)
            rows.append(Row(name, "failed", f"{type(error).__name__}: {reason}", False, {}))
            print(line(rows[-1]), flush=True)
        seconds[name] = round(time.monotonic() - start, 1)
    return rows, seconds


def line(found: Row) -> str:
    """Return a row of the table."""
    mark = "ok" if found.sound else "NOT"
    return f"{found.part:<11}{mark:<5}{found.what:<56}{found.result}"


def machine(options: argparse.Namespace) -> str:
    """Return versions and device."""
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or "cpu"
    return f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"


def faked(options: argparse.Namespace) -> bool:
    """Run the GPU's code under fake tensors; return whether all of it did."""
    from gpu_fake import described as told  # noqa: PLC0415  # it imports methods that no other part needs
    from gpu_fake import run_all  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        found = run_all(Path(folder))
    print(told(found))
    if options.out:
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    return not any(part["error"] for part in found["parts"].values())


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes")
    parser.add_argument("--fake", action="store_true", help="no GPU: fake tensors")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("-o", "--out", type=Path, metavar="FILE")
    parser.add_argument("--collectives", action="store_true", help=argparse.SUPPRESS)  # a rank of part group
    return parser.parse_args()


def main() -> None:
    options = parsed()
    if options.fake:
        sys.exit(0 if faked(options) else 1)
    if options.collectives:
        collectives(options.device)
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no GPU that torch can use: --device cpu --small or --fake run without one")
    print(machine(options), flush=True)
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        rows, seconds = checked(Path(folder), options)
    print("seconds: " + ", ".join(f"{name} {taken}" for name, taken in seconds.items()))
    if options.out:
        found = {"machine": machine(options), "seconds": seconds, "rows": [asdict(r) for r in rows]}
        options.out.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(0 if all(r.sound for r in rows) else 1)


if __name__ == "__main__":
    main()
