"""Seconds and peak memory of the metrics of feature clouds, against prdc and torch-fidelity.

    OMP_NUM_THREADS=1 python benchmarks/metrics_prdc.py                  # 10,000 x 10,000 x 1,024, one core
    python benchmarks/metrics_prdc.py --images 1000 --features 64        # a quick look

Each contender has a process of its own and reads the same features; those of the outputs are noisy and moved.
Only the run itself is timed; memory is the growth of the peak above the loaded features. prdc, which needs
scikit-learn, is left out if it is not installed. It always computes all four numbers, for one k.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

OURS = {
    "precision": ("precision",),
    "recall": ("recall",),
    "density": ("density",),
    "coverage": ("coverage",),
    "all four": ("precision", "recall", "density", "coverage"),
    "cmmd": ("cmmd",),
    "kid": ("kid",),
    "fd_dinov2": ("fd_dinov2",),
    "fd_dinov2_infinity": ("fd_dinov2_infinity",),
}
THEIRS = (
    "torch-fidelity: precision, recall",
    "torch-fidelity, save_cpu_ram",
    "prdc: all four, k 5",
)


def main() -> None:
    """Print a row per contender."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=1024)
    parser.add_argument("--paired", action="store_true", help="the reference is the outputs' own originals")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        answer(options.contender, options.folder, options.paired)
        return
    with tempfile.TemporaryDirectory() as folder:
        draw, shape = np.random.default_rng(0), (options.images, options.features)
        reference = draw.normal(size=shape)
        base = reference if options.paired else draw.normal(size=shape)
        outputs = 0.9 * base + 0.4 * draw.normal(size=shape) + 0.02
        np.save(Path(folder) / "reference.npy", reference.astype(np.float32))
        np.save(Path(folder) / "outputs.npy", outputs.astype(np.float32))
        print(f"{'':36}{'CPU s':>8}{'wall s':>8}{'MB':>8}  values")
        for contender in (*OURS, *THEIRS):
            if contender.startswith("prdc") and find_spec("prdc") is None:
                print(f"{contender:36} not installed")
                continue
            paired = ["--paired"] * options.paired
            command = [sys.executable, __file__, "--contender", contender, "--folder", folder, *paired]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                print(f"{contender:36} {done.stderr.strip().splitlines()[-1][:100]}", flush=True)
                continue
            told = json.loads(done.stdout.splitlines()[-1])
            print(
                f"{contender:36}{told['cpu']:8.1f}{told['wall']:8.1f}{told['mb']:8.0f}  {told['values']}",
                flush=True,
            )


def answer(contender: str, folder: Path, paired: bool) -> None:
    """Run one contender and print its seconds, memory and values as a line of JSON."""
    outputs, reference = (np.load(folder / f"{side}.npy") for side in ("outputs", "reference"))
    run = (
        ours(contender, outputs, reference, paired)
        if contender in OURS
        else theirs(contender, outputs, reference)
    )
    before = resident_mb("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    values = run()
    spent = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
    print(
        json.dumps(
            {
                **spent,
                "mb": resident_mb("VmHWM") - before,
                "values": " ".join(f"{value:.5f}" for value in values),
            }
        )
    )


def resident_mb(what: str) -> float:
    """Return VmRSS, the resident size now, or VmHWM, its peak (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(what))


def ours(contender: str, outputs: Any, reference: Any, paired: bool) -> Callable[[], list[float]]:
    """Return the run of our metrics; the reference's moments and kernel mean are computed in it too."""
    from palette_bench.scoring.metrics import FEATURE_METRICS  # noqa: PLC0415  # a contender loads its own
    from palette_bench.scoring.metrics.metric import FeatureTables, ReferenceSet  # noqa: PLC0415

    def run() -> list[float]:
        tables = FeatureTables(outputs, outputs, ReferenceSet.of("other", reference, paired=paired))
        return [FEATURE_METRICS[name].score(tables).value or 0.0 for name in OURS[contender]]

    return run


def theirs(contender: str, outputs: Any, reference: Any) -> Callable[[], list[float]]:
    """Return the run of another program."""
    if contender.startswith("prdc"):
        from prdc import compute_prdc  # noqa: PLC0415

        return lambda: list(compute_prdc(reference, outputs, nearest_k=5).values())
    import torch  # noqa: PLC0415
    from torch_fidelity.metric_prc import prc_features_to_metric  # noqa: PLC0415

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    one, two = torch.from_numpy(outputs), torch.from_numpy(reference)
    options = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "verbose": False}
    options["save_cpu_ram"] = contender.endswith("save_cpu_ram")
    return lambda: list(prc_features_to_metric(one, two, **options).values())[:2]


if __name__ == "__main__":
    main()
