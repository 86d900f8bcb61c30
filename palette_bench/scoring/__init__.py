"""Feature extractors, metrics and the scorecard."""
