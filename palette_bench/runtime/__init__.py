"""Torch utilities shared by scoring and training."""
