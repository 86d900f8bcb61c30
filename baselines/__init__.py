"""Baseline methods and their trainer.

The judge sees them only through files: sets in, submissions out.
"""
