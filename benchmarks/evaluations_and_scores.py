"""What network evaluations buy: scores of one trained model at several numbers of steps, as a table.

    python benchmarks/evaluations_and_scores.py RUN SET -o OUT [--steps 1000 250 50 25 10] [--sampler S]
        [--extractor ID [--weights ID=PATH]]

Every row is an ordinary submission with an ordinary card, made by the command line's own verbs and kept in
OUT: run again to go on. `copy-input` stands below. Intervals are the cards' (95 %); the last column is the
paired difference to the first row, with its 95 % interval, over the same images.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from palette_bench.scoring.scorecard import Scorecard

SHOWN = ("perceptual_distance", "psnr", "ssim")
PAIRED = "perceptual_distance"


def verb(*words: str) -> None:
    """Run a verb of the command line."""
    subprocess.run(
        [sys.executable, "-m", "palette_bench", "-q", *words], check=True, stdout=subprocess.DEVNULL
    )


def scored(name: str, restore: list[str], options: argparse.Namespace) -> Scorecard:
    """Return the card of a submission that `restore` makes; what is there stays."""
    submission, card = options.out / name, options.out / f"{name}.json"
    verb("restore", *restore, "--set", str(options.set), "-o", str(submission))
    if not card.exists():
        extra = [f"--extractor={options.extractor}", *(f"--weights={w}" for w in options.weights)]
        verb("score", str(submission), "--set", str(options.set), "-o", str(card), *extra)
    return Scorecard.read(card)


def at(steps: int, options: argparse.Namespace) -> Scorecard:
    """Return the card of the model at a number of steps."""
    sampler = [f"--sampler={options.sampler}"] if options.sampler else []
    words = ["palette", f"--run={options.run}", f"--steps={steps}", f"--batch={options.batch}", *sampler]
    return scored(f"steps-{steps}", words, options)


def per_image(name: str, options: argparse.Namespace) -> np.ndarray:
    """Return a card's per-image values of the paired metric, in order of ids."""
    table = pd.read_csv(options.out / f"{name}.images.csv.gz").sort_values("image_id")
    return table[PAIRED].to_numpy()


def difference(name: str, first: str, options: argparse.Namespace) -> str:
    """Return mean difference to the first row and its interval (paired t)."""
    change = per_image(name, options) - per_image(first, options)
    half = stats.t.ppf(0.975, len(change) - 1) * change.std(ddof=1) / np.sqrt(len(change))
    return f"{change.mean():+.2f} ({change.mean() - half:+.2f} to {change.mean() + half:+.2f})"


def cell(card: Scorecard, key: str) -> str:
    """Return a score and its interval."""
    score = card.scores[key]
    if score.low is None:
        return f"{score.value:.2f}"
    return f"{score.value:.2f} ({score.low:.2f} to {score.high:.2f})"


def main() -> None:
    """Print the table, Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("set", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[1000, 250, 50, 25, 10])
    parser.add_argument("--sampler", help="of all rows; otherwise the method's own choice by steps")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--extractor", default="efficientnet-lite0")
    parser.add_argument("--weights", action="append", default=[])
    options = parser.parse_args()
    print("| evaluations | sampler |", " | ".join(SHOWN), "| s per image | against the first row |")
    print("|---|---|" + "---|" * (len(SHOWN) + 2))
    for steps in options.steps:
        card, name = at(steps, options), f"steps-{steps}"
        columns = [cell(card, key) for key in SHOWN]
        seconds = f"{card.sampling.seconds_per_image:.2f}"
        change = difference(name, f"steps-{options.steps[0]}", options) if steps != options.steps[0] else "-"
        print(
            f"| {steps} | {card.sampling.sampler} |", " | ".join((*columns, seconds, change)), "|", flush=True
        )
    copied = scored("copy-input", ["copy-input"], options)
    print("| copy-input | - |", " | ".join(cell(copied, key) for key in SHOWN), "| - | - |")


if __name__ == "__main__":
    main()
