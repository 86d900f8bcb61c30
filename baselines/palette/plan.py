"""Which sampler walks which grid in how many network evaluations: the choice that a card records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from palette_bench.core.errors import UsageError, suggest

from .samplers import Clip
from .schedule import GRIDS, Schedule

Sampler = Literal["ancestral", "ancestral-posterior", "ddim", "dpmpp-2m"]
Grid = Literal["paper", "paper-468", "log-snr"]

DEFAULT_STEPS = 1000  # Palette, Appendix B
FEWEST_ANCESTRAL = 250  # with fewer steps its deviation is 4 % off and more, that of dpmpp-2m below 1 %


@dataclass(frozen=True)
class Plan:
    """A sampler, decided.

    Attributes:
        sampler: a key of `samplers.SAMPLERS`.
        grid: a key of `schedule.GRIDS`.
        clip: of y0.
        levels: (NFE + 1,) gammas, the noisiest first, the last 1.
    """

    sampler: Sampler
    grid: Grid
    clip: Clip
    levels: tuple[float, ...]

    def __str__(self) -> str:
        """Return the name on cards, e.g. dpmpp-2m/log-snr/static; `plan_for` reads it."""
        return f"{self.sampler}/{self.grid}/{self.clip}"

    @property
    def evaluations(self) -> int:
        """Return the network evaluations per image."""
        return len(self.levels) - 1


def plan_for(
    sampling: Schedule,
    trained: Schedule,
    evaluations: int,
    *,
    sampler: Sampler | None = None,
    grid: Grid | None = None,
    clip: Clip = "static",
) -> Plan:
    """Return a plan; what is None follows from the number of evaluations.

    Raises:
        UsageError: the grid has another number of levels.
    """
    sampler = sampler or ("ancestral" if evaluations >= FEWEST_ANCESTRAL else "dpmpp-2m")
    grid = grid or ("paper" if evaluations == sampling.steps else "log-snr")
    return Plan(sampler, grid, clip, tuple(GRIDS[grid](sampling, trained, evaluations).tolist()))


def read_name(name: str) -> dict[str, Any]:
    """Return the keywords of `plan_for` that SAMPLER, SAMPLER/GRID or SAMPLER/GRID/CLIP names.

    Raises:
        UsageError: a part is unknown.
    """
    choices: dict[str, Any] = {"sampler": Sampler, "grid": Grid, "clip": Clip}
    parts = name.split("/")
    if len(parts) > len(choices):
        raise UsageError(f"sampler {name!r}: write SAMPLER[/GRID[/CLIP]], e.g. dpmpp-2m/log-snr/static")
    named = dict(zip(choices, parts, strict=False))
    wrong = [
        f"{key} {part!r}: {suggest(part, get_args(choices[key]))}"
        for key, part in named.items()
        if part not in get_args(choices[key])
    ]
    if wrong:
        raise UsageError(f"sampler {name!r}: {'; '.join(wrong)}")
    return named
