"""Benchmark sets: sources, generation, verification, reading."""
