"""Labelled pictures in memory, their order in an epoch, and how they vary, by keyed draws."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from palette_bench.core.errors import SourceError, problem
from palette_bench.core.rng import Stream
from palette_bench.core.types import SILENT, Fingerprint, Image, Progress
from palette_bench.scoring.features.extractor import as_images
from palette_bench.scoring.features.smoke import SIDE, area64
from palette_bench.tasks.preprocess import DecodeError

from ..training.data import open_pictures, unreadable
from ..training.draws import draw_key, stream
from .recipe import Augmentation

GREY = 128.0  # what the network sees as 0


@dataclass(frozen=True)
class Labelled:
    """Pictures of known classes.

    Attributes:
        pixels: (N, 3, 64, 64) uint8.
        labels: (N,) int64, positions in `classes`.
        classes: names of their folders, sorted.
        digest: of the pictures' names in order.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    digest: Fingerprint

    def __len__(self) -> int:
        return len(self.labels)


def read_labelled(paths: Sequence[Path], progress: Progress = SILENT) -> Labelled:
    """Return the pictures of class folders, lists or tars; other sizes are brought to 64 as in scoring.

    Raises:
        SourceError: no pictures, unreadable ones, or fewer than two classes.
    """
    pictures = open_pictures(paths, "unknown")
    names = [PurePosixPath(pictures.name(i)).parent.name for i in range(len(pictures))]
    classes = sorted(set(names))
    if len(classes) < 2:
        raise SourceError(
            problem(
                "PB607",
                ", ".join(map(str, paths)),
                expected="class folders: CLASS/PICTURE",
                found=f"{len(classes)} class",
                fix="give the folder above the class folders, or tars that hold them",
            )
        )
    pixels = torch.empty((len(pictures), 3, SIDE, SIDE), dtype=torch.uint8)
    broken = []
    with progress("reading", len(pictures)) as advance:
        for i in range(len(pictures)):
            try:
                pixels[i] = _at_64(pictures.pixels(i))
            except DecodeError:
                broken.append(i)
            advance(1)
    if broken:
        raise SourceError(unreadable(pictures, broken))
    labels = torch.tensor([classes.index(name) for name in names])
    return Labelled(pixels, labels, tuple(classes), pictures.fingerprint)


def _at_64(picture: Image) -> Tensor:
    return area64(as_images([picture]).float()).round().to(torch.uint8)[0]


def accept_validation(training: Labelled, validation: Labelled) -> None:
    """Accept validation pictures of the very classes that are trained.

    Raises:
        SourceError: PB607.
    """
    missing = sorted(set(training.classes) ^ set(validation.classes))
    if missing:
        raise SourceError(
            problem(
                "PB607",
                "classes in --data or --val alone",
                expected="the same class folders in both",
                found=f"{len(training.classes):,} and {len(validation.classes):,}",
                fix="give training and validation pictures of one data set",
                ids=missing,
            )
        )


def order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """Return the order of pictures in an epoch: another one each time, the same on every machine."""
    digest = hashlib.sha256(draw_key(seed, epoch, 0, "order").encode("ascii")).digest()
    words = np.random.Philox(key=int.from_bytes(digest[:16], "little")).random_raw(count)
    return np.argsort(words, kind="stable")


def varied(pixels: Tensor, indices: Sequence[int], seed: int, epoch: int, how: Augmentation) -> Tensor:
    """Return pictures as an epoch sees them: cropped, flipped, recoloured, a square hidden.

    Args:
        pixels: (N, 3, 64, 64) uint8.
        indices: (N,) of the pictures among all: the keys of their draws.
        seed: of the run.
        epoch: from 0.
        how: most and least of everything.

    Returns:
        (N, 3, 64, 64) float32 in [0, 255].
    """
    draws = [stream(seed, epoch, index, "augmentation") for index in indices]
    views = torch.tensor([_view(draw, how) for draw in draws])
    grid = functional.affine_grid(views, list(pixels.shape), align_corners=False)
    images = functional.grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
    factors = torch.tensor(
        [[_uniform(draw, 1 - how.jitter, 1 + how.jitter) for _ in range(3)] for draw in draws]
    )
    images = _recoloured(images, factors)
    return torch.where(_hidden(draws, how.cutout), GREY, images)


def _uniform(draw: Stream, low: float, high: float) -> float:
    return low + (high - low) * draw.u32() / 2**32


def _view(draw: Stream, how: Augmentation) -> list[list[float]]:
    """Return the map from the result's coordinates to the picture's, both in [-1, 1]."""
    area = _uniform(draw, how.least_area, 1)
    stretch = how.stretch ** _uniform(draw, -1, 1)
    width, height = min(1, math.sqrt(area * stretch)), min(1, math.sqrt(area / stretch))
    left, top = (_uniform(draw, -1, 1) * (1 - length) for length in (width, height))
    mirror = -1 if draw.below(2) and how.flip else 1
    return [[mirror * width, 0, left], [0, height, top]]


def _recoloured(images: Tensor, factors: Tensor) -> Tensor:
    """Return images with saturation, contrast and brightness multiplied by (N, 3) factors."""
    saturation, contrast, brightness = factors[:, :, None, None, None].unbind(dim=1)
    grey = images.mean(dim=1, keepdim=True)
    images = grey + saturation * (images - grey)
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return (brightness * (mean + contrast * (images - mean))).clamp(0, 255)


def _hidden(draws: Sequence[Stream], side: int) -> Tensor:
    """Return (N, 1, 64, 64) bool, a square of `side` pixels somewhere in each picture."""
    starts = torch.tensor([[draw.below(SIDE - side + 1) for _ in range(2)] for draw in draws])
    places = torch.arange(SIDE)
    inside = (places >= starts[..., None]) & (places < starts[..., None] + side)
    return (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
