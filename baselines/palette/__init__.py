"""The reference model: Palette, conditional diffusion for image-to-image translation."""

from ..training.contestant import Contestant

baseline = Contestant(__name__)
