"""palette_bench: the Palette evaluation protocol for image-to-image models, as files and numbers.

Public names are imported only when they are used: `import palette_bench` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "About": "palette_bench.submission.methods",
    "BenchSet": "palette_bench.benchset.manifest",
    "ContestantSet": "palette_bench.benchset.manifest",
    "Declared": "palette_bench.submission.card",
    "Evaluator": "palette_bench.scoring.evaluator",
    "Method": "palette_bench.submission.card",
    "MethodInfo": "palette_bench.submission.methods",
    "Sampling": "palette_bench.submission.card",
    "Scorecard": "palette_bench.scoring.scorecard",
    "Training": "palette_bench.submission.card",
    "check": "palette_bench.submission.check",
    "frechet_distance": "palette_bench.scoring.metrics.frechet",
    "generate": "palette_bench.benchset.generate",
    "kernel_distance": "palette_bench.scoring.metrics.kid",
    "restore": "palette_bench.submission.restore",
    "score": "palette_bench.scoring.score",
    "verify": "palette_bench.benchset.verify",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605  # computed: one table names every public thing once


def __getattr__(name: str) -> Any:
    """Import a public name on first use."""
    if name == "compat":
        return import_module("palette_bench.compat")
    if name not in _HOMES:
        raise AttributeError(f"module 'palette_bench' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return list(__all__)
