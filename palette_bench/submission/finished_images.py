"""Record of the finished images of a folder of own images, so that a stopped run can resume."""

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
        folder: the output folder; None for a single image, which is always made again.
        run: JSON value of everything that determines the pixels except the files read: weights and options.
    """

    folder: Path | None
    run: Any
    _known: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read the record of earlier runs; torn lines are skipped."""
        if self.folder is None or not (self.folder / RECORD).is_file():
            return
        for line in (self.folder / RECORD).read_text("utf-8", "replace").splitlines():
            try:
                entry = json.loads(line)
                self._known[entry["file"]] = entry
            except (ValueError, TypeError, KeyError):
                continue

    def holds(self, target: Path, read: bytes) -> bool:
        """Return whether `target` is the unchanged output of an equal run on the same bytes.

        Args:
            target: the output file.
            read: the bytes of the image, followed by those of its mask.
        """
        known = self._known.get(self._name(target))
        try:
            return known == self._entry(target, read, target.read_bytes())
        except OSError:
            return False

    def add(self, target: Path, read: bytes, written: bytes) -> None:
        """Record a finished output: its file, the bytes read for it and the bytes written."""
        if self.folder is not None:
            atomic.append_lines(
                self.folder / RECORD, [json.dumps(self._entry(target, read, written), ensure_ascii=True)]
            )

    def _name(self, target: Path) -> str:
        return target.relative_to(self.folder).as_posix() if self.folder else target.name

    def _entry(self, target: Path, read: bytes, written: bytes) -> dict[str, str]:
        digests = {"run": fingerprint(self.run), "read": sha256(read), "written": sha256(written)}
        return {"file": self._name(target), **digests}
