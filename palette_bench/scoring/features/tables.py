"""Feature tables: pictures through all extractors, each picture decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np

from palette_bench.core.errors import InputError
from palette_bench.core.types import Features, Image
from palette_bench.scoring.features.cache import HeadTables
from palette_bench.scoring.features.extractor import FeatureExtractor, as_images

MICRO_BATCH = 16  # fixed: another batch may change the last bits of features


def extract(
    extractors: Sequence[FeatureExtractor],
    pictures: Iterable[Image],
    count: int,
    advance: Callable[[int], object],
) -> list[HeadTables]:
    """Return the feature tables of pictures, per extractor.

    Args:
        extractors: all of them see each picture while it is in memory.
        pictures: (S, S, 3) uint8 each, in id order.
        count: how many there are.
        advance: told of every batch; may raise to stop.

    Returns:
        For each extractor head -> (count, D) float32; memory holds these and one batch.

    Raises:
        InputError: an extractor returns NaN or infinity.
    """
    tables: list[dict[str, Features]] = [{} for _ in extractors]
    remaining = iter(pictures)
    for start in range(0, count, MICRO_BATCH):
        images = as_images(list(islice(remaining, MICRO_BATCH)))
        for extractor, table in zip(extractors, tables, strict=True):
            for head, rows in extractor(images).items():
                if not np.isfinite(rows).all():
                    raise InputError(f"{extractor.id}: {head} is not finite for pictures {start + 1:,} ff.")
                whole = table.setdefault(head, np.empty((count, rows.shape[1]), np.float32))
                whole[start : start + len(rows)] = rows
        advance(len(images))
    return list(tables)
