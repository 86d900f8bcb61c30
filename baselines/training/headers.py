"""Check of all training images' headers before the first step, so that bad images are reported at once."""

from __future__ import annotations

import logging
from collections import defaultdict

from palette_bench.core.errors import SourceError
from palette_bench.core.processes import in_threads
from palette_bench.core.types import Progress
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.tasks.preprocess import DecodeError

from .data import TrainingImages, unreadable

logger = logging.getLogger(__name__)

_AT_ONCE = 64  # images per task of a thread


def check_headers(images: TrainingImages, allowed: int, world: ProcessGroup, progress: Progress) -> set[int]:
    """Return the indices of images with an unreadable header or of a refused kind; each rank checks a part.

    Args:
        images: training images of the run.
        allowed: how many such images may be skipped.
        world: process group of the run.
        progress: where rank 0 reports progress.

    Raises:
        SourceError: PB309, there are more than `allowed`; names all of them, by reason.
    """
    own = range(world.rank, len(images), world.size)
    parts = [own[start : start + _AT_ONCE] for start in range(0, len(own), _AT_ONCE)]

    def broken(part: range) -> list[tuple[int, str]]:
        found = []
        for index in part:
            try:
                images.prove(index)
            except DecodeError as error:
                found.append((index, str(error)))
        return found

    mine: set[tuple[int, str]] = set()
    with progress("checking headers", len(own)) as advance:
        for part, found in zip(parts, in_threads(broken, parts), strict=True):
            mine.update(found)
            advance(len(part))
    reasons = dict(world.union(mine))
    if len(reasons) > allowed:
        by_reason: dict[str, list[int]] = defaultdict(list)
        for index, reason in sorted(reasons.items()):
            by_reason[reason].append(index)
        over = f", or pass over them: --unreadable {len(reasons)}"
        raise SourceError(*(unreadable(images, i, allowed, reason, over) for reason, i in by_reason.items()))
    for index, reason in sorted(reasons.items()):
        logger.warning("unreadable, passed over: %s (%s)", images.name(index), reason)
    return set(reasons)
