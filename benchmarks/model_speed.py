"""How fast the reference model trains and restores, beside the same network in diffusers.

    python benchmarks/model_speed.py [--preset palette-smoke] [--device cpu] [--sides SIDE ...]
        [--threads 1] [--batch 4] [--steps 100] [--images 64] [--evaluations 25] [--repeats 3]
        [--json OUT] [--quick]

Every side runs in a process of its own with pinned threads, repeats interleaved, on the same images and
weights; after warming up it tells images per second of forward passes, of training steps (forward, L2,
backward, Adam, moving average; median step) and of restoring (noise and PNG files included; times network
evaluations per image). A whole run is a fresh process that imports, builds, trains and restores; pairs
alternate who begins. A side is `diffusers` or `ours`, with levers: ours+bf16+compile; ratios are to
`diffusers` without levers. A float32 side that does not predict what it does to 1e-4 voids the run: exit 1.
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
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers_unet import options_of
from PIL import Image as PillowImage
from torch import nn

from palette_bench.baselines.training.presets import PRESETS, UNetSpec
from palette_bench.baselines.training.unet import UNet
from palette_bench.baselines.training.unet import flop as flop_of
from palette_bench.benchset.images import photo_path
from palette_bench.tasks.degradations.jpeg import fast_jpeg

THEIRS = "diffusers"
TOLERANCE = 1e-4  # of float32 predictions, relative to the largest value
RATES = ("forward", "train", "restore")
PHOTOS = ("coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg")


# what both sides share


def make_work(folder: Path, options: argparse.Namespace) -> None:
    """Write options, images and weights where the sides look for them."""
    spec = PRESETS[options.preset]
    given = ("preset", "device", "threads", "batch", "warmup", "steps", "images", "evaluations")
    shared = {name: getattr(options, name) for name in given}
    (folder / "options.json").write_text(json.dumps(shared | {"unet2d": options_of(spec)}))
    references = make_images(max(options.images, options.batch), spec.side)
    np.save(folder / "references.npy", references)
    np.save(folder / "inputs.npy", np.stack([fast_jpeg(image, 10) for image in references]))
    torch.save(make_weights(spec), folder / "weights.pt")


def make_images(count: int, side: int) -> np.ndarray:
    """Return (count, side, side, 3) uint8 crops of the bundled photographs."""
    rng = np.random.default_rng(0)
    photos = [np.asarray(PillowImage.open(photo_path(name)).convert("RGB")) for name in PHOTOS]
    crops = []
    for i in range(count):
        photo = photos[i % len(photos)]
        top, left = (int(rng.integers(0, length - side)) for length in photo.shape[:2])
        crops.append(photo[top : top + side, left : left + side])
    return np.stack(crops)


def make_weights(spec: UNetSpec) -> dict[str, torch.Tensor]:
    """Return weights without zeros: an untrained network predicts nothing, so nothing could be compared."""
    torch.manual_seed(0)
    network = UNet(spec)
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)
    return network.state_dict()


# processes


def started(side: str, folder: Path, threads: int, *work: str) -> subprocess.Popen[str]:
    """Start a side."""
    pins = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return subprocess.Popen(
        [sys.executable, Path(__file__).with_name("model_contenders.py"), side, folder, *work],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **pins},
    )


class Contender:
    """A side that works when told to.

    Attributes:
        side: its name.
        error: what ended it.
        found: answers by kind of work.
    """

    def __init__(self, side: str, folder: Path, threads: int) -> None:
        """Start it and wait until it is ready."""
        self.side = side
        self.error: str | None = None
        self.found: dict[str, list[dict[str, Any]]] = {}
        self._process = started(side, folder, threads)
        self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process ended"}
        self.error = answer.get("error")
        return answer

    def do(self, work: str) -> None:
        """Do a piece of work, unless it has failed before."""
        if self.error is None:
            assert self._process.stdin is not None
            print(work, file=self._process.stdin, flush=True)
            answer = self._read()
            if self.error is None:
                self.found.setdefault(work, []).append(answer)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Contender]:
    """Run every side through agreement, product and rates, repeats interleaved."""
    sides = {side: Contender(side, folder, options.threads) for side in options.sides}
    for work in ("agree", "product", *(RATES * options.repeats), "memory"):
        for contender in sides.values():
            contender.do(work)
    for contender in sides.values():
        contender.close()
    return sides


def whole_runs(folder: Path, options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Return total seconds and those after getting ready, of fresh processes; who begins alternates."""
    runs: dict[str, list[dict[str, float]]] = {side: [] for side in options.sides}
    for turn in range(options.repeats):
        for side in options.sides[:: -1 if turn % 2 else 1]:
            start = time.perf_counter()
            text, _ = started(side, folder, options.threads, "whole").communicate()
            total = time.perf_counter() - start
            last = json.loads(text.splitlines()[-1])
            if "seconds" in last:
                runs[side].append({"with start-up": total, "without": last["seconds"]})
    return runs


# figures


