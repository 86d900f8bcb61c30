"""Headers of all training images, read before the first step: a bad one is named now, not after hours."""

from __future__ import annotations

import logging
from collections import defaultdict

from palette_bench.core.errors import Problem, SourceError, problem
from palette_bench.core.processes import in_threads
from palette_bench.core.types import Progress
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.tasks.preprocess import DecodeError

from .data import TrainingImages

logger = logging.getLogger(__name__)

_AT_ONCE = 64  # images a thread takes


def prove_headers(images: TrainingImages, allowed: int, world: ProcessGroup, progress: Progress) -> set[int]:
    """Return the images whose header cannot be read or is of a refused kind; every rank looks at its part.

    Args:
        images: of the run.
        allowed: how many such images are passed over.
        world: its processes.
        progress: of rank 0.

    Raises:
        SourceError: PB309, they are more; all are named, by reason.
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
        raise SourceError(*too_many(images, reasons, allowed))
    for index, reason in sorted(reasons.items()):
        logger.warning("unreadable, passed over: %s (%s)", images.name(index), reason)
    return set(reasons)


def too_many(images: TrainingImages, reasons: dict[int, str], allowed: int) -> list[Problem]:
    """Return PB309 for every reason, with the names of its images."""
    by_reason: dict[str, list[int]] = defaultdict(list)
    for index, reason in sorted(reasons.items()):
        by_reason[reason].append(index)
    return [
        problem(
            "PB309",
            "training images",
            expected=f"at most {allowed:,} of {len(images):,} unreadable",
            found=reason,
            fix=f"replace or remove these files, or pass over them: --unreadable {len(reasons)}",
            ids=[images.name(index) for index in indices],
        )
        for reason, indices in by_reason.items()
    ]
