"""Whether the whole chain bears the paper's number of images: time, memory, bytes and growth of every stage.

    python benchmarks/full_size.py IMAGES_DIR -o WORK [--n 10000] [--json FILE]
        [--sets SET ...] [--extractors ID ...] [--workers 2] [--seed 0]

It makes N JPEG files of the sizes that ImageNet has out of the pictures in IMAGES_DIR: crops, half of them
mirrored, compressed anew; equal seeds give equal files. On N/10 of them, then on N, it runs the command line
in child processes: all 13 sets of palette-2022, and on --sets copy-input, check, scores (the FID network with
random weights), reports, boards, and the export for outside tools.

Peak memory is that of all processes of a stage together, bytes are those of the files it leaves. The run
stops with exit code 1 at a stage that takes more than 5 s and whose time grew by more than 1.25 times
the images, or whose memory grew by more than half as many times as the images and by 64 MB: something
then holds them all. A command that fails ends it with exit code 2. Finished stages are kept in WORK: run
again to go on. A stage that was stopped begins anew, and other settings begin everything anew.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image as PillowImage

PROTOCOL, SOURCE = "palette-2022", "folder:full-size"
SETS = ("jpeg/qf10", "inpainting/center128")
EXTRACTORS = ("efficientnet-lite0", "inception-v3-fid")
RANDOM = {"inception-v3-fid": "random:0"}  # its file is large and its licence unclear; the work is the same
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}

# Width, height and share of the validation images, rounded; the last rows stand for a long tail
SIZES = (
    *((500, 375, 0.56), (375, 500, 0.15), (500, 333, 0.11), (333, 500, 0.05), (500, 500, 0.03)),
    *((500, 400, 0.02), (400, 300, 0.02), (640, 480, 0.02), (800, 600, 0.015), (1024, 768, 0.01)),
    *((300, 225, 0.01), (2048, 1536, 0.003), (1600, 1200, 0.002)),
)

TIME_RATIO, SECONDS = 1.25, 5.0  # a time below is mostly start-up
MEMORY_SHARE, MEGABYTES = 0.5, 64.0  # allocators and file caches of small processes move by less
POLL = 0.2  # seconds between two looks at memory


class GrowthError(Exception):
    """A stage that grows faster than the images; the message names it."""


class CommandError(Exception):
    """A command that failed, with what it said."""


# pictures


def make_pictures(images: Path, out: Path, count: int, seed: int, workers: int) -> Path:
    """Write `count` pictures; those of an earlier run with the same seed stay."""
    out.mkdir(parents=True, exist_ok=True)
    found = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise CommandError(f"{images} holds no {', '.join(sorted(SUFFIXES))} files")
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(make_picture, found, out, seed), range(count), chunksize=16))
    return out


def make_picture(found: Sequence[Path], out: Path, seed: int, number: int) -> None:
    """Write one picture, whole or not at all."""
    place = out / f"{number:06d}.jpg"
    if place.exists():
        return
    rng = np.random.default_rng([seed, number])
    shares = np.array([share for *_, share in SIZES])
    width, height, _ = SIZES[rng.choice(len(SIZES), p=shares / shares.sum())]
    with PillowImage.open(found[number % len(found)]) as image:
        picture = image.convert("RGB")
    # the largest box of these proportions, times 0.6 to 1: no two crops of one picture are equal
    scale = min(picture.width / width, picture.height / height) * rng.uniform(0.6, 1.0)
    box = (scale * width, scale * height)
    left, top = (rng.uniform(0, side - part) for side, part in zip(picture.size, box, strict=True))
    crop = picture.resize(
        (width, height), PillowImage.Resampling.BICUBIC, box=(left, top, left + box[0], top + box[1])
    )
    if rng.random() < 0.5:
        crop = crop.transpose(PillowImage.Transpose.FLIP_LEFT_RIGHT)
    file = io.BytesIO()
    crop.save(file, "JPEG", quality=int(rng.integers(75, 97)))
    part = place.with_suffix(".part")
    part.write_bytes(file.getvalue())
    part.rename(place)


# one stage


@dataclass(frozen=True)
class Figures:
    """What a stage took.

    Attributes:
        items: images it worked on, those of all its sets.
        seconds: wall time.
        megabytes: peak memory of its processes together.
        written: bytes of the files it left.
    """

    items: int
    seconds: float
    megabytes: float
    written: int

    @property
    def rate(self) -> float:
        """Return images per second."""
        return self.items / self.seconds


@dataclass(frozen=True)
class StageRun:
    """Commands that make a stage.

    Attributes:
        name: of the stage.
        items: images it works on.
        outs: files and folders it makes; what is there before is removed.
        commands: words of the command line, one row for each.
    """

    name: str
    items: int
    outs: tuple[Path, ...]
    commands: tuple[tuple[object, ...], ...]


def run_stage(stage: StageRun, folder: Path) -> Figures:
    """Run the commands of a stage; return what they took.

    Args:
        stage: the commands.
        folder: of this size; what its cache grows by is counted, too.
    """
    for out in stage.outs:
        if out.is_dir():
            shutil.rmtree(out)
        out.unlink(missing_ok=True)
        out.parent.mkdir(parents=True, exist_ok=True)
    before = size_of(folder / "cache")
    start, peak = time.perf_counter(), 0.0
    for command in stage.commands:
        peak = max(peak, run_command(command, folder))
    seconds = time.perf_counter() - start
    written = sum(map(size_of, (*stage.outs, folder / "cache"))) - before
    return Figures(stage.items, seconds, peak, written)


def run_command(words: Sequence[object], folder: Path) -> float:
    """Run a verb of the command line; return the peak memory of its processes, MB."""
    command = [sys.executable, "-m", "palette_bench", "-q", *map(str, words)]
    environment = {**os.environ, "PALETTE_BENCH_CACHE": str(folder / "cache")}
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True
        )
        peak = peak_memory(process)
        if process.returncode:
            raise CommandError(f"{' '.join(command[1:])}: exit {process.returncode}\n{last_lines(said)}")
    return peak


def last_lines(file: IO[str], count: int = 12) -> str:
    """Return the end of what a command said."""
    file.seek(0)
    return "\n".join(file.read().splitlines()[-count:])


def peak_memory(process: subprocess.Popen[bytes]) -> float:
    """Wait until a process ends; return the most megabytes that it and its children held together.

    Where /proc does not tell, it is the largest of its processes alone, and at least what this process held
    when it started the other: the kernel counts that in.
    """
    peak = 0
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return (peak or usage.ru_maxrss) / 1024
        together = sum(map(shared_fairly, session(process.pid)))
        peak = max(peak, together, kilobytes(process.pid, "status", "VmHWM:"))
        time.sleep(POLL)


def session(leader: int) -> Iterator[int]:
    """Yield the processes of a session, for which a stage's child was started as the leader."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended
            continue
        if int(fields[3]) == leader:
            yield int(entry.name)


