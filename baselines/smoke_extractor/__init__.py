"""Trains the weights of the judge's `smoke` extractor; a tool of the maintainers, not a contestant."""
