"""The GAN baseline: the same network as generator, with patch discriminators at several scales."""

from ..training.method import PackagedMethod

baseline = PackagedMethod(__name__, training="objective", restoring="objective")
