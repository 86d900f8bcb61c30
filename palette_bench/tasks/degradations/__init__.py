"""Degradations: pure functions from a reference and a keyed random stream to an input.

`DEGRADATIONS` maps each id to its function. The meaning of an id never changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from palette_bench.core.rng import Stream
from palette_bench.core.types import Image
from palette_bench.tasks.degradations.gray import gray_v1
from palette_bench.tasks.degradations.hole import hole_v1
from palette_bench.tasks.degradations.jpeg import jpeg_v1
from palette_bench.tasks.protocol import Degraded, VariantSpec

# all randomness comes from the stream, which is keyed
Degradation: TypeAlias = Callable[[Image, VariantSpec, Stream], Degraded]  # of an (S, S, 3) uint8 reference

DEGRADATIONS: dict[str, Degradation] = {"gray-v1": gray_v1, "jpeg-v1": jpeg_v1, "hole-v1": hole_v1}
