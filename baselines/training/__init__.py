"""What the trained methods share: network, recipes, training pairs, training loop, checkpoints."""
