"""torch-fidelity's interface: `from palette_bench.compat import calculate_metrics`."""

from palette_bench.scoring.compat import calculate_metrics

__all__ = ["calculate_metrics"]
