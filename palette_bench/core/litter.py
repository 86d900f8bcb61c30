"""What file managers, network disks and notebooks leave beside a person's own files."""

from __future__ import annotations

_NAMES = frozenset(
    {".DS_Store", ".localized", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "Icon\r"}
)
_FOLDERS = frozenset(
    {"__MACOSX", ".ipynb_checkpoints", ".Trashes", ".Spotlight-V100", ".fseventsd", "@eaDir"}
)


def is_litter(name: str) -> bool:
    """Return whether a file is known litter by its POSIX relative name: itself, or a folder above it.

    A name such as `._a.png` is the twin that macOS writes beside `a.png` on disks of other systems.
    """
    *folders, last = name.rstrip("/").split("/")
    return last in _NAMES or last in _FOLDERS or last.startswith("._") or not _FOLDERS.isdisjoint(folders)
