"""Degradations: pure functions from a reference and a keyed random stream to an input.

`DEGRADATIONS` maps each id to its row. The meaning of an id never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from palette_bench.core.rng import Stream
from palette_bench.core.types import Image
from palette_bench.tasks.degradations.area import area_misfit, area_v1
from palette_bench.tasks.degradations.blur import blur_v1
from palette_bench.tasks.degradations.gray import gray_v1
from palette_bench.tasks.degradations.hole import hole_misfit, hole_v1
from palette_bench.tasks.degradations.jpeg import jpeg_v1
from palette_bench.tasks.protocol import Degraded, VariantSpec


@dataclass(frozen=True)
class Degradation:
    """A row of the table: all that sets and protocols know of a degradation.

    Attributes:
        apply: makes input and mask of an (S, S, 3) uint8 reference; all randomness comes from the stream,
            which is keyed.
        one_of: keys of a variant of which it reads exactly one.
        parameters: names of the variant's `parameters` that it reads -> smallest and largest value.
        misfit: returns why a variant does not fit images of a side, or ""; called for variants with all keys.
        channels: of the input.
        has_mask: whether it makes a hole and a mask.
    """

    apply: Callable[[Image, VariantSpec, Stream], Degraded]
    one_of: tuple[str, ...] = ()
    parameters: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    misfit: Callable[[VariantSpec, int], str] = lambda variant, side: ""
    channels: int = 3
    has_mask: bool = False


DEGRADATIONS: dict[str, Degradation] = {
    "gray-v1": Degradation(gray_v1, channels=1),
    "jpeg-v1": Degradation(jpeg_v1, one_of=("quality",)),
    "hole-v1": Degradation(
        hole_v1, one_of=("hole", "kept", "freeform_pixels"), misfit=hole_misfit, has_mask=True
    ),
    "area-v1": Degradation(area_v1, parameters={"factor": (2, 16)}, misfit=area_misfit),
    "blur-v1": Degradation(blur_v1, parameters={"sigma": (1, 3)}),
}
