"""How fast sets are made: images per second, share of each stage, speed-up, memory, and a plain peer.

    python benchmarks/generate.py [--images DIR] [--images 500] [--repeats 3] [--json OUT]

The work is the JPEG task at QF 10 of palette-2022 with sampled verification on. Without --images it
runs on 500x375 crops of the bundled photographs. The peer is what one would write with Pillow alone:
open, crop, BOX resize, JPEG, two PNG files; it proves, digests and journals nothing.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from palette_bench.benchset.generate import generate
from palette_bench.benchset.images import photo_path, walk
from palette_bench.benchset.making import GenerateOptions
from palette_bench.benchset.sources import Request
from palette_bench.core import png
from palette_bench.core.atomic import FileBatch
from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.tasks.degradations.jpeg import fast_jpeg, reference_jpeg
from palette_bench.tasks.preprocess import crop_area, decode, image_size

QUALITY = 10
PHOTOS = ("coffee.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg")


def make_images(folder: Path, count: int) -> Path:
    """Write `count` JPEG crops, 500x375, of the bundled photographs."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    photos = [PillowImage.open(photo_path(name)).convert("RGB") for name in PHOTOS]
    for i in range(count):
        photo = photos[i % len(photos)]
        left, top = (int(rng.integers(0, max(1, a - b))) for a, b in zip(photo.size, (500, 375), strict=True))
        photo.crop((left, top, left + 500, top + 375)).save(folder / f"{i:05d}.jpg", quality=92)
    return folder


def repeated(images: Path, out: Path, count: int) -> Path:
    """Return a folder of `count` images: hard links to those of `images`, as often as needed."""
    out.mkdir(parents=True)
    places = list(walk(images))
    for i in range(count):
        place = places[i % len(places)]
        os.link(place.file, out / f"{i:05d}{place.file.suffix}")
    return out


def ours(images: Path, out: Path, workers: int) -> None:
    """Make the set."""
    generate(
        "palette-2022",
        f"jpeg/qf{QUALITY}",
        out,
        request=Request("folder:bench", images),
        options=GenerateOptions(workers=workers),
    )


def peer(images: Path, out: Path) -> None:
    """Do the like with Pillow alone, in one process."""
    for kind in ("reference", "input"):
        (out / kind).mkdir(parents=True)
    for place in walk(images):
        with PillowImage.open(place.file) as image:
            rgb = image.convert("RGB")
        short = min(rgb.size)
        left, top = (rgb.width - short) // 2, (rgb.height - short) // 2
        box = (left, top, left + short, top + short)
        reference = rgb.resize((256, 256), PillowImage.Resampling.BOX, box=box)
        file = io.BytesIO()
        reference.save(file, "JPEG", quality=QUALITY, subsampling="4:2:0")
        name = f"{Path(place.name).stem}-{abs(hash(place.name)):x}.png"
        reference.save(out / "reference" / name, compress_level=1)
        PillowImage.open(file).save(out / "input" / name, compress_level=1)


