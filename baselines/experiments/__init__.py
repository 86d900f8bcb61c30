"""The paper's studies at small scale: one command trains, restores, scores and compares."""
