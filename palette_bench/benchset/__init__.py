"""Test sets: sources, generation, reading."""
