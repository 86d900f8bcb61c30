"""How fast features and scores are made, beside torch-fidelity, pytorch-fid and clean-fid.

    python benchmarks/metrics_speed.py [--images 64] [--threads 1] [--batch 16] [--repeats 3]
        [--device cpu] [--weights PATH] [--json OUT] [--check] [--quick]
        [--only TEXT]

Every contender runs in a process of its own with pinned threads, repeats interleaved, on the same
images and one state dictionary (random unless --weights names the FID network's file). A ratio is a
contender's time over ours and counts only if both found the same; CPU seconds with one thread, else wall
seconds. The slowest contenders run once, whole scorings at most twice. --check exits 1 below a target (on
a CPU; on a GPU nothing is gated yet).
Source: metrics, section 10.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from metrics_contenders import FIELD, REPLICATES, WIDTH
from PIL import Image as PillowImage

from palette_bench.benchset.images import photo_path
from palette_bench.scoring.features.inception import random_tensors

OURS = "ours"
PHOTOS = ("coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg")
LARGE, MIDDLE, SMALL = 10_000, 2_100, 1_000  # rows of feature tables; MIDDLE is just above the width


@dataclass(frozen=True)
class Stage:
    """A stage: targets (ratio by contender), agreement, and who is slow.

    Attributes:
        name: key of the contenders' table, with the number of rows where there are features.
        targets: contender -> least ratio that `--check` accepts.
        tolerance: largest difference from ours, relative to our largest value; by contender or for all.
        once: contenders that run once, being slow; `--quick` leaves them out.
        without: contenders left out, whose time another stage tells.
        factor: how often a contender's work would be done.
    """

    name: str
    targets: Mapping[str, float] = field(default_factory=dict)
    tolerance: float = 1e-5
    once: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    factor: Mapping[str, int] = field(default_factory=dict)


SQRTM = ("pytorch-fid", "clean-fid")  # both take scipy.linalg.sqrtm of the product
# pytorch-fid resizes in another way, so that its features, and what follows from them, differ by design
OTHER_RESIZE = {"forward with resize", "end to end, cold", "end to end, reference cached"}
UNCOMPARED = {"bootstrap"}

STAGES = (
    Stage("TF1 resize", {"torch-fidelity": 6}, tolerance=1e-4 / 255),
    Stage("clean resize", tolerance=1e-3 / 255),
    Stage("forward with resize", {"torch-fidelity": 1.5}, tolerance=1e-4),
    # the targets at N = 10,000 are for the closing step: means and covariances cost everybody the same
    Stage(
        f"Frechet from moments, N = {LARGE}",
        {"torch-fidelity": 2, "pytorch-fid": 6, "clean-fid": 6},
        once=SQRTM,
    ),
    Stage(f"Frechet from features, N = {LARGE}", without=SQRTM),
    # where N <= d torch-fidelity errs by up to 6e-5 and sqrtm by 9e-5 (metrics, sections 4.1 and 9)
    Stage(
        f"Frechet from features, N = {SMALL}",
        {"torch-fidelity": 8, "pytorch-fid": 30, "clean-fid": 30},
        tolerance=2e-4,
        once=SQRTM,
    ),
    Stage(
        f"FID interval, N = {LARGE}", {"bootstrap": 10}, once=("bootstrap",), factor={"bootstrap": REPLICATES}
    ),
    Stage("end to end, cold", {"torch-fidelity": 1.8}, tolerance=1e-4, once=("pytorch-fid",)),
    # "torch-fidelity" reads its opt-in cache too; "cold" is its default, which recomputes the reference
    Stage(
        "end to end, reference cached",
        {"torch-fidelity": 3, "torch-fidelity, cold": 4},
        tolerance=1e-4,
        once=("pytorch-fid",),
    ),
)


# what all contenders share


def make_images(folder: Path, count: int, seed: int) -> None:
    """Write `count` PNG crops, 256x256, of the bundled photographs."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    photos = [PillowImage.open(photo_path(name)).convert("RGB") for name in PHOTOS]
    for i in range(count):
        photo = photos[i % len(photos)]
        left, top = (int(rng.integers(0, side - 256)) for side in photo.size)
        photo.crop((left, top, left + 256, top + 256)).save(folder / f"{i:05d}.png")


