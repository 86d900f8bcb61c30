"""The settings of level L0: what must hold for equal runs to give equal bits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact() -> Iterator[None]:
    """Compute with deterministic kernels in full float32, and leave the settings as they were.

    Source: trust, section 1.1.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (
        torch.are_deterministic_algorithms_enabled(),
        cudnn.benchmark,
        cudnn.allow_tf32,
        matmul.allow_tf32,
    )
    torch.use_deterministic_algorithms(True)
    cudnn.benchmark = cudnn.allow_tf32 = matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before[1:]
