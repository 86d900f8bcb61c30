"""Device selection, and reproducible arithmetic for everything that runs a network.

Settings made by the caller or by another library hold for the whole process or thread. Many of them change
results, from the last bits to the third digit. Source: trust, section 1.1.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from operator import attrgetter
from typing import Any, TypeAlias

import torch
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from palette_bench.core.errors import DeviceError, Problem, problem, suggest

_AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")

# Environment variable -> values that leave float32 products unchanged. oneDNN reads its two variables when
# torch is loaded; cuBLAS and cuDNN read theirs before the first product. No torch setting overrides them.
_VARIABLES = {
    "ONEDNN_DEFAULT_FPMATH_MODE": ("", "strict"),
    "DNNL_DEFAULT_FPMATH_MODE": ("", "strict"),
    "NVIDIA_TF32_OVERRIDE": ("", "0"),
}

# Backends on which torch may trade the accuracy of float32 products for speed (GPU and CPU, since torch 2.9)
_PLACES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.conv", "mkldnn.matmul", "mkldnn.rnn")

_PARALLEL_GRAIN = 32_768  # minimum number of elements that torch gives to one thread

Setting: TypeAlias = tuple[Callable[[], Any], Callable[[Any], object], Any]  # read, write, value


def devices_here() -> dict[str, int]:
    """Return the number of usable devices of each kind on this machine."""
    found = {"cpu": 1, "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0}
    found["mps"] = int(torch.backends.mps.is_available())
    found["xpu"] = torch.xpu.device_count() if torch.xpu.is_available() else 0
    return found


def open_device(name: str) -> torch.device:
    """Return the named device if this machine has it; there is no silent fallback.

    Args:
        name: `cpu`, `cuda`, `cuda:1`, `mps`, `xpu` or `xpu:1`, for example.

    Raises:
        DeviceError: PB707, the name is not a device, or this machine lacks the device; the message lists the
            devices that this machine has.
    """
    counts = devices_here()
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is not None and (device.index or 0) < counts.get(device.type, 0):
        return device
    here = ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counts.items() if count)
    fix = suggest(name.lower(), counts) if device is None else "use one of these, or a torch built for it"
    expected, found = "a device that torch can use", f"this machine has {here} (torch {torch.__version__})"
    raise DeviceError.of("PB707", f"--device {name}", expected=expected, found=found, fix=fix)


@contextmanager
def reproducible_arithmetic(*, tf32: bool = False, deterministic: bool = True) -> Iterator[None]:
    """Run the enclosed code with fixed arithmetic settings; restore the caller's settings on exit.

    All code of this package that builds, trains or runs a network does so inside this context. Autocast is
    off, new tensors are float32 on the CPU, gradients are recorded, float32 products have full precision, and
    kernels are those of a fresh torch process. A nested context may change these settings for part of the
    code.

    The number of threads and the processor's instruction set are not changed. Determinism level L0 only
    covers runs with equal threads and instruction sets, as it only covers equal machines.

    Args:
        tf32: whether float32 products on a GPU may use TF32, which drops 13 bits.
        deterministic: whether to use kernels that give the same bits in every run, without a search for the
            fastest kernel. If False, the caller's settings for this stay.

    Raises:
        DeviceError: PB708, something changes the arithmetic and cannot be switched off from here.
    """
    refused = arithmetic_findings()
    if refused:
        raise DeviceError(*refused)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))  # also ends no_grad
        for device in _AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.empty(0).device.type != "cpu":
            stack.enter_context(torch.device("cpu"))
        _apply(stack, _ordinary_settings())
        _set_float32_products(stack, tf32)
        if deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS is first used
            _apply(stack, _deterministic_settings())
        _require_small_numbers(torch.get_num_threads())
        yield


def arithmetic_findings() -> list[Problem]:
    """Return a PB708 problem for each influence on the arithmetic that cannot be switched off from here."""
    found = [
        problem(
            "PB708",
            f"environment variable {name}",
            expected="full float32 products",
            found=os.environ[name],
            fix=f"unset {name} and start again; no setting of torch overrides it",
        )
        for name, harmless in _VARIABLES.items()
        if os.environ.get(name, "").lower() not in harmless
    ]
    if is_in_torch_dispatch_mode():
        found.append(
            problem(
                "PB708",
                "TorchDispatchMode",
                expected="torch's own operations",
                found="an active mode, which may replace them: FlopCounterMode splits some into others",
                fix="leave the mode before this call",
            )
        )
    return found


def _apply(stack: ExitStack, settings: Iterable[Setting]) -> None:
    """Apply, in order, the settings that differ from the current ones; the stack undoes them in reverse."""
    for read, write, value in settings:
        found = read()
        if found != value:
            stack.callback(write, found)
            write(value)


def _attribute(name: str, value: Any) -> Setting:
    """Return the setting of an attribute, given its dotted name below `torch`."""
    owner, _, attribute = name.rpartition(".")
    place = attrgetter(owner)(torch)
    return partial(getattr, place, attribute), partial(setattr, place, attribute), value


def _ordinary_settings() -> Iterator[Setting]:
    """Yield the settings of a fresh torch process, except those of float32 products."""
    yield torch.get_default_dtype, torch.set_default_dtype, torch.float32
    # The flush mode also applies to Python floats in the calling thread, so a Python float reveals it
    yield lambda: sys.float_info.min / 2 == 0, torch.set_flush_denormal, False
    yield _attribute("backends.cudnn.enabled", True)
    yield _attribute("backends.mkldnn.enabled", True)
    cuda: Any = torch.backends.cuda  # CPU attention obeys these settings as well
    yield cuda.flash_sdp_enabled, cuda.enable_flash_sdp, True
    yield cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp, True
    yield cuda.cudnn_sdp_enabled, cuda.enable_cudnn_sdp, True
    yield cuda.math_sdp_enabled, cuda.enable_math_sdp, True
    yield cuda.fp16_bf16_reduction_math_sdp_allowed, cuda.allow_fp16_bf16_reduction_math_sdp, False
    yield _attribute("backends.cuda.matmul.allow_bf16_reduced_precision_reduction", True)


def _deterministic_settings() -> Iterator[Setting]:
    """Yield the settings that make kernels give the same bits in every run."""
    yield (
        lambda: (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
        ),
        lambda modes: torch.use_deterministic_algorithms(modes[0], warn_only=modes[1]),
        (True, False),
    )
    yield _attribute("backends.cudnn.benchmark", False)
    yield _attribute("backends.cudnn.deterministic", True)
    # Off: a debugging aid of the deterministic mode that writes every activation twice
    yield _attribute("utils.deterministic.fill_uninitialized_memory", False)


def _set_float32_products(stack: ExitStack, tf32: bool) -> None:
    """Set float32 products to full float32, or to TF32 on a GPU; the stack restores the old settings."""
    older: Setting = (_older_precision, torch.set_float32_matmul_precision, "high" if tf32 else "highest")
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch before 2.9
        _apply(stack, [older, _attribute("backends.cudnn.allow_tf32", tf32)])
        return
    # A backend without a setting of its own inherits this global one. Clear the global setting first;
    # otherwise an inherited value could not be told from the backend's own value.
    _apply(stack, [_attribute("backends.fp32_precision", "none")])
    word = "tf32" if tf32 else "ieee"
    places = [_attribute(f"backends.{place}.fp32_precision", word) for place in _PLACES]
    for read, write, _ in places:
        stack.callback(write, read())  # save first: the older setting changes the backends, too
    _apply(stack, [older])
    _apply(stack, places)


def _older_precision() -> str:
    """Return the precision setting of torch before 2.9: `highest`, `high` or `medium`.

    Torch refuses to report this setting while the settings of the backends disagree with it. This function
    therefore sets the backends to each possible combination in turn; the caller must restore them.
    """
    backends: Any = torch.backends
    for graphics, cpu in (("ieee", "ieee"), ("tf32", "tf32"), ("tf32", "bf16")):
        if hasattr(backends.cuda.matmul, "fp32_precision"):
            backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision = graphics, cpu
        with suppress(RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # some versions warn that the getter is deprecated
            return torch.get_float32_matmul_precision()
    raise AssertionError("one of the three is the older setting")


@cache
def _require_small_numbers(threads: int) -> None:
    """Raise unless torch's worker threads keep numbers below 1e-38.

    A worker thread inherits the flush mode of the thread that starts it and keeps that mode. Resetting the
    mode in the calling thread therefore does not reach worker threads that already run.

    Args:
        threads: number of torch threads.

    Raises:
        DeviceError: PB708, the worker threads replace such numbers by 0.
    """
    small = torch.full((threads * _PARALLEL_GRAIN,), sys.float_info.min / 2, dtype=torch.float64)
    if torch.count_nonzero(small * 1.0) < len(small):
        expected, found = "threads that keep numbers below 1e-38", "torch threads that replace them by 0"
        fix = "start again, and call it after the first use of this package or not at all"
        raise DeviceError.of("PB708", "torch.set_flush_denormal", expected=expected, found=found, fix=fix)
