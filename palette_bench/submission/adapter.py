"""The door for outside tools that work on folders: pictures out in the tool's layout, results back in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from palette_bench.benchset.manifest import ContestantSet
from palette_bench.core.errors import UsageError
from palette_bench.core.types import SILENT, Progress
from palette_bench.submission.contestant import Restorer, baselines, load_baseline


@dataclass(frozen=True)
class ToolOptions:
    """How a tool works with files; None takes the adapter's own.

    Attributes:
        hole_value: level of mask pixels to fill.
        template: name of a result, with `{id}` in it.
        tool_size: side the tool works at, pixels: inputs are enlarged, results reduced.
        accept_lossy: JPEG results are taken.
    """

    hole_value: int | None = None
    template: str | None = None
    tool_size: int | None = None
    accept_lossy: bool = False


@runtime_checkable
class Adapter(Protocol):
    """One tool's layout."""

    def export(
        self, benchset: ContestantSet, folder: Path, options: ToolOptions, progress: Progress = SILENT
    ) -> None:
        """Write inputs and masks as the tool reads them; nothing else of the set is looked at."""

    def results(
        self, benchset: ContestantSet, folder: Path, options: ToolOptions, progress: Progress = SILENT
    ) -> Restorer:
        """Return the tool's results, checked, behind the interface of a model."""


def load_adapter(name: str) -> Adapter:
    """Import an adapter.

    Raises:
        UsageError: it is not installed, or is a method that runs by itself.
    """
    adapter = load_baseline(name)
    if not isinstance(adapter, Adapter):
        known = ", ".join(sorted(point for point in baselines() if point.startswith("adapter:")))
        raise UsageError(f"{name} runs by itself: --export and --import are for adapters ({known})")
    return adapter
