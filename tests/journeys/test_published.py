"""The scores this repository publishes: whole cards, and a README that repeats them."""

from __future__ import annotations

import subprocess
import sys

from common import REPOSITORY


def test_the_readme_repeats_the_published_scorecards() -> None:
    script = REPOSITORY / "benchmarks" / "published.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr or "run `python benchmarks/published.py`"
