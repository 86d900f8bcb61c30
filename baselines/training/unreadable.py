"""Training images that cannot be read: found by their headers before the first step, passed over, named."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection

from palette_bench.core.errors import Problem, SourceError, problem
from palette_bench.core.processes import in_threads
from palette_bench.core.types import Image, Progress
from palette_bench.runtime.distributed import ProcessGroup
from palette_bench.tasks.preprocess import DecodeError

from .data import TrainingImages

logger = logging.getLogger(__name__)

UNREADABLE_SHARE = 0.001  # of all images, allowed by default; more stop the run
_AT_ONCE = 64  # images per task of a thread
_TRIES = 64  # consecutive unreadable images, after which the file system is suspected


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


def read_next(images: TrainingImages, index: int) -> tuple[Image, tuple[int, ...]]:
    """Return the image at `index`, or the next readable one, and the indices that were skipped.

    Raises:
        SourceError: PB309, too many consecutive images are unreadable.
    """
    passed: list[int] = []
    for step in range(min(_TRIES, len(images))):
        found = (index + step) % len(images)
        try:
            return images.pixels(found), tuple(passed)
        except DecodeError:
            passed.append(found)
    raise SourceError(unreadable(images, passed))


def unreadable(
    images: TrainingImages,
    indices: Collection[int],
    allowed: int | None = None,
    found: str = "not a JPEG or PNG inside, truncated, 16-bit, transparent or animated",
    over: str | None = None,
) -> Problem:
    """Return PB309 with the names of unreadable images.

    Args:
        images: training images of the run.
        indices: the unreadable ones.
        allowed: how many a run may have; None for the default share.
        found: what is wrong with them.
        over: how to pass over them; None for the option, where a number is allowed.
    """
    most = f"{UNREADABLE_SHARE:.1%}" if allowed is None else f"{allowed:,}"
    if over is None:
        over = "" if allowed is None else f" or pass over them: --unreadable {len(indices)}"
    return problem(
        "PB309",
        "training images",
        expected=f"at most {most} of {len(images):,} unreadable",
        found=found,
        fix=f"replace or remove these files{over}",
        ids=[images.name(index) for index in sorted(indices)],
    )
