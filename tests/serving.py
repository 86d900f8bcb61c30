"""A real `study serve` in a process of its own, which tests may kill."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit


class Server:
    """A served study; started again it keeps its address."""

    def __init__(self, study: Path) -> None:
        """Serve `study` on a free port."""
        self._study, self._port = study, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "palette_bench", "study", "serve", str(self._study)]
        self._process = subprocess.Popen(
            [*command, "--port", str(self._port)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        self.address = self._process.stdout.readline().strip().rstrip("/")
        assert self.address, self._process.communicate()[1]
        self._port = urlsplit(self.address).port or 0

    def kill(self) -> None:
        """End it as a power cut would: SIGKILL."""
        self._process.kill()
        self._process.communicate()
