"""Submissions: the card, the strict check, and how a model becomes one."""
