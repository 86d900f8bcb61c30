"""Benchmark sets: sources of images, generation, reading and verification."""
