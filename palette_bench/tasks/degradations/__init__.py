"""Degradations: pure functions from a reference and a keyed random stream to an input.

`DEGRADATIONS` maps each id to its function. The meaning of an id never changes.
"""

from __future__ import annotations

from palette_bench.tasks.degradations.degraded import Degradation
from palette_bench.tasks.degradations.gray import gray_v1
from palette_bench.tasks.degradations.hole import hole_v1
from palette_bench.tasks.degradations.jpeg import jpeg_v1

DEGRADATIONS: dict[str, Degradation] = {"gray-v1": gray_v1, "jpeg-v1": jpeg_v1, "hole-v1": hole_v1}
