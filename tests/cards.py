"""Cards with made-up numbers and a table that belongs to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from palette_bench.benchset.manifest import BenchSet
from palette_bench.core.fingerprint import pixel_digest, sha256, table_digest
from palette_bench.scoring.scorecard import (
    Fingerprints,
    Score,
    Scorecard,
    TableLink,
    write_scorecard,
)
from palette_bench.submission.card import Declared, Method, Sampling, Training
from palette_bench.submission.check import read_output
from palette_bench.submission.files import open_submission
from palette_bench.tasks.protocol import load

NOTHING: dict[str, Any] = {}
FRECHET_SE = 0.153


def sha(name: str) -> str:
    """Return a digest that stands for `name`."""
    return sha256(name.encode())


def make_table(ids: list[str], level: float = 12.0, seed: int = 0) -> pd.DataFrame:
    """Return a per-image table that comes to the numbers of `make_scores`; distances lie around `level`.

    Only `classification_agreement` cannot be met: 61.7 % of a few images is no whole number.
    """
    draws = np.random.default_rng(seed)
    distances = draws.gamma(4.0, level / 4, len(ids))
    noise = np.random.default_rng([seed, 1]).normal(size=(3, len(ids)))
    influence = noise[0] - noise[0].mean()
    return pd.DataFrame(
        {
            "image_id": ids,
            "label": [None] * len(ids),
            "pixels": [sha(f"{seed}{i}") for i in ids],
            "fid_influence": influence * (FRECHET_SE * len(ids) ** 0.5 / influence.std(ddof=1)),
            "is_kl": noise[1] - noise[1].mean() + np.log(9.4),
            "top1": (noise[2] > -0.3).astype(int),
            "perceptual_distance": distances * (level / distances.mean()),
            "psnr": draws.normal(24, 3, len(ids)),
        }
    )


def make_scores(n: int, frechet: float = 3.1, level: float = 12.0, **changes: Any) -> dict[str, Score]:
    """Return plausible scores of the smoke extractor; `changes` replace fields of all of them."""
    ours = {"extractor": "smoke-random", "n": n} | changes
    reference = {"reference": sha("reference"), "params": {"rank": 64}}
    return {
        "frechet_distance": Score(
            value=frechet, low=frechet - 0.3, high=frechet + 0.3, se=FRECHET_SE, interval="influence-v1",
            direction="lower", unit="none", **ours, **reference,
        ),
        "classifier_score": Score(
            value=9.4, low=8.9, high=9.9, se=0.25, interval="log-influence-v1",
            direction="higher", unit="none", **ours,
        ),
        "classification_agreement": Score(
            value=61.7, low=55.6, high=67.5, se=3.0, interval="wilson-v1",
            direction="higher", unit="%", **ours,
        ),
        "perceptual_distance": Score(
            value=level, low=level * 0.92, high=level * 1.08, se=level * 0.04, interval="mean-t-v1",
            direction="lower", unit="none", **ours,
        ),
        "psnr": Score(
            value=24.1, low=23.7, high=24.5, se=0.2, interval="mean-t-v1",
            direction="none", unit="dB", n=n,
        ),
    }  # fmt: skip


METHOD = {"version": "1", "authors": ("A. Person",), "license": "Apache-2.0"}
TRAINING = {"datasets": ("photos",), "saw_test_images": "no", "parameters": 62_600_000, "task_specific": True}
ENVIRONMENT = {"palette_bench": "0.1.0", "python": "3.11", "dirty": False, "command": "score SUB --set SET"}


def make_card(
    table: pd.DataFrame,
    slug: str = "painter",
    *,
    method: dict[str, Any] = NOTHING,
    training: dict[str, Any] = NOTHING,
    fingerprints: dict[str, Any] = NOTHING,
    **changes: Any,
) -> Scorecard:
    """Return an unsigned card on palette-mini / inpainting / center32; the rest replaces its fields."""
    names = {"slug": slug, "name": slug.replace("-", " ").title()}
    prints = {
        "protocol": load("palette-mini").fingerprint,
        "set": sha("set"),
        "outputs": table_digest(dict(zip(table["image_id"], table["pixels"], strict=True))),
        "references": {"frechet_distance": sha("reference")},
        "extractors": {"smoke-random": sha("extractor")},
    }
    fields: dict[str, Any] = {
        "schema": Scorecard.schema_name(),
        "content_sha256": sha(""),
        "date": "2026-02-03",
        "method": Method(**(METHOD | names | method)),
        "training": Training(**(TRAINING | training)),
        "sampling": Sampling(
            sampler="ancestral", steps=1000, seed=0, seconds_per_image=1.25, hardware="a GPU"
        ),
        "declared": Declared(uses_mask=True, uses_label=False),
        "protocol": "palette-mini",
        "source": "photos-64",
        "task": "inpainting",
        "variant": "center32",
        "fingerprints": Fingerprints(**(prints | fingerprints)),
        "n_expected": len(table),
        "n_scored": len(table),
        "scores": make_scores(len(table)),
        "per_image": TableLink(file="", sha256=sha(""), rows=0),
        "problems": (),
        "environment": ENVIRONMENT,
    }
    return Scorecard(**(fields | changes))


def with_outputs(card: Scorecard, outputs: str = "") -> Scorecard:
    """Return a card of outputs of its own, by default those that its method and version stand for."""
    named = sha(outputs or f"{card.method.slug} {card.method.version}")
    return card.model_copy(update={"fingerprints": card.fingerprints.model_copy(update={"outputs": named})})


def write_card(folder: Path, slug: str = "painter", n: int = 30, seed: int = 0, **changes: Any) -> Path:
    """Write a signed card and its table as FOLDER/SLUG.json; return the path."""
    table = make_table([f"photo-{i:03d}" for i in range(n)], seed=seed)
    table["pixels"] = [sha(f"{slug}{seed}{i}") for i in table["image_id"]]
    path = folder / f"{slug}.json"
    write_scorecard(make_card(table, slug, **changes), table, path)
    return path


def card_of(submission: Path, benchset: Path, path: Path, **changes: Any) -> Path:
    """Write the card of real outputs on any set, with made-up numbers."""
    opened = BenchSet.open(benchset)
    table = make_table(opened.ids)
    with open_submission(submission, len(opened.ids)) as files:
        side = opened.protocol.side
        table["pixels"] = [pixel_digest(read_output(files, i, side)) for i in opened.ids]
    manifest = opened.manifest
    prints = {"set": manifest.set_fingerprint}
    place = {"task": manifest.task, "variant": manifest.variant, "source": manifest.source}
    place["protocol"] = manifest.protocol
    write_scorecard(make_card(table, fingerprints=prints, **(place | changes)), table, path)
    return path
