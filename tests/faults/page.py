"""docs/trust.md: each script of this folder writes its own part, as it measured it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "trust.md"


def put(name: str, text: str, page: str | None = None) -> str:
    """Return the page, or the text given, with the part of a script replaced.

    Args:
        name: of the script, without suffix; the page holds its two marks.
        text: Markdown.
        page: the whole text; None reads it.
    """
    page = PAGE.read_text() if page is None else page
    start, end = f"<!-- {name}: written by tests/faults/{name}.py -->", f"<!-- end of {name} -->"
    before, _, rest = page.partition(start)
    _, found, after = rest.partition(end)
    assert found, f"docs/trust.md has no part for {name}"
    return f"{before}{start}\n{text}\n{end}{after}"


class Report:
    """Lines that are printed, and kept for the page."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, line: str) -> None:
        """Print a line at once and keep it."""
        print(line, flush=True)
        self.lines.append(line)

    def write(self, name: str, command: str) -> None:
        """Write the lines into the page, with the command and the versions that made them."""
        import numpy as np
        import PIL

        made_by = f"Python {platform.python_version()}, NumPy {np.__version__}, Pillow {PIL.__version__}"
        head = f"`{command}`, {made_by}, {platform.system()} {platform.machine()}, {os.cpu_count()} cores:"
        PAGE.write_text(put(name, "\n".join(["", head, "", "```", *self.lines, "```", ""])))
