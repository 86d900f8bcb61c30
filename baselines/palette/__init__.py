"""The reference model: Palette, conditional diffusion for image-to-image translation."""

from ..training.method import PackagedMethod

baseline = PackagedMethod(__name__, training="diffusion", restoring="restore")