def shared_fairly(pid: int) -> int:
    """Return kilobytes of a process; pages of several processes are divided among them."""
    return kilobytes(pid, "smaps_rollup", "Pss:")


def kilobytes(pid: int, file: str, row: str) -> int:
    """Return a row of a file under /proc, or 0 if it cannot be read."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(row)), 0)


def size_of(place: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    if place.is_file():
        return place.stat().st_size
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


# the chain


def stages(folder: Path, pictures: Path, options: argparse.Namespace, n: int) -> Iterator[StageRun]:
    """Yield the stages of the chain on the first n pictures."""
    names = [name.replace("/", ".") for name in options.sets]
    sets, subs = folder / "sets", folder / "submissions"
    every = n * len(names)
    generate = ("generate", PROTOCOL, "all", "--source", SOURCE, "--images", pictures, "-o", sets)
    yield StageRun("generate", 13 * n, (sets,), ((*generate, "--workers", options.workers),))
    yield StageRun(
        "restore",
        every,
        (subs,),
        tuple(("restore", "copy-input", "--set", sets / name, "-o", subs / name) for name in names),
    )
    yield StageRun("check", every, (), tuple(("check", subs / name, "--set", sets / name) for name in names))
    for extractor in options.extractors:
        yield scoring(extractor, folder, names, every)
    cards = [folder / "cards" / options.extractors[0] / f"{name}.json" for name in names]
    # with images, which `auto` leaves out: nobody said that those of a folder may be passed on
    shown = [
        ("report", card, "--set", sets / name, "--submission", subs / name, "--images", "full")
        for card, name in zip(cards, names, strict=True)
    ]
    for form, suffix in (("file", ".html"), ("dir", "")):
        out = folder / f"reports-{form}"
        ends = [("--format", form, "-o", out / f"{name}{suffix}") for name in names]
        commands = tuple((*words, *end) for words, end in zip(shown, ends, strict=True))
        # `report` makes no parent folders of a page
        yield StageRun(f"report, {form}", every, tuple(out / f"{name}{suffix}" for name in names), commands)
    record, site = folder / "record", folder / "site"
    build = (("board", "add", *cards, "--record", record), ("board", "build", record, "-o", site))
    yield StageRun("board", every, (record, site), build)
    out = folder / "exported"
    tool = ("restore", "adapter:folder", "--set")
    yield StageRun(
        "export", every, (out,), tuple((*tool, sets / name, "--export", out / name) for name in names)
    )


def scoring(extractor: str, folder: Path, names: Sequence[str], items: int) -> StageRun:
    """Return the stage that scores all submissions with one network."""
    weights = ("--weights", f"{extractor}={RANDOM[extractor]}") if extractor in RANDOM else ()
    cards = folder / "cards" / extractor
    commands = tuple(
        (
            *("score", folder / "submissions" / name, "--set", folder / "sets" / name),
            *("-o", cards / f"{name}.json", "--extractor", extractor, *weights),
        )
        for name in names
    )
    return StageRun(f"score, {extractor}", items, (cards,), commands)


def finished(folder: Path, settings: dict[str, object]) -> dict[str, Figures]:
    """Return the stages of an earlier run with these settings; what other settings made is removed."""
    given = json.dumps(settings, sort_keys=True)
    record = folder / "stages.json"
    if record.exists() and (found := json.loads(record.read_text()))["settings"] == given:
        return {name: Figures(**figures) for name, figures in found["stages"].items()}
    if record.exists():  # only a folder that this script made
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    keep(folder, settings, {})
    return {}


def keep(folder: Path, settings: dict[str, object], done: dict[str, Figures]) -> None:
    """Write which stages are done."""
    found = {
        "settings": json.dumps(settings, sort_keys=True),
        "stages": {k: asdict(v) for k, v in done.items()},
    }
    part = folder / "stages.part"
    part.write_text(json.dumps(found, indent=2) + "\n")
    part.rename(folder / "stages.json")


def run_size(
    n: int, options: argparse.Namespace, compare: Callable[[str, Figures], None]
) -> dict[str, Figures]:
    """Run the chain on n pictures, stage by stage; `compare` may stop it."""
    folder = options.out / f"n{n}"
    settings = {
        "images": hashlib.sha256(str(options.images.resolve()).encode()).hexdigest()[:12],
        **{name: getattr(options, name) for name in ("seed", "sets", "extractors", "workers")},
    }
    done = finished(folder, settings)
    pictures = make_pictures(options.images, folder / "pictures", n, options.seed, options.workers)
    for stage in stages(folder, pictures, options, n):
        if stage.name not in done:
            done[stage.name] = run_stage(stage, folder)
            keep(folder, settings, done)
        compare(stage.name, done[stage.name])
    return done


# figures


def growth(few: Figures, many: Figures) -> tuple[float, float]:
    """Return the ratios of time and of memory from N/10 to N."""
    return many.seconds / few.seconds, many.megabytes / max(few.megabytes, 1.0)


def fault(few: Figures, many: Figures) -> str | None:
    """Return in which way a stage grows faster than its images, or None."""
    times, memory = growth(few, many)
    images = many.items / few.items
    if many.seconds > SECONDS and times > TIME_RATIO * images:
        return f"{images:.3g} times the images took {times:.1f} times the time"
    if memory > MEMORY_SHARE * images and many.megabytes - few.megabytes > MEGABYTES:
        return f"memory grew from {few.megabytes:,.0f} to {many.megabytes:,.0f} MB"
    return None


HEAD = (
    f"{'stage':<26}{'images':>8}{'seconds':>9}{'images/s':>10}{'peak MB':>9}{'MB written':>12}"
    f"{'time x':>8}{'memory x':>10}"
)


def line(name: str, figures: Figures, few: Figures | None) -> str:
    """Return a row of the table; without `few` there is no growth to tell."""
    row = (
        f"{name:<26}{figures.items:>8,}{figures.seconds:>9.1f}{figures.rate:>10.1f}"
        f"{figures.megabytes:>9,.0f}{figures.written / 1e6:>12,.1f}"
    )
    return row if few is None else row + "{:>8.2f}{:>10.2f}".format(*growth(few, figures))


def judge(few: dict[str, Figures], name: str, figures: Figures) -> None:
    """Print a row of N and stop at a stage that grows faster than its images."""
    print(line(name, figures, few[name]), flush=True)
    if reason := fault(few[name], figures):
        raise GrowthError(f"{name} grows too fast: {reason}")


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Run both sizes; return their figures, and why it stopped early if it did."""
    found: dict[str, object] = {"n": options.n, "few": options.n // 10}
    print(f"{options.n // 10:,} pictures\n{HEAD}", flush=True)
    few = run_size(options.n // 10, options, lambda name, f: print(line(name, f, None), flush=True))
    print(f"{options.n:,} pictures\n{HEAD}", flush=True)
    many: dict[str, Figures] = {}

    def compare(name: str, figures: Figures) -> None:
        many[name] = figures
        judge(few, name, figures)

    try:
        run_size(options.n, options, compare)
    except GrowthError as error:
        found["stopped"] = str(error)
    found["stages"] = {
        name: {"few": asdict(few[name]), "many": asdict(figures)} for name, figures in many.items()
    }
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", metavar="IMAGES_DIR", type=Path)
    parser.add_argument("-o", "--out", metavar="WORK", type=Path, required=True)
    parser.add_argument("--n", type=int, default=10_000, help="at least 20")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--extractors", nargs="+", default=list(EXTRACTORS), help="the first is on the pages")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.n < 20:
        parser.error("--n: a tenth of it must be two images or more")
    return options


def main() -> None:
    options = parsed()
    try:
        found = measure(options)
    except CommandError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    if "stopped" in found:
        sys.exit(str(found["stopped"]))


if __name__ == "__main__":
    main()
