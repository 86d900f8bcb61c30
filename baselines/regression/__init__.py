"""The paper's regression baseline: the same network, one step, a squared loss."""

from ..training.contestant import Contestant

baseline = Contestant(__name__)
