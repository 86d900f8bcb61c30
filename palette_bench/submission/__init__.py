"""Submissions: the outputs of a method, their card, the check against a set, and restoring."""
