"""Names that tests share; not in a conftest: every folder may have one, and one of them wins the import."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"  # real images and weights, where a developer has them

RunCli = Callable[..., "subprocess.CompletedProcess[str]"]
