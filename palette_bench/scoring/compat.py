"""`calculate_metrics`: torch-fidelity's interface and defaults on this package's features and arithmetic.

It serves to compare programs; its result is never a scorecard. Source: torch-fidelity 0.4, metrics.py and
defaults.py; metrics, section 7.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from palette_bench.core.errors import InputError, UsageError, problem, suggest
from palette_bench.core.processes import in_threads
from palette_bench.core.types import Image
from palette_bench.scoring.extraction import extract
from palette_bench.scoring.features import FID_NETWORK, open_extractor
from palette_bench.scoring.features.cache import HeadTables
from palette_bench.scoring.features.extractor import FeatureExtractor
from palette_bench.scoring.folders import Alpha, FolderImages, SixteenBit, find_folder
from palette_bench.scoring.metrics.classifier import SEED, SPLITS, shuffled_splits, split_scores
from palette_bench.scoring.metrics.frechet import frechet_distance
from palette_bench.scoring.metrics.kid import kid_subsets

Input: TypeAlias = str | os.PathLike[str] | NDArray[np.uint8]

# keywords of torch-fidelity that are not supported, with the reason
_DECLINED = {
    "batch_size": "the batch is fixed, so that results do not depend on it",
    "verbose": "nothing is printed",
    "cache": "nothing is cached under a name; `score` caches by content",
    "prc": "precision and recall are not part of the protocol",
    "ppl": "path length is not part of the protocol",
}


@dataclass(frozen=True)
class FidelityOptions:
    """The supported options of torch-fidelity, under its names and defaults, and two options for odd files.

    Attributes:
        isc: whether to compute the Inception Score of input1.
        fid: whether to compute the Fréchet distance of both inputs.
        kid: whether to compute the kernel distance of both inputs over random subsets.
        isc_splits: number of splits that the Inception Score averages over.
        kid_subsets: number of random subsets that the kernel distance averages over.
        kid_subset_size: images per subset.
        samples_shuffle: whether to shuffle images before splitting.
        rng_seed: seed of the shuffle and of the subsets.
        samples_find_deep: whether to search sub-folders.
        samples_find_ext: suffixes of image files, separated by commas.
        feature_extractor_weights_path: file of the FID network, or `random:SEED`; None searches the weights
            store.
        cuda: whether to use a GPU; None uses one if there is one.
        alpha: `drop` transparency, or lay images on `black` or `white`; None raises an error on transparent
            images.
        sixteen_bit: `div257` converts images of 16 bits; None raises an error on them.
    """

    isc: bool = False
    fid: bool = False
    kid: bool = False
    isc_splits: int = SPLITS
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    samples_shuffle: bool = True
    rng_seed: int = SEED
    samples_find_deep: bool = False
    samples_find_ext: str = "png,jpg,jpeg"
    feature_extractor_weights_path: str | os.PathLike[str] | None = None
    cuda: bool | None = None
    alpha: Alpha | None = None
    sixteen_bit: SixteenBit | None = None


@dataclass(frozen=True)
class _OptionRule:
    """The allowed values of an option: a description, a test, and the allowed words if it takes words."""

    expected: str
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def _whole(least: int, most: float = math.inf) -> Callable[[Any], bool]:
    numbers = int | np.integer  # a bool is an int, too
    return lambda v: isinstance(v, numbers) and not isinstance(v, bool) and bool(least <= v <= most)


def _word(choices: tuple[str, ...]) -> _OptionRule:
    return _OptionRule(
        f"None or {' or '.join(map(repr, choices))}",
        lambda v: v is None or (isinstance(v, str) and v in choices),
        choices,
    )


_RULES = {
    **dict.fromkeys(
        ("isc", "fid", "kid", "samples_shuffle", "samples_find_deep"),
        _OptionRule("True or False", lambda value: isinstance(value, bool)),
    ),
    "isc_splits": _OptionRule("an integer from 1", _whole(1)),
    "kid_subsets": _OptionRule("an integer from 1", _whole(1)),
    "kid_subset_size": _OptionRule("an integer from 2", _whole(2)),
    "rng_seed": _OptionRule("an integer from 0 to 4294967295", _whole(0, 2**32 - 1)),
    "samples_find_ext": _OptionRule(
        "suffixes separated by commas, e.g. 'png,jpg'",
        lambda value: isinstance(value, str) and any(part.strip() for part in value.split(",")),
    ),
    "feature_extractor_weights_path": _OptionRule(
        "None, a path, or 'random:SEED'", lambda value: value is None or isinstance(value, str | os.PathLike)
    ),
    "cuda": _OptionRule("None, True or False", lambda value: value is None or isinstance(value, bool)),
    "alpha": _word(get_args(Alpha)),
    "sixteen_bit": _word(get_args(SixteenBit)),
}


def calculate_metrics(input1: Input, input2: Input | None = None, **options: Any) -> dict[str, float]:
    """Return metrics of one or two sets of images under torch-fidelity's keys.

    Args:
        input1: a folder, or (N, H, W, 3) uint8.
        input2: a second one; `fid` and `kid` need it.
        options: fields of `FidelityOptions`.

    Returns:
        The requested ones of `inception_score_mean`, `inception_score_std`, `frechet_inception_distance`,
            `kernel_inception_distance_mean`, `kernel_inception_distance_std`.

    Raises:
        TypeError: an unknown or unsupported keyword; the message suggests a known one or gives the reason.
        UsageError: PB403, options of a wrong type or range; all are listed. Also raised if no metric is
            requested, input2 is missing, there are more splits than images, or subsets are larger than an
            input.
        InputError: images cannot be read, an array has another shape or dtype, or there is one image where a
            spread is needed.
        WeightsError: PB705, the weights are missing or wrong.
        DeviceError: PB707, there is no GPU.
    """
    chosen = _options(options)
    one = _opened(input1, chosen)
    two = None if input2 is None else _opened(input2, chosen)
    _require_sense(chosen, one, two)
    gpu = torch.cuda.is_available() if chosen.cuda is None else chosen.cuda
    weights = chosen.feature_extractor_weights_path
    weights = None if weights is None else os.fspath(weights)
    extractor = open_extractor(FID_NETWORK, weights, "center224", "cuda" if gpu else "cpu")
    first = _features(extractor, one)
    found: dict[str, float] = {}
    if chosen.isc:
        scores = split_scores(first["logits"], list(_splits(len(one), chosen)))
        found["inception_score_mean"], found["inception_score_std"] = (
            float(scores.mean()),
            float(scores.std()),
        )
    if two is None or not (chosen.fid or chosen.kid):
        return found
    pools = first["pool_3"], _features(extractor, two)["pool_3"]
    if chosen.fid:
        result = frechet_distance(*pools)
        if result.value is None:
            sizes = f"{result.n[0]:,} and {result.n[1]:,} images"
            raise InputError(f"no Fréchet distance of {sizes}: {result.notes[0]}")
        found["frechet_inception_distance"] = result.value
    if chosen.kid:
        mean, deviation = kid_subsets(
            *pools, subsets=chosen.kid_subsets, size=chosen.kid_subset_size, seed=chosen.rng_seed
        )
        found["kernel_inception_distance_mean"] = mean
        found["kernel_inception_distance_std"] = deviation
    return found


def _options(given: dict[str, Any]) -> FidelityOptions:
    known = [field.name for field in fields(FidelityOptions)]
    for name in given:
        if name in _DECLINED:
            raise TypeError(f"calculate_metrics takes no {name!r}: {_DECLINED[name]}")
        if name not in known:
            raise TypeError(f"calculate_metrics has no keyword {name!r}: {suggest(name, known)}")
    wrong = []
    for name, value in given.items():
        rule = _RULES[name]
        if not rule.accepts(value):
            fix = f"leave {name} out for its default, {getattr(FidelityOptions(), name)!r}"
            if rule.choices and isinstance(value, str):
                fix = suggest(value, rule.choices)
            wrong.append(problem("PB403", name, expected=rule.expected, found=repr(value)[:80], fix=fix))
    if wrong:
        raise UsageError(*wrong)
    return FidelityOptions(**given)


@dataclass(frozen=True)
class _Array:
    """Images in memory, read like those of a `FolderImages`."""

    images: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.images)

    def read(self, at: int) -> Image:
        image: Image = self.images[at]
        return image

    def by_size(self) -> list[list[int]]:
        return [list(range(len(self.images)))]


_Side: TypeAlias = FolderImages | _Array


def _opened(given: Input, options: FidelityOptions) -> _Side:
    if isinstance(given, str | os.PathLike):
        extensions = [e.strip().lower() for e in options.samples_find_ext.split(",") if e.strip()]
        return find_folder(
            Path(given), extensions, options.samples_find_deep, options.alpha, options.sixteen_bit
        )
    shape, dtype = getattr(given, "shape", None), getattr(given, "dtype", None)
    if not isinstance(given, np.ndarray) or dtype != np.uint8 or given.ndim != 4 or given.shape[3] != 3:
        found = f"{shape} {dtype}" if shape is not None else type(given).__name__
        raise InputError(f"images must be a folder or (N, H, W, 3) uint8 in [0, 255], not {found}")
    if not len(given):
        raise InputError("the array holds no images")
    return _Array(given)


def _require_sense(options: FidelityOptions, one: _Side, two: _Side | None) -> None:
    """Raise, before any network runs, unless the requested metrics can be computed."""
    if not (options.isc or options.fid or options.kid):
        raise UsageError("ask for at least one metric: isc=True, fid=True or kid=True")
    if (options.fid or options.kid) and two is None:
        raise UsageError("fid and kid compare two inputs: give input2")
    if options.isc:
        _splits(len(one), options)
    smaller = min(len(one), len(two)) if two is not None else 0
    if options.kid and not 2 <= options.kid_subset_size <= smaller:
        raise UsageError(
            f"subsets of {options.kid_subset_size:,} images from a side of {smaller:,}: "
            "lower kid_subset_size, 2 or more"
        )


def _features(extractor: FeatureExtractor, side: _Side) -> HeadTables:
    """Return the feature tables of one input, rows in its own order; images of one size share batches."""
    parts: list[tuple[list[int], HeadTables]] = []
    for bucket in side.by_size():
        images = in_threads(side.read, bucket)
        (tables,) = extract([extractor], images, len(bucket), lambda count: None)
        parts.append((bucket, tables))
    # undo the grouping by size
    order = np.argsort(np.concatenate([bucket for bucket, _ in parts]))
    return {head: np.concatenate([tables[head] for _, tables in parts])[order] for head in parts[0][1]}


def _splits(n: int, options: FidelityOptions) -> Sequence[NDArray[np.int64]]:
    splits = shuffled_splits(n, options.isc_splits, options.rng_seed)
    if options.samples_shuffle:
        return splits
    ends = np.cumsum([len(split) for split in splits])[:-1]
    return np.split(np.arange(n), ends)
