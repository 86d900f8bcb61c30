"""The paper's studies at small scale: one command trains, restores, scores and compares."""

NAMES = ("contest", "l1-l2", "attention", "multitask")
