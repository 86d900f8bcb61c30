"""What a scorecard says about the machine and program that made it; no user, host or folder names."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from palette_bench.tasks import canary

# precision -> type of the arithmetic, TF32, level of determinism (trust, section 1.1)
_PRECISION = {
    "fp32": ("float32", False, "L0"),
    "tf32": ("float32", True, "L2"),
    "bf16": ("bfloat16", False, "L2"),
    "fp64": ("float64", False, "L0"),
}


def environment(torch_version: str, device: str, precision: str) -> dict[str, str | bool | None]:
    """Return the environment of a scorecard; it enters no fingerprint.

    Args:
        torch_version: as torch reports it.
        device: kind and model, e.g. `cuda (NVIDIA H200)`.
        precision: of the networks, e.g. `fp32`.
    """
    versions = canary.environment()
    commit = _git("rev-parse", "HEAD")
    dtype, tf32, level = _PRECISION[precision]
    return {
        **{key: versions[key] for key in ("palette_bench", "python", "numpy", "pillow", "os")},
        "libjpeg": versions["libjpeg_turbo"],
        "torch": torch_version,
        "device": device,
        "dtype": dtype,
        "tf32": tf32,
        "level": level,
        "git": commit,
        "dirty": bool(commit and _git("status", "--porcelain")),
        "command": _command(sys.argv),
    }


def _git(*arguments: str) -> str | None:
    """Return what git says about the checkout this package runs from; None if it is installed."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def _command(words: list[str]) -> str:
    """Return a command line with paths reduced to base names; `ID=PATH` keeps its id."""
    return " ".join("=".join(Path(part).name for part in word.split("=")) for word in words)
