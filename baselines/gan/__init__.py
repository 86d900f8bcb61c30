"""The GAN baseline: the same network as a generator, against patch discriminators at several scales."""

from ..training.contestant import Contestant

baseline = Contestant(__name__)
