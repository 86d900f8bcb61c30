"""Resources that the machine grants this process: memory, processors, threads, a compiler."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch

from palette_bench.core.errors import StackError

_CGROUP = Path("/sys/fs/cgroup")  # a container sees its own limits here


def memory_available(device: torch.device, cgroup: Path = _CGROUP) -> int | None:
    """Return the bytes still available on a device; None if they are unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type not in ("cpu", "mps"):
        return None
    known = [amount for amount in (_host_memory(), _granted_memory(cgroup)) if amount is not None]
    return min(known, default=None)


def _host_memory() -> int | None:
    lines = _text(Path("/proc/meminfo")).splitlines()
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    if found:
        return found[0]
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")  # macOS: only the total is known
    except (ValueError, OSError):
        return None


def _granted_memory(cgroup: Path) -> int | None:
    """Return what is left of a container's memory limit; inactive file cache is reclaimable and counts."""
    limit, used = _text(cgroup / "memory.max").strip(), _text(cgroup / "memory.current").strip()
    if not limit.isdecimal() or not used.isdecimal():
        return None
    stat = dict(line.split() for line in _text(cgroup / "memory.stat").splitlines())
    return int(limit) - int(used) + int(stat.get("inactive_file", 0))


def processors(cgroup: Path = _CGROUP) -> int:
    """Return how many processors this process may use: its affinity, limited by a container's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    quota, _, period = _text(cgroup / "cpu.max").strip().partition(" ")
    granted = round(int(quota) / int(period)) if quota.isdecimal() and period.isdecimal() else count
    return max(1, min(count, granted))


@contextlib.contextmanager
def threads(wanted: int | None, fixed: bool = False) -> Iterator[int]:
    """Set torch's number of threads and yield it; restore the previous number on exit.

    By default torch's number is limited to the processors that are granted and idle: a thread that waits for
    a processor makes all others wait at the end of every operation. Beside one busy process, two threads on
    two cores took up to three times as long as one.

    Args:
        wanted: number of threads; None chooses.
        fixed: whether the choice must not depend on the load of the machine.
    """
    before, free = torch.get_num_threads(), processors()
    if not fixed and "OMP_NUM_THREADS" not in os.environ:
        with contextlib.suppress(OSError):  # no load average: all count as idle
            free = min(free, max(1, (os.cpu_count() or 1) - round(os.getloadavg()[0])))
    torch.set_num_threads(wanted or min(before, free))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def require_compiler(device: torch.device) -> None:
    """Raise unless torch can compile: it calls a compiler of the system.

    Raises:
        StackError: PB711, there is no compiler.
    """
    known = ("CXX", ("g++", "clang++", "c++")) if device.type == "cpu" else ("CC", ("gcc", "clang", "cc"))
    names = (os.environ.get(known[0], ""), *known[1])
    if not any(shutil.which(name) for name in names if name):
        fix = "install a compiler, or set compile = false: only the speed differs"
        expected = f"one of {', '.join(known[1])}"
        raise StackError.of("PB711", "[speed] compile = true", expected=expected, found="none", fix=fix)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
