"""What the trained methods share: network, recipes, training pairs, loop, checkpoints."""
