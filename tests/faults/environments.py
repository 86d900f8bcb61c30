"""The environment matrix: the same images, degradations, sets and scores wherever they are computed.

    python tests/faults/environments.py                       variables only: SIMD, seeds, locale, folder ...
    python tests/faults/environments.py --versions            and the oldest supported packages, from pip
    python tests/faults/environments.py --versions --scores   and scorecards, the oldest torch's among them

Every row runs `probe` in a child process of its own and compares what it prints with the first row's: equal,
or the difference. Packages of other versions lie in a folder before the installed ones; each Python named by
`--python` gets a virtual environment. aarch64 is not emulated here yet.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from page import Report

OLDEST = {"pillow": "10.4.0", "numpy": "1.26.0", "pydantic": "2.8.0"}  # of pyproject.toml
OLDEST_TORCH = {"torch": "2.6.0", "torchvision": "0.21.0"}  # they reach nothing but scores
Probe = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One environment.

    Attributes:
        name: what differs from the first row.
        variables: of the environment.
        packages: pip requirements that replace the installed ones.
        folder: working directory.
        umask: of the files written.
        workers: processes that generate.
        scored: whether scores are compared although packages differ.
    """

    name: str
    variables: dict[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    folder: str | None = None
    umask: int = 0o022
    workers: int = 1
    scored: bool = False


def simd_off() -> dict[str, str]:
    """Return variables that make libjpeg-turbo, NumPy and torch use no vector instructions they can spare."""
    import numpy as np

    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return {
        "JSIMD_FORCENONE": "1",
        "NPY_DISABLE_CPU_FEATURES": " ".join(found),
        "ATEN_CPU_CAPABILITY": "default",
        "OPENBLAS_CORETYPE": "Prescott",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    }


def strange() -> Row:
    """Return the row in which all variables change at once."""
    others = {"PYTHONHASHSEED": "4711", "LC_ALL": "C", "TZ": "Pacific/Kiritimati", "PYTHONUTF8": "0"}
    return Row("all of these at once", {**simd_off(), **others}, folder="/", umask=0o077, workers=2)


def rows_of_variables() -> Iterator[Row]:
    """Yield the rows that need nothing installed."""
    yield Row("as installed")
    yield Row("no SIMD", simd_off())
    yield Row("random hash seed", {"PYTHONHASHSEED": "random"})
    yield Row("locale C, no UTF-8 mode", {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"})
    yield Row("time zone +14", {"TZ": "Pacific/Kiritimati"})
    yield Row("umask 077, folder /", folder="/", umask=0o077)
    yield Row("2 workers, 2 threads", {"OMP_NUM_THREADS": "2"}, workers=2)
    yield Row("optimised bytecode", {"PYTHONOPTIMIZE": "2"})
    yield strange()


def rows_of_versions() -> Iterator[Row]:
    """Yield the oldest supported packages, one by one and together."""
    for name, version in OLDEST.items():
        yield Row(f"{name} {version}", packages=(f"{name}=={version}",))
    together = tuple(f"{name}=={version}" for name, version in OLDEST.items())
    yield Row("the oldest together", packages=together)


def row_of_torch() -> Row:
    """Return the row of the oldest supported torch: gigabytes from pip."""
    packages = tuple(f"{name}=={version}" for name, version in OLDEST_TORCH.items())
    return Row(f"torch {OLDEST_TORCH['torch']}", packages=packages, scored=True)


def images(folder: Path) -> Path:
    """Write 24 images of every kind a source may hold: all environments read these very bytes."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True)
    draws = np.random.default_rng(1)
    for number in range(24):
        height, width = (int(side) for side in draws.integers(64, 400, 2))
        small = draws.integers(0, 256, (9, 9, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        mode, kind, options = _KINDS[number % len(_KINDS)]
        image.convert(mode).save(buffer := io.BytesIO(), kind, **options)
        suffix = "jpg" if kind == "JPEG" and number % 7 else "png"  # some bear the wrong name
        (folder / f"p{number:02d}.{suffix}").write_bytes(buffer.getvalue())
    return folder


_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
_KINDS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("RGB", "JPEG", {"quality": 92, "subsampling": "4:2:0"}),
    ("RGB", "JPEG", {"quality": 75, "subsampling": "4:4:4", "exif": _EXIF}),
    ("RGB", "JPEG", {"quality": 60, "subsampling": "4:2:2", "progressive": True}),
    ("L", "JPEG", {"quality": 80}),
    ("CMYK", "JPEG", {"quality": 90}),
    ("RGB", "PNG", {}),
    ("P", "PNG", {}),
    ("1", "PNG", {}),
)


def probe(folder: str, out: str, workers: str, scores: str) -> Probe:
    """Return digests of everything this environment makes of the images.

    Args:
        folder: of the images.
        out: for sets and cards, empty.
        workers: processes that generate.
        scores: 1 computes a scorecard too.
    """
    from palette_bench.benchset.generate import generate
    from palette_bench.benchset.making import GenerateOptions
    from palette_bench.benchset.sources import Request
    from palette_bench.core.fingerprint import pixel_digest
    from palette_bench.tasks import canary
    from palette_bench.tasks.degradations.gray import luma
    from palette_bench.tasks.degradations.jpeg import fast_jpeg, reference_jpeg
    from palette_bench.tasks.preprocess import crop_area, crop_window, decode

    made: Probe = {"canaries": [p.where for p in canary.findings()]}
    for path in sorted(Path(folder).iterdir()):
        pixels = decode(path.read_bytes())
        square = crop_area(pixels, 256)
        made[f"decoded {path.name}"] = pixel_digest(pixels)
        made[f"cropped {path.name}"] = pixel_digest(square)
        made[f"window {path.name}"] = pixel_digest(crop_window(pixels, 256))
        made[f"gray {path.name}"] = pixel_digest(luma(square))
        for quality in (5, 10, 20):
            made[f"jpeg {quality} {path.name}"] = pixel_digest(fast_jpeg(square, quality))
        made[f"integer jpeg {path.name}"] = pixel_digest(reference_jpeg(square[:64, :64], 10))
    options = GenerateOptions(workers=int(workers))
    request = Request("folder:mine", Path(folder))
    for name, asked in (("smoke", Request()), ("palette-mini", request)):
        for target in generate(name, "all", Path(out, name), request=asked, options=options):
            assert target.set_fingerprint is not None
            made[f"set {name} {target.folder.name}"] = target.set_fingerprint
    return {**made, **(_scores(Path(out)) if scores == "1" else {})}


def _scores(out: Path) -> Probe:
    """Return the numbers of a scorecard of the smoke extractor with seeded weights."""
    from palette_bench.benchset.manifest import ContestantSet
    from palette_bench.scoring.score import score
    from palette_bench.submission.methods import RestoreOptions, load_baseline
    from palette_bench.submission.restore import restore

    place = out / "smoke" / "jpeg.qf5"
    restorer = load_baseline("copy-input").restorer(RestoreOptions())
    restore(restorer, ContestantSet.open(place), out / "sub")
    card = score(out / "sub", place, out / "card.json", extractors=("smoke-random",))
    return {f"score {name}": found.value for name, found in sorted(card.scores.items())}


def run(row: Row, folder: Path, scores: bool = False, python: str = sys.executable) -> Probe:
    """Return what a child process makes of the images in one environment.

    Raises:
        CalledProcessError: the environment cannot run it; its last words are in `stderr`.
    """
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **row.variables}
    variables["PYTHONPATH"] = os.pathsep.join(_overlay(row, python))
    with tempfile.TemporaryDirectory() as out:
        variables["PALETTE_BENCH_CACHE"] = f"{out}/cache"
        arguments = [str(folder), out, str(row.workers), "1" if scores else "0"]
        done = subprocess.run(
            [python, str(Path(__file__).resolve()), "--probe", *arguments],
            env=variables, cwd=row.folder, umask=row.umask, capture_output=True, text=True, check=True,
        )  # fmt: skip
    found: Probe = json.loads(done.stdout.splitlines()[-1])
    return found


def _overlay(row: Row, python: str) -> list[str]:
    """Install a row's packages into a folder of their own, once; return it."""
    if not row.packages:
        return []
    tag = "-".join(row.packages).replace("==", "")
    folder = Path(tempfile.gettempdir(), f"palette-bench-overlay-{os.getuid()}", f"{Path(python).name}-{tag}")
    if not folder.is_dir():
        temporary = folder.with_name(f"{folder.name}.{os.getpid()}")
        command = [python, "-m", "pip", "install", "-q", "--only-binary", ":all:", "--target", str(temporary)]
        subprocess.run([*command, *row.packages], check=True, capture_output=True, text=True)
        temporary.rename(folder)
    return [str(folder)]


def difference(expected: Probe, found: Probe) -> str:
    """Return `equal`, or how many things differ and by how much."""
    names = [name for name in sorted(expected.keys() | found.keys()) if expected.get(name) != found.get(name)]
    numbers = [
        abs(expected[name] - found[name]) / max(abs(expected[name]), 1e-12)
        for name in names
        if isinstance(expected.get(name), float) and isinstance(found.get(name), float)
    ]
    others = [name for name in names if not name.startswith("score ")]
    if not names:
        return "equal"
    told = [f"{len(others)} digests differ, first {others[0]}"] if others else ["all digests equal"]
    return "; ".join(told + ([f"scores within {max(numbers):.1e} of each other"] if numbers else []))


def own_environment(python: str, base: Path) -> str:
    """Return the interpreter of a virtual environment of another Python with what sets need."""
    subprocess.run([python, "-m", "venv", str(base)], check=True, capture_output=True)
    wanted = ("click", "numpy", "pillow", "pydantic", "safetensors", "scikit-image")
    interpreter = str(base / "bin" / "python")
    install = [interpreter, "-m", "pip", "install", "-q"]
    subprocess.run([*install, *wanted], check=True, capture_output=True)
    subprocess.run([*install, "--no-deps", str(Path(__file__).parents[2])], check=True, capture_output=True)
    return interpreter


def main() -> int:
    """Run the command line; return 1 if a digest differs."""
    if sys.argv[1:2] == ["--probe"]:
        print(json.dumps(probe(*sys.argv[2:6])))
        return 0
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--versions", action="store_true", help="also other packages, from pip")
    parser.add_argument("--scores", action="store_true", help="also a scorecard in each row")
    parser.add_argument("--python", action="append", default=[], help="another Python; may be repeated")
    parser.add_argument("--write", action="store_true", help="put the lines into docs/trust.md")
    given = parser.parse_args()
    report = Report()
    rows = [*rows_of_variables(), *(rows_of_versions() if given.versions else ())]
    rows += [row_of_torch()] if given.versions and given.scores else []
    differing = 0
    with tempfile.TemporaryDirectory() as name:
        folder = images(Path(name) / "pictures")
        first = run(rows[0], folder, given.scores)
        report.say(f"{rows[0].name:<28} {len(first)} digests and scores")
        for row in rows[1:]:
            differing += _tell(report, first, row, folder, given.scores)
        for number, python in enumerate(given.python):
            own = own_environment(python, Path(name) / f"python{number}")
            differing += _tell(report, first, Row(_version_of(own)), folder, False, own)
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    there = "not run: no root file system to emulate" if emulator else "not here: no qemu"
    report.say(f"{'aarch64':<28} {there}")
    if given.write:
        asked = [f" --{name}" for name in ("versions", "scores") if getattr(given, name)]
        report.write("environments", f"python tests/faults/environments.py{''.join(asked)}")
    return 1 if differing else 0


def _tell(
    report: Report, first: Probe, row: Row, folder: Path, scores: bool, python: str = sys.executable
) -> int:
    """Print one row; return whether a digest differs."""
    scores = scores and (row.scored or not row.packages)
    try:
        found = run(row, folder, scores, python)
    except subprocess.CalledProcessError as error:
        last = (error.stderr or "").strip().rpartition("\n")[2]
        report.say(f"{row.name:<28} cannot run: {last[:160]}")
        return 1
    told = difference(first if scores else _digests(first), found)
    report.say(f"{row.name:<28} {told}")
    return "digests differ" in told


def _digests(found: Probe) -> Probe:
    return {name: value for name, value in found.items() if not name.startswith("score ")}


def _version_of(python: str) -> str:
    done = subprocess.run([python, "--version"], capture_output=True, text=True, check=True)
    return f"{done.stdout.strip()}, newest packages"


if __name__ == "__main__":
    sys.exit(main())
