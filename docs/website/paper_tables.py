"""A page for each table of the paper: numbers, commands, what it takes, what we measured, and what not."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from palette_bench.pages.text import interval_text, value_text
from palette_bench.scoring.metrics import METRICS
from palette_bench.scoring.scorecard import Scorecard
from palette_bench.tasks.protocol import load
from website.markdown import ROOT, Pages, code, fence, table, toctree

WRITTEN = Path(__file__).with_name("paper_tables.toml")
SCORES = ROOT / "protocols" / "palette-2022" / "paper_scores.csv"
RECORD = ROOT / "reports" / "palette-mini"
# split of the paper -> options of `generate`, and why its command does not run everywhere
SOURCES = {
    "ctest10k": ("--images ILSVRC2012/val", "needs ILSVRC2012"),
    "places10k": ("--source places10k-r1 --images DIR", "needs Places2"),
}
DATA = {
    "imagenet": "ImageNet, ILSVRC2012: the training images, and 50,000 validation images with their labels",
    "places2": "Places2, large edition: the 36,500 validation images with `places365_val.txt`",
}
SHOWN = ("frechet_distance", "perceptual_distance", "classification_accuracy", "classifier_score")
SMALL = 64  # pixels, of the protocol palette-mini


def pages() -> Pages:
    """Return the page of each table, and their list.

    Raises:
        KeyError: `paper_tables.toml` lacks a table.
    """
    written = tomllib.loads(WRITTEN.read_text(encoding="utf-8"))
    scores = pd.read_csv(SCORES, dtype=str, keep_default_na=False)
    numbers = sorted(map(int, scores["table"].unique()))
    made = {
        f"gallery/paper/table-{n}.md": _page(n, written[str(n)], scores[scores["table"] == str(n)])
        for n in numbers
    }
    rows = [
        (f"[Table {n}](table-{n}.md)", written[str(n)]["title"], written[str(n)]["asks"]) for n in numbers
    ]
    made["gallery/paper/index.md"] = "\n".join(
        (
            "# Reproduce the paper's tables\n",
            "For each table of *Palette: Image-to-Image Diffusion Models* (Saharia et al. 2022): its "
            "numbers, the commands that make it again, what that takes, what we measured of it and what not. "
            "We have trained no model at the paper's size.\n",
            table(("table", "subject", "question"), rows),
            toctree(f"table-{n}" for n in numbers),
        )
    )
    return made


def _page(number: int, words: dict[str, Any], scores: pd.DataFrame) -> str:
    lines = [f"# Table {number}: {words['title']}\n", f"{words['asks']}\n", "## The paper's numbers\n"]
    for (data, variant, split), rows in scores.groupby(["dataset", "variant", "split"], sort=False):
        lines += [f"**{_where(str(data), str(variant), str(split))}**\n", _numbers(rows)]
    tasks = list(dict.fromkeys(scores["task"]))
    lines += ["## Commands\n", _commands(words, scores, tasks)]
    lines += ["## What it takes\n", _needs(scores, words)]
    lines += ["## What we measured of it\n", _measured(words, tasks)]
    lines += [
        "## What we did not\n",
        "No model was trained at this size, and no method of the table was run.",
        words["open"],
        "",
    ]
    return "\n".join(lines)


def _where(data: str, variant: str, split: str) -> str:
    known = {"imagenet": "ImageNet", "places2": "Places2", "unstated": "data not stated"}
    named = "all variants" if variant == "all" else "variant not stated" if variant == "unstated" else variant
    return ", ".join(part for part in (known[data], named, "" if split == "unstated" else split) if part)


def _numbers(rows: pd.DataFrame) -> str:
    metrics, methods = list(dict.fromkeys(rows["metric"])), list(dict.fromkeys(rows["method"]))
    value = {(row.method, row.metric): row.value for row in rows.itertuples()}
    names = [METRICS[m].name if m in METRICS else m.replace("_", " ") for m in metrics]
    cells = ([method, *(value.get((method, metric), "") for metric in metrics)] for method in methods)
    notes = "".join(f"- {note}\n" for note in dict.fromkeys(filter(None, rows["note"])))
    return f"{table(('method', *names), cells)}\n{notes}"


def _sets(scores: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return (task, variant, split) of the sets of a table that can be made."""
    rules = load("palette-2022")
    keys = scores[["task", "variant", "split"]].drop_duplicates().itertuples(index=False)
    return [
        (task, variant, split)
        for task, variant, split in keys
        if split in SOURCES and variant in rules.task(task).variants
    ]


