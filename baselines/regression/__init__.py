"""The paper's regression baseline: the same network, one forward pass, a squared loss."""

from ..training.method import PackagedMethod

baseline = PackagedMethod(__name__, training="method", restoring="method")
