"""The signature and the result of a degradation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from palette_bench.core.rng import Stream
from palette_bench.core.types import Image, Mask
from palette_bench.tasks.protocol import VariantSpec


@dataclass(frozen=True)
class Degraded:
    """The result of a degradation.

    Attributes:
        input: (S, S, 1 or 3) uint8.
        mask: (S, S) bool, True = hole, or None if the task has no hole.
        drawn: details of the degradation that the manifest records, e.g. the number of draws.
    """

    input: Image
    mask: Mask | None = None
    drawn: dict[str, int | str] = field(default_factory=dict)


class Degradation(Protocol):
    """Function that turns a reference into an input; all its randomness comes from `stream`."""

    def __call__(self, reference: Image, variant: VariantSpec, stream: Stream) -> Degraded:
        """Return the degraded image.

        Args:
            reference: (S, S, 3) uint8.
            variant: the variant of the task.
            stream: keyed random stream.
        """
