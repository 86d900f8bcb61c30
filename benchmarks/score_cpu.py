"""How much CPU time a score takes per image: by part, as a whole, and with an older checkout beside.

    python benchmarks/score_cpu.py [--images DIR] [--pictures 200] [--task jpeg/qf10] [--repeats 3]
        [--workers 1 2] [--old CHECKOUT] [--json OUT]

The set has images of 256 pixels: those of a folder, or crops of the bundled photographs. It is answered by
copy-input and scored with smoke-random. Parts run alone in this process, the older checkout's code between
ours, and their results must be equal. Whole scores run in child processes, features computed anew, after a
first score that imports and warms up; scores and tables must be equal, too. CPU time is that of all threads
and worker processes, with the workers' start; few images (under 1,000) are read without workers. Wall time
means something on an idle machine alone. OMP_NUM_THREADS=1 leaves out what several threads of BLAS cost.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from generate import make_images

from palette_bench.benchset.generate import generate
from palette_bench.benchset.making import GenerateOptions
from palette_bench.benchset.manifest import BenchSet
from palette_bench.benchset.sources import Request
from palette_bench.core.fingerprint import pixel_digest
from palette_bench.runtime.device import reproducible_arithmetic
from palette_bench.scoring.features import open_extractors
from palette_bench.scoring.features.extractor import as_images

ROOT = Path(__file__).resolve().parents[1]
MODULES = ("core/png.py", "scoring/metrics/diagnostics.py", "submission/anomalies.py")
WHOLE = """
import hashlib, json, resource, sys, time
from pathlib import Path
def spent():
    used = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(u.ru_utime + u.ru_stime for u in used)
def run():
    from palette_bench.scoring.score import score  # not above, where worker processes would import it
    options = json.loads(sys.argv[4])
    return score(*sys.argv[1:4], extractors=["smoke-random"], fresh=True, **options)
if __name__ == "__main__":
    run()
    cpu, wall = spent(), time.perf_counter()
    card = run()
    cpu, wall = spent() - cpu, time.perf_counter() - wall
    scores = json.dumps(card.model_dump(mode="json")["scores"], sort_keys=True).encode()
    table = Path(sys.argv[3].replace(".json", ".images.csv.gz")).read_bytes()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([cpu, wall, hashlib.sha256(scores + table).hexdigest(), peak]))
