"""Outputs of a method: card, check, restoring."""