def _commands(words: dict[str, Any], scores: pd.DataFrame, tasks: list[str]) -> str:
    if not words["train"]:
        return "None: see below why.\n"
    lines, sets = [], _sets(scores)
    if sets:
        lines.append("Make the sets:\n")
        made = []
        for task, variant, split in sets:
            options, reason = SOURCES[split]
            made.append(
                f"palette-bench generate palette-2022 {task}/{variant} {options} "
                f"-o sets/{task}.{variant}.{split}    # {reason}"
            )
        lines.append(fence("\n".join(made), ""))
        if any(split == "places10k" for *_, split in sets):
            lines.append("DIR holds the validation images of Places2.\n")
    lines += ["Train:\n", fence("\n".join(f"{c}    # needs a GPU" for c in words["train"]), "")]
    samples = f" --samples {words['samples']}" if "samples" in words else ""
    lines += [
        "Restore, score and rank, for each set as SET and each model as RUN:\n",
        fence(
            f"palette-bench restore palette --run RUN --set SET -o SUB{samples} --device cuda"
            "    # needs a GPU\n"
            "palette-bench score SUB --set SET -o CARD.json --reference-images ILSVRC2012/val --device cuda"
            "    # needs a GPU\n"
            "palette-bench board add CARD.json --record record\n"
            "palette-bench board build record -o site",
            "",
        ),
    ]
    if any(split == "places10k" for *_, split in sets):
        lines.append("For a set of Places2, `--reference-images` is DIR.\n")
    if any(" train regression " in command for command in words["train"]):
        lines.append("A regression restores with `restore regression --run REGRESSION`.\n")
    if (scores["metric"] == "fool_rate").any():
        lines.append("A fool rate needs people: [I run a study](../../docs/start/study.md).\n")
    if "study" in words:
        call = f"python -m palette_bench.baselines.experiments {words['study']} --data DIR -o OUT"
        call += "    # needs a GPU"
        lines += ["The question at 64 px, by one command:\n", fence(call, "")]
    return "\n".join(lines)


def _needs(scores: pd.DataFrame, words: dict[str, Any]) -> str:
    if not words["train"]:
        return "Images that the paper does not name.\n"
    data = [f"- {DATA[name]}.\n" for name in dict.fromkeys(scores["dataset"]) if name in DATA]
    steps, batch = ("500,000", "512") if words.get("study") == "attention" else ("1,000,000", "1,024")
    return "".join(
        (
            *(data or [f"- {DATA['imagenet']}.\n"]),
            f"- GPUs for {steps} steps of {batch} images of 256 px, the recipe's. Before its first step, "
            "training prints parameters and memory. We have not measured a GPU.\n",
            "- 1,000 evaluations of the network for each image that Palette restores.\n",
            "- [The weights](../../reference/networks/inception-v3-fid.md) of the FID network, and those of "
            "[ResNet-50](../../reference/networks/resnet50-v1.md). Scoring runs on a CPU, too.\n",
        )
    )


@cache
def _cards() -> list[Scorecard]:
    return [Scorecard.read(path) for path in sorted(RECORD.rglob("*.json"))]


def _measured(words: dict[str, Any], tasks: list[str]) -> str:
    """Return the published scores of small models on the tasks of a table, from the record."""
    lines = [words["measured"] + "\n"] if "measured" in words else []
    for task in tasks if words["train"] and "study" not in words else []:
        cards = sorted(
            (card for card in _cards() if card.task == task), key=lambda card: _value(card, SHOWN[0])
        )
        names = [METRICS[name].name for name in SHOWN]
        rows = [(card.method.name, *(_cell(card, name) for name in SHOWN)) for card in cards]
        asked = "/".join(filter(None, (task, cards[0].variant)))
        lines += [
            f"Small models on {code(asked)} of `palette-mini`: {cards[0].n_scored:,} images of {SMALL} x "
            f"{SMALL} pixels, EfficientNet-Lite0, against the set's own originals. These numbers compare "
            "with each other, not with the paper's. In brackets: 95 % intervals.\n",
            table(("method", *names), rows),
        ]
    if not lines:
        lines.append("Nothing.\n")
    return "\n".join(lines)


def _value(card: Scorecard, metric: str) -> float:
    value = card.scores[metric].value
    return float("inf") if value is None else value


def _cell(card: Scorecard, metric: str) -> str:
    if metric not in card.scores:
        return ""
    score = card.scores[metric]
    interval = interval_text(score)
    return f"{value_text(score)} [{interval}]" if interval else value_text(score)
