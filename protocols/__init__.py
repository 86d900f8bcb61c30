"""The rules: one folder per protocol; data, no code."""
