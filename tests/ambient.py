"""States of a process that a caller may leave behind, each entered and left again: name -> context."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

BACKENDS: Any = torch.backends
PLACES = [BACKENDS.mkldnn.matmul, BACKENDS.mkldnn.conv] if hasattr(BACKENDS.mkldnn, "matmul") else []
GRAPHICS = [BACKENDS.cuda.matmul, BACKENDS.cudnn.conv] if hasattr(BACKENDS.cudnn, "conv") else []


class Watching(TorchFunctionMode):
    """A mode that looks at every call and changes none."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@contextmanager
def attribute(value: Any, *places: Any, name: str) -> Iterator[None]:
    before = [getattr(place, name) for place in places]
    for place in places:
        setattr(place, name, value)
    try:
        yield
    finally:
        for place, found in zip(places, before, strict=True):
            setattr(place, name, found)


@contextmanager
def called(write: Callable[[Any], object], value: Any, usual: Any) -> Iterator[None]:
    write(value)
    try:
        yield
    finally:
        write(usual)


@contextmanager
def warning_only() -> Iterator[None]:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def graphics_autocast() -> Iterator[None]:
    """Set what `torch.autocast("cuda")` sets; without a GPU that one warns and does nothing."""
    torch.set_autocast_enabled("cuda", True)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)


_precision = partial(called, torch.set_float32_matmul_precision)

STATES: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast bf16": lambda: torch.autocast("cpu", torch.bfloat16),
    "autocast fp16": lambda: torch.autocast("cpu", torch.float16),
    "default dtype float64": lambda: called(torch.set_default_dtype, torch.float64, torch.float32),
    "default dtype bfloat16": lambda: called(torch.set_default_dtype, torch.bfloat16, torch.float32),
    "default device meta": lambda: called(torch.set_default_device, "meta", None),
    "with device meta": lambda: torch.device("meta"),
    "matmul precision high": lambda: _precision("high", "highest"),
    "matmul precision medium": lambda: _precision("medium", "highest"),
    "fp32_precision of all": lambda: attribute("bf16", BACKENDS, name="fp32_precision"),
    "fp32_precision of oneDNN": lambda: attribute("bf16", *PLACES, name="fp32_precision"),
    "oneDNN off": lambda: attribute(False, BACKENDS.mkldnn, name="enabled"),
    "plain attention": lambda: sdpa_kernel(SDPBackend.MATH),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "deterministic, warnings only": warning_only,
    "small numbers flushed": lambda: called(torch.set_flush_denormal, True, False),
    "anomalies detected": lambda: torch.autograd.set_detect_anomaly(True),
    "numpy raises": lambda: np.errstate(all="raise"),
    "function mode": Watching,
    "dispatch mode": lambda: FlopCounterMode(display=False),
}

# what only a GPU would obey: without one the settings are compared, not bits
GPU_STATES: Mapping[str, Callable[[], AbstractContextManager[Any]]] = {
    "autocast cuda": graphics_autocast,
    "cuda matmul allow_tf32": lambda: attribute(True, BACKENDS.cuda.matmul, name="allow_tf32"),
    "fp32_precision of CUDA": lambda: attribute("tf32", *GRAPHICS, name="fp32_precision"),
    "cuDNN searches": lambda: attribute(True, BACKENDS.cudnn, name="benchmark"),
    "cuDNN off": lambda: attribute(False, BACKENDS.cudnn, name="enabled"),
}


def snapshot() -> dict[str, object]:
    """Return everything the states change, as torch tells it; None where it refuses to."""
    cuda = BACKENDS.cuda
    readers: dict[str, Callable[[], object]] = {
        "autocast": lambda: [torch.is_autocast_enabled(device) for device in ("cpu", "cuda")],
        "dtype": torch.get_default_dtype,
        "device": lambda: torch.empty(0).device.type,
        "older precision": torch.get_float32_matmul_precision,
        "cuda matmul tf32": lambda: cuda.matmul.allow_tf32,
        "cudnn tf32": lambda: BACKENDS.cudnn.allow_tf32,
        "precision": lambda: BACKENDS.fp32_precision,
        "places": lambda: [place.fp32_precision for place in (*PLACES, *GRAPHICS)],
        "oneDNN": lambda: BACKENDS.mkldnn.enabled,
        "cuDNN": lambda: [
            getattr(BACKENDS.cudnn, name) for name in ("enabled", "benchmark", "deterministic")
        ],
        "attention": lambda: [cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled()],
        "plain attention": lambda: [cuda.math_sdp_enabled(), cuda.fp16_bf16_reduction_math_sdp_allowed()],
        "inference": torch.is_inference_mode_enabled,
        "gradients": torch.is_grad_enabled,
        "deterministic": torch.are_deterministic_algorithms_enabled,
        "warns": torch.is_deterministic_algorithms_warn_only_enabled,
        "fills": lambda: torch.utils.deterministic.fill_uninitialized_memory,
        "small numbers": lambda: float(np.finfo(np.float64).tiny) / 2 > 0,
        "anomalies": torch.is_anomaly_enabled,
        "numpy": np.geterr,
    }
    return {name: _told(read) for name, read in readers.items()}


def _told(read: Callable[[], object]) -> object:
    try:
        return read()
    except (RuntimeError, AttributeError):  # contradicting settings; an older torch
        return None
