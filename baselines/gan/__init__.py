"""The GAN baseline: the same network as a generator, against patch discriminators at several scales."""

from ..training.method import PackagedMethod

baseline = PackagedMethod(__name__, training="objective", restoring="restore")