def spread(values: list[float]) -> dict[str, float]:
    """Return median and range."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def difference(one: Contender, other: Contender) -> float | None:
    """Return the largest difference of two predictions, relative to the largest value; None if one failed."""
    if "agree" not in one.found or "agree" not in other.found:
        return None
    ours, theirs = (np.load(c.found["agree"][0]["result"]) for c in (one, other))
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def row(contender: Contender, theirs: Contender | None, flop: int) -> dict[str, Any]:
    """Return the figures of one side."""
    if contender.error is not None:
        return {"error": contender.error}
    rates = {work: [answer["rate"] for answer in contender.found[work]] for work in (*RATES, "product")}
    figures: dict[str, Any] = {
        "images_per_second": {work: spread(rates[work]) for work in RATES},
        "share_of_product": statistics.median(rates["train"]) * 3 * flop / rates["product"][0],
        "peak_memory_bytes": contender.found["memory"][0]["bytes"],
    }
    if theirs is not None and theirs.error is None and theirs is not contender:
        figures["difference"] = difference(contender, theirs)
        figures["ratio"] = {
            work: spread([a / b["rate"] for a, b in zip(rates[work], theirs.found[work], strict=True)])
            for work in RATES
        }
    return figures


def whole_ratios(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Return wall time of diffusers over that of each side, pair by pair, with and without start-up."""
    return {
        side: {
            kind: spread([a[kind] / b[kind] for a, b in zip(runs[THEIRS], own, strict=True)])
            for kind in ("with start-up", "without")
        }
        for side, own in runs.items()
        if side != THEIRS and len(own) == len(runs.get(THEIRS, ())) > 0
    }


def void(rows: dict[str, dict[str, Any]]) -> list[str]:
    """Return the float32 sides that predict something else than diffusers."""
    float32 = {name: r for name, r in rows.items() if "bf16" not in name and "difference" in r}
    return [name for name, r in float32.items() if r["difference"] is None or r["difference"] > TOLERANCE]


def machine(options: argparse.Namespace) -> dict[str, str]:
    """Return versions, processor, load and settings."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "torch", "diffusers")]
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    processor = models[0].partition(": ")[2] if models else platform.processor() or platform.machine()
    device = torch.cuda.get_device_name() if options.device == "cuda" else processor
    given = ("preset", "threads", "batch", "warmup", "steps", "images", "evaluations", "repeats")
    return {
        "versions": f"Python {platform.python_version()}, {', '.join(versions)}",
        "device": f"{device}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before start",
        "settings": ", ".join(f"{name} {getattr(options, name)}" for name in given),
    }


def described(name: str, figures: dict[str, Any]) -> str:
    """Return the lines of one side."""
    if "error" in figures:
        return f"    {name}: failed: {figures['error']}"
    lines = [f"    {name}"]
    for work, rate in figures["images_per_second"].items():
        line = f"        {work:<8} {rate['median']:9.2f} images/s ({rate['least']:.2f}-{rate['most']:.2f})"
        if "ratio" in figures:
            line += "   x {median:.2f} ({least:.2f}-{most:.2f})".format(**figures["ratio"][work])
        lines.append(line)
    memory = figures["peak_memory_bytes"] / 2**20
    lines.append(f"        {figures['share_of_product']:.0%} of a matrix product; {memory:,.0f} MiB at most")
    if figures.get("difference") is not None:
        lines[0] += f": difference {figures['difference']:.1e}"
    return "\n".join(lines)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", choices=PRESETS, default="palette-smoke")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--sides", nargs="+", default=[THEIRS, "ours", "ours+bf16"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--warmup", type=int, default=20)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--evaluations", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="few steps and images, one repeat")
    options = parser.parse_args()
    if options.quick:
        options.warmup, options.steps, options.images, options.repeats = 1, 4, options.batch, 1
    return options


def main() -> None:
    options = parsed()
    figures: dict[str, Any] = {"machine": machine(options)}
    print(*(f"{name}: {text}" for name, text in figures["machine"].items()), sep="\n", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="model-speed-"))
    try:
        make_work(folder, options)
        flop = flop_of(PRESETS[options.preset])
        sides = measure(folder, options)
        rows = {name: row(contender, sides.get(THEIRS), flop) for name, contender in sides.items()}
        print(*(described(name, figures) for name, figures in rows.items()), sep="\n", flush=True)
        runs = whole_runs(folder, options)
    finally:
        shutil.rmtree(folder)
    ratios = whole_ratios(runs)
    for name, kinds in ratios.items():
        for kind, ratio in kinds.items():
            line = "{median:.2f} ({least:.2f}-{most:.2f})".format(**ratio)
            print(f"whole run, diffusers / {name}, {kind}: {line}")
    figures |= {"gflop": flop / 1e9, "sides": rows, "whole_runs": runs, "whole_run_ratios": ratios}
    if broken := void(rows):
        figures["void"] = broken
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    if broken:
        sys.exit(f"void: {', '.join(broken)} does not predict what diffusers does")


if __name__ == "__main__":
    main()
