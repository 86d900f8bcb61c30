"""Which of a person's own images are finished: a folder run that was stopped goes on where it was."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palette_bench.core import atomic
from palette_bench.core.fingerprint import fingerprint, sha256

RECORD = ".palette-bench.jsonl"


@dataclass
class FinishedImages:
    """The finished images of an output folder.

    Attributes:
        folder: where they are written; None for a single image, which is always made.
        run: what decides a pixel, apart from the files read: weights and options.
    """

    folder: Path | None
    run: Any
    _known: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read what earlier runs finished; a torn line is passed over."""
        if self.folder is None or not (self.folder / RECORD).is_file():
            return
        for line in (self.folder / RECORD).read_text("utf-8", "replace").splitlines():
            try:
                entry = json.loads(line)
                self._known[entry["file"]] = entry
            except (ValueError, TypeError, KeyError):
                continue

    def holds(self, target: Path, read: bytes) -> bool:
        """Return whether `target` is what this run makes of the bytes read, untouched since.

        Args:
            target: the output.
            read: everything it is made of: image and mask.
        """
        known = self._known.get(self._name(target))
        try:
            return known == self._entry(target, read, target.read_bytes())
        except OSError:
            return False

    def add(self, target: Path, read: bytes, written: bytes) -> None:
        """Note a finished output."""
        if self.folder is not None:
            atomic.append_lines(
                self.folder / RECORD, [json.dumps(self._entry(target, read, written), ensure_ascii=True)]
            )

    def _name(self, target: Path) -> str:
        return target.relative_to(self.folder).as_posix() if self.folder else target.name

    def _entry(self, target: Path, read: bytes, written: bytes) -> dict[str, str]:
        names = ("file", "run", "read", "written")
        return dict(
            zip(
                names, (self._name(target), fingerprint(self.run), sha256(read), sha256(written)), strict=True
            )
        )