def timed(function: Callable[..., None], *arguments: object) -> float:
    """Return wall seconds of a call in a fresh child process, import time left out."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(_seconds, function, *arguments).result()


def _seconds(function: Callable[..., None], *arguments: object) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def stages(images: Path, out: Path) -> dict[str, float]:
    """Return milliseconds per image of each stage, run alone on 200 images in one process."""
    spent: dict[str, float] = {}

    def stage(name: str, function: Callable[..., object], values: list) -> list:
        start = time.perf_counter()
        results = [function(value) for value in values]
        spent[name] = 1000 * (time.perf_counter() - start) / len(values)
        return results

    data = stage("read", lambda p: p.read(), list(walk(images))[:200])
    stage("check header", image_size, data)
    stage("digest of the file", sha256, data)
    pixels = stage("decode", decode, data)
    references = stage("crop-area-v1", lambda p: crop_area(p, 256), pixels)
    inputs = stage("jpeg-v1", lambda p: fast_jpeg(p, QUALITY), references)
    stage("prove jpeg-v1 (1 in 64)", lambda p: reference_jpeg(p, QUALITY), references)
    spent["prove jpeg-v1 (1 in 64)"] /= 64
    pairs = list(zip(references, inputs, strict=True))
    files = stage("encode two PNGs", lambda p: (png.encode(p[0]), png.encode(p[1])), pairs)
    stage("two pixel digests", lambda p: (pixel_digest(p[0]), pixel_digest(p[1])), pairs)
    out.mkdir()

    def write(group: list[tuple[int, tuple[bytes, bytes]]]) -> None:
        with FileBatch() as batch:
            for i, pair in group:
                for kind, content in zip("ab", pair, strict=True):
                    batch.write(out / f"{i}{kind}.png", content)

    numbered = list(enumerate(files))
    stage("write and fsync", write, [numbered[i : i + 64] for i in range(0, len(numbered), 64)])
    spent["write and fsync"] /= len(numbered) / -(-len(numbered) // 64)
    return spent


def peak_memory(images: Path, out: Path) -> float:
    """Return the peak resident megabytes of the command line's main process and its largest worker."""
    code = (
        "import resource, runpy, sys; sys.argv = ['palette-bench', '-q', *sys.argv[1:]]\n"
        "try: runpy.run_module('palette_bench', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)\n"
        "print(max(resource.getrusage(w).ru_maxrss for w in who))"
    )
    arguments = ["generate", "palette-2022", f"jpeg/qf{QUALITY}", "--source", "folder:bench"]
    arguments += ["--images", images, "-o", out, "--workers", "2"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[-1]) / 1024


def spread(values: list[float]) -> str:
    """Return median and range."""
    return f"{statistics.median(values):.1f} ({min(values):.1f}-{max(values):.1f})"


def folders(root: Path) -> Iterator[Path]:
    """Yield fresh folder names below `root`, removing the one before."""
    for i in range(10**6):
        yield root / f"out{i}"
        shutil.rmtree(root / f"out{i}", ignore_errors=True)


def measure(images: Path, root: Path, repeats: int) -> dict[str, object]:
    """Run everything, contenders interleaved; return the figures."""
    out = folders(root)
    count = len(list(walk(images)))
    seconds: dict[str, list[float]] = {"one core": [], "two cores": [], "Pillow alone": []}
    for _ in range(repeats):
        seconds["one core"].append(timed(ours, images, next(out), 1))
        seconds["two cores"].append(timed(ours, images, next(out), 2))
        seconds["Pillow alone"].append(timed(peer, images, next(out)))
    one = seconds["one core"]
    memory = {n: peak_memory(repeated(images, root / f"n{n}", n), next(out)) for n in (500, 5000)}
    return {
        "pictures": count,
        "images per second": {name: spread([count / s for s in values]) for name, values in seconds.items()},
        "speed-up on two cores": spread([a / b for a, b in zip(one, seconds["two cores"], strict=True)]),
        "time against Pillow alone": spread(
            [b / a for a, b in zip(seconds["Pillow alone"], one, strict=True)]
        ),
        "stage, ms per image": {k: round(v, 2) for k, v in stages(images, root / "stages").items()},
        "peak memory, MB": {str(n): round(value) for n, value in memory.items()},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, Pillow {PillowImage.__version__}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        images = arguments.images or make_images(root / "pictures", arguments.pictures)
        if arguments.images and not os.access(images, os.W_OK):
            images = Path(
                shutil.copytree(images, root / "pictures")
            )  # hard links must not cross file systems
        figures = measure(images, root, arguments.repeats)
    for name, value in figures.items():
        print(f"{name}:" if isinstance(value, dict) else f"{name}: {value}")
        for key, part in value.items() if isinstance(value, dict) else ():
            print(f"    {key:<26} {part}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
