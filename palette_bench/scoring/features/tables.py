"""Feature tables: pictures through all extractors, each picture decoded once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import numpy as np

from palette_bench.core.errors import InputError
from palette_bench.core.types import Features, Image
from palette_bench.scoring.features.cache import HeadTables
from palette_bench.scoring.features.extractor import FeatureExtractor, as_images


def extract(
    extractors: Sequence[FeatureExtractor],
    pictures: Iterable[Image],
    count: int,
    advance: Callable[[int], object],
    *,
    name: Callable[[int], str] = "picture {:,}".format,
) -> list[HeadTables]:
    """Return the feature tables of pictures, per extractor.

    Args:
        extractors: all of them see each picture while it is in memory; all take one size of batch.
        pictures: (S, S, 3) uint8 each, in id order.
        count: how many there are.
        advance: told of every batch; may raise to stop.
        name: index -> what a picture is called in an error.

    Returns:
        For each extractor head -> (count, D) float32; memory holds these and one batch.

    Raises:
        InputError: an extractor returns NaN or infinity; the first picture is named.
    """
    tables: list[dict[str, Features]] = [{} for _ in extractors]
    remaining, batch = iter(pictures), micro_batch(extractors)
    for start in range(0, count, batch):
        images = as_images(list(islice(remaining, batch)))
        for extractor, table in zip(extractors, tables, strict=True):
            for head, rows in extractor(images).items():
                broken = ~np.isfinite(rows).all(axis=1)
                if broken.any():
                    first = name(start + int(broken.argmax()))
                    raise InputError(f"{extractor.id}: {head} is not finite for {first}")
                whole = table.setdefault(head, np.empty((count, rows.shape[1]), np.float32))
                whole[start : start + len(rows)] = rows
        advance(len(images))
    return list(tables)


def micro_batch(extractors: Sequence[FeatureExtractor]) -> int:
    """Return how many consecutive pictures extractors of one device see at a time."""
    (batch,) = {extractor.micro_batch for extractor in extractors}
    return batch
