"""What a degradation takes and returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from palette_bench.core.rng import Stream
from palette_bench.core.types import Image, Mask
from palette_bench.tasks.protocol import VariantSpec


@dataclass(frozen=True)
class Degraded:
    """An input, its hole if the task has one, and what was drawn for the manifest."""

    input: Image
    mask: Mask | None = None
    drawn: dict[str, int | str] = field(default_factory=dict)


class Degradation(Protocol):
    """Turn a reference, (S, S, 3) uint8, into an input; draws come from `stream` alone."""

    def __call__(self, reference: Image, variant: VariantSpec, stream: Stream) -> Degraded:
        """Return the degraded image."""
