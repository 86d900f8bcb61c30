"""The settings of level L0: what must hold for equal runs to give equal bits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def exact() -> Iterator[None]:
    """Compute with deterministic kernels in full float32, and leave the settings as they were.

    Source: trust, section 1.1.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
    strict = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    before = [(place, key, getattr(place, key)) for place, key, _ in _settings()]
    torch.use_deterministic_algorithms(True)
    for place, key, value in _settings():
        setattr(place, key, value)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warn_only)
        for place, key, value in reversed(before):
            setattr(place, key, value)


def _settings() -> Iterator[tuple[Any, str, Any]]:
    """Yield where, what and which value: no search among kernels, no TF32."""
    backends: Any = torch.backends
    yield backends.cudnn, "benchmark", False
    # debugging aid of the deterministic mode that writes every activation twice
    yield torch.utils.deterministic, "fill_uninitialized_memory", False
    if hasattr(backends.cuda.matmul, "fp32_precision"):  # torch 2.9; it refuses to be asked the older way
        for place in (backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn):
            yield place, "fp32_precision", "ieee"
    else:
        yield backends.cuda.matmul, "allow_tf32", False
        yield backends.cudnn, "allow_tf32", False
