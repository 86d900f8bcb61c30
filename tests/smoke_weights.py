"""Weights files of the `smoke` extractor that nobody trained, and pictures to train it on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from palette_bench.baselines.smoke_extractor.pictures import Labelled
from palette_bench.baselines.smoke_extractor.recipe import read_recipe
from palette_bench.baselines.smoke_extractor.weights_file import write_weights
from palette_bench.core.fingerprint import sha256
from palette_bench.core.png import encode
from palette_bench.scoring.features.random_weights import randomise
from palette_bench.scoring.features.smoke import SmokeNetwork


def random_network(classes: int, seed: int = 0) -> SmokeNetwork:
    network = SmokeNetwork(classes)
    randomise(network, network, seed)
    return network


def drawn(classes: int) -> Labelled:
    """A picture of noise per class."""
    pixels = np.random.default_rng(5).integers(0, 256, (classes, 3, 64, 64), dtype=np.uint8)
    names = tuple(f"c{number:03d}" for number in range(classes))
    return Labelled(torch.from_numpy(pixels), torch.arange(classes), names, sha256(b"drawn"))


def write_random(folder: Path, classes: int = 100) -> Path:
    """Write random weights and their card as the trainer writes trained ones."""
    pictures = drawn(classes)
    return write_weights(folder, random_network(classes), read_recipe(None, None), pictures, pictures)


def write_classes(folder: Path, each: int = 8, side: int = 8, seed: int = 11) -> Path:
    """Write class folders that a glance tells apart: dark, red and bright noise."""
    draw = np.random.default_rng(seed)
    for name, colour in {"dark": (40, 40, 40), "red": (210, 40, 40), "bright": (210, 210, 210)}.items():
        (folder / name).mkdir(parents=True)
        for number in range(each):
            pixels = np.array(colour) + draw.integers(-40, 41, (side, side, 3))
            (folder / name / f"{number}.png").write_bytes(encode(pixels.astype(np.uint8)))
    return folder