"""


def modules_of(checkout: Path) -> list[ModuleType]:
    """Return the timed modules of a checkout under names of their own; what they import is ours."""
    found = []
    for i, name in enumerate(MODULES):
        spec = importlib.util.spec_from_file_location(
            f"timed_{checkout.name}_{i}", checkout / "palette_bench" / name
        )
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        found.append(module)
    return found


class Timer:
    """CPU milliseconds of parts by checkout."""

    def __init__(self) -> None:
        self.spent: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
        self.turns = 0

    def compare(self, part: str, calls: dict[str, Callable[[], Any]]) -> Any:
        """Run one part of every checkout in changing order; return the result, which must be the same."""
        self.turns += 1
        results = []
        for who in sorted(calls, reverse=bool(self.turns % 2)):
            start = time.process_time()
            results.append(calls[who]())
            self.spent[part][who] += 1000 * (time.process_time() - start)
        assert all(repr(result) == repr(results[0]) for result in results), part
        return results[0]


def parts(target: BenchSet, checkouts: dict[str, list[ModuleType]]) -> dict[str, dict[str, float]]:
    """Return part -> checkout -> CPU milliseconds per image; outputs are the inputs of the set."""
    timer = Timer()
    checks = {
        who: anomalies.AnomalyCheck(target if who == "old" else target.reference_digests)
        for who, (_, _, anomalies) in checkouts.items()
    }
    for image_id in target.ids:
        time_image(timer, target, image_id, checkouts, checks)
    found = {part: {who: ms / len(target) for who, ms in by.items()} for part, by in timer.spent.items()}
    crop = target.protocol.classifier_crop
    (extractor,) = open_extractors(["smoke-random"], {}, crop, "cpu", "fp32", "tf1")
    images = as_images([target.reference(image_id) for image_id in target.ids[:16]])
    with reproducible_arithmetic():
        extractor(images)
        start = time.process_time()
        extractor(images)
    return found | {"extractor": {"new": 1000 * (time.process_time() - start) / len(images)}}


def time_image(
    timer: Timer,
    target: BenchSet,
    image_id: str,
    checkouts: dict[str, list[ModuleType]],
    checks: dict[str, Any],
) -> None:
    """Time the parts of one image; an older anomaly check takes the image instead of its appearance."""
    side, example = target.protocol.side, target[image_id]
    condition = target.condition(image_id)
    output = np.ascontiguousarray(condition)
    calls: dict[str, dict[str, Callable[[], Any]]] = defaultdict(dict)
    digest = pixel_digest(output)
    for who, (png, diagnostics, anomalies) in checkouts.items():
        for kind in ("reference", "input"):
            data, channels = target.path(kind, image_id).read_bytes(), getattr(example, kind).shape[2]
            read = partial(png.decode_strict, data, side, side, channels)
            calls[f"PNG, {kind}"][who] = lambda read=read: read()[0].tobytes()
        image = diagnostics.DiagnosticInput(output, output, example.reference, condition, example.mask)
        for row in diagnostics.DIAGNOSTICS.values():
            if row.degradation in (None, target.task.degradation):
                calls[f"diagnostic {row.id}"][who] = partial(row.read, image)
        check = checks[who]
        if hasattr(anomalies, "appearance"):
            coloured = example.reference if target.task.degradation == "gray-v1" else condition
            look = partial(anomalies.appearance, output, condition, example.mask, coloured)
            calls["anomalies"][who] = lambda check=check, look=look: check.add(
                image_id, digest, pixel_digest(condition), look(seek_shift=check.seeks_shifts)
            )
        else:
            calls["anomalies"][who] = partial(check.add, image_id, output, condition, example.mask, digest)
    calls["one digest"]["new"] = partial(pixel_digest, output)
    for part, by in calls.items():
        timer.compare(part, by)


def whole(submission: Path, benchset: Path, out: Path, checkout: Path, options: dict[str, Any]) -> list[Any]:
    """Return CPU and wall seconds of a second score, the digest of scores and table, and its peak MB."""
    environment = os.environ | {"PYTHONPATH": str(checkout), "PALETTE_BENCH_CACHE": str(out.parent / "cache")}
    script = out.parent / "whole.py"
    script.write_text(WHOLE)
    words = [str(script), str(submission), str(benchset), str(out), json.dumps(options)]
    done = subprocess.run(
        [sys.executable, *words], env=environment, cwd=checkout, capture_output=True, text=True, check=True
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


def measure(root: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the set, run everything, and return the figures."""
    images = arguments.images or make_images(root / "pictures", arguments.pictures)
    request = Request("folder:bench", images)
    (made,) = generate(
        "palette-2022", arguments.task, root / "set", request=request, options=GenerateOptions(workers=1)
    )
    target = BenchSet.open(made.folder)
    words = ["-q", "restore", "copy-input", "--set", str(made.folder), "-o", str(root / "sub")]
    subprocess.run([sys.executable, "-m", "palette_bench", *words], check=True, stdout=subprocess.DEVNULL)
    checkouts = {"new": ROOT} | ({"old": arguments.old.resolve()} if arguments.old else {})
    modules = {who: modules_of(checkout) for who, checkout in checkouts.items()}
    figures: dict[str, Any] = {"pictures": len(target), "ms per image, by part": parts(target, modules)}
    runs: dict[str, list[list[Any]]] = defaultdict(list)
    for _ in range(arguments.repeats):
        for who, checkout in checkouts.items():
            for option in [{"workers": n} for n in arguments.workers] if who == "new" else [{}]:
                name = " ".join([who, *(f"--workers {n}" for n in option.values())])
                runs[name].append(whole(root / "sub", made.folder, root / "card.json", checkout, option))
    assert len({run[2] for found in runs.values() for run in found}) == 1, "scores or tables differ"
    figures["whole score"] = {name: row(found, len(target)) for name, found in runs.items()}
    figures["machine"] = (
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, OMP_NUM_THREADS {os.environ.get('OMP_NUM_THREADS', 'unset')}"
    )
    return figures


def row(found: Sequence[Sequence[Any]], n: int) -> dict[str, float]:
    """Return the medians of repeated whole scores."""
    columns = list(zip(*found, strict=True))
    cpu, wall, peak = (statistics.median(columns[at]) for at in (0, 1, 3))
    return {"CPU ms": 1000 * cpu / n, "wall ms": 1000 * wall / n, "MB": peak}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path)
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--task", default="jpeg/qf10")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--old", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), arguments)
    for name, value in figures.items():
        print(f"{name}:" if isinstance(value, dict) else f"{name}: {value}")
        for key, by in value.items() if isinstance(value, dict) else ():
            print(f"    {key:<26}", "  ".join(f"{who} {figure:.2f}" for who, figure in by.items()))
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
