"""From features to numbers: extractors, metrics, and the scorecard."""