def make_features(folder: Path, n: int) -> None:
    """Write two (n, 2048) float32 tables with a falling spectrum and no negative values."""
    for seed, side in enumerate("ab"):
        rng = np.random.default_rng(seed)
        scales = np.arange(1, WIDTH + 1, dtype=np.float32) ** -0.5
        shared = np.random.default_rng(9).standard_normal((64, WIDTH), dtype=np.float32) / 16
        table = rng.standard_normal((n, WIDTH), dtype=np.float32) * scales
        table += rng.standard_normal((n, 64), dtype=np.float32) @ shared
        np.save(folder / f"features-{n}-{side}.npy", np.abs(table * (1 + seed / 50)))


def make_work(folder: Path, options: argparse.Namespace) -> None:
    """Write images, features, weights and options where the contenders look for them."""
    make_images(folder / "outputs", options.images, 1)
    make_images(folder / "originals", options.images, 2)
    if any(", N = " in stage.name for stage in chosen(options)) or not options.only:
        for n in (SMALL, MIDDLE, LARGE):
            make_features(folder, n)
    if options.weights is None:
        torch.save(dict(random_tensors(0)), folder / "weights.pth")
    given = options.weights or folder / "weights.pth"
    shared = {name: getattr(options, name) for name in ("images", "batch", "threads", "device")}
    (folder / "options.json").write_text(json.dumps(shared | {"weights": str(given)}))


def chosen(options: argparse.Namespace) -> list[Stage]:
    """Return the stages that --only asks for; all of them without it."""
    return [stage for stage in STAGES if options.only in stage.name]


# processes


class Contender:
    """A process that does one contender's work when told to."""

    def __init__(self, stage: str, name: str, folder: Path, threads: int) -> None:
        """Start it and wait until it is ready."""
        pins = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        script = Path(__file__).with_name("metrics_contenders.py")
        self.process = subprocess.Popen(
            [sys.executable, script, stage, name, folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **pins},
        )
        self.error: str | None = None
        self.runs: list[dict[str, Any]] = []
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        self.error = answer.get("error")
        return answer

    def run(self) -> None:
        """Do the work once, unless it has failed before."""
        if self.error is None:
            assert self.process.stdin is not None
            print(file=self.process.stdin, flush=True)
            answer = self._read()
            if self.error is None:
                self.runs.append(answer)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def measure(stage: Stage, folder: Path, options: argparse.Namespace) -> dict[str, Contender]:
    """Run the contenders of a stage, interleaved; the first run of each warms up where it repeats."""
    left_out = (*stage.without, *(stage.once if options.quick else ()))
    names = [name for name in FIELD[stage.name.partition(", N = ")[0]] if name not in left_out]
    field_ = {name: Contender(stage.name, name, folder, options.threads) for name in names}
    warms_up = stage.name.startswith(("TF1", "clean", "forward"))
    repeats = min(options.repeats, 2) if stage.name.startswith("end to end") else options.repeats
    for i in range(repeats + warms_up):
        for name, contender in field_.items():
            if i == 0 or name not in stage.once:
                contender.run()
    for contender in field_.values():
        contender.close()
        if warms_up:
            contender.runs = contender.runs[1:]
    return field_


# figures


