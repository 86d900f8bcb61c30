"""The paper's regression baseline: the same network, one step, a squared loss."""

from ..training.method import PackagedMethod

baseline = PackagedMethod(__name__, training="method", restoring="method")