def difference(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Return the largest difference of two results, relative to the largest value of the first."""
    ours, theirs = (np.load(run["result"]) for run in (one, other))
    return float(np.abs(ours - theirs).max() / max(np.abs(ours).max(), 1e-30))


def row(stage: Stage, name: str, found: Mapping[str, Contender], clock: str) -> dict[str, Any]:
    """Return the figures of one contender at one stage."""
    contender, ours = found[name], found[OURS]
    if not contender.runs or not ours.runs:
        return {"error": contender.error or f"ours failed: {ours.error}"}
    factor = stage.factor.get(name, 1)
    times = {kind: [factor * run[kind] for run in contender.runs] for kind in ("cpu", "wall")}
    figures: dict[str, Any] = {kind: statistics.median(values) for kind, values in times.items()}
    figures["runs"] = len(contender.runs)
    if name == OURS:
        return figures
    base = [run[clock] for run in ours.runs]
    ratios = [theirs / own for theirs, own in zip(times[clock], base, strict=False)]
    figures["ratio"] = statistics.median(times[clock]) / statistics.median(base)
    figures["range"] = [min(ratios), max(ratios)]
    figures["target"] = stage.targets.get(name)
    if name not in UNCOMPARED and not (name == "pytorch-fid" and stage.name in OTHER_RESIZE):
        figures["difference"] = difference(ours.runs[-1], contender.runs[-1])
        figures["agrees"] = figures["difference"] <= stage.tolerance
    return figures


def fails(figures: Mapping[str, Any]) -> bool:
    """Return whether a contender with a target was missed, or not compared for want of agreement."""
    if figures.get("target") is None:
        return False
    return figures["ratio"] < figures["target"] or not figures.get("agrees", True)


def described(name: str, figures: Mapping[str, Any]) -> str:
    """Return a line of the table."""
    if "error" in figures:
        return f"    {name:<16} failed or absent: {figures['error']}"
    line = f"    {name:<16} cpu {figures['cpu']:8.3f} s   wall {figures['wall']:8.3f} s"
    if "ratio" in figures:
        low, high = figures["range"]
        line += f"   ratio {figures['ratio']:6.1f} ({low:.1f}-{high:.1f})"
        if figures["target"] is not None:
            line += f"   target {figures['target']:g}: {'MISSED' if fails(figures) else 'met'}"
        if "difference" in figures:
            line += f"   difference {figures['difference']:.1e}{'' if figures['agrees'] else ' DISAGREES'}"
    return line


def memory(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return the growth of peak memory in the closing step, MB, by contender and rows."""
    found: dict[str, dict[str, float]] = {}
    for n in (MIDDLE, LARGE):
        for name in (OURS, "torch-fidelity"):
            contender = Contender(f"Frechet from features, N = {n}", name, folder, options.threads)
            contender.run()
            contender.close()
            for run in contender.runs:
                found.setdefault(name, {})[str(n)] = round(run["memory"])
    return found


def machine(options: argparse.Namespace) -> dict[str, str]:
    """Return versions, processor and settings."""
    packages = ("numpy", "scipy", "torch", "torch-fidelity", "pytorch-fid", "clean-fid")
    versions = []
    for package in packages:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{package} absent")
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    processor = models[0].partition(": ")[2] if models else platform.processor() or platform.machine()
    device = torch.cuda.get_device_name() if options.device == "cuda" else processor
    given = ("images", "batch", "repeats", "threads", "device")
    return {
        "versions": f"Python {platform.python_version()}, {', '.join(versions)}",
        "processor": f"{device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "settings": ", ".join(f"{name} {getattr(options, name)}" for name in given),
        "weights": str(options.weights.name if options.weights else "random:0"),
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--quick", action="store_true", help="16 images, one repeat, no slow contenders")
    parser.add_argument("--only", default="", help="stages whose name holds this text, no memory")
    options = parser.parse_args()
    if options.quick:
        options.images, options.repeats = min(options.images, 16), 1
    return options


def main() -> None:
    options = parsed()
    clock = "cpu" if options.device == "cpu" and options.threads == 1 else "wall"
    figures: dict[str, Any] = {"machine": machine(options), "clock": clock, "stages": {}}
    print(*(f"{name}: {text}" for name, text in figures["machine"].items()), sep="\n")
    print(f"ratios: contender / ours, {clock} seconds, median (range)", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="metrics-speed-"))
    try:
        make_work(folder, options)
        for stage in chosen(options):
            found = measure(stage, folder, options)
            rows = {name: row(stage, name, found, clock) for name in found}
            figures["stages"][stage.name] = rows
            print(stage.name, *(described(name, r) for name, r in rows.items()), sep="\n", flush=True)
        if not options.only:
            figures["peak memory of the closing step, MB"] = found_memory = memory(folder, options)
            print("peak memory of the closing step, MB:", found_memory)
    finally:
        shutil.rmtree(folder)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    missed = [
        f"{stage}: {name}"
        for stage, rows in figures["stages"].items()
        for name, r in rows.items()
        if fails(r)
    ]
    if options.check and options.device == "cpu" and missed:
        sys.exit(f"below target: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
