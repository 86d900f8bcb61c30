"""Names of litter: files and folders that file managers, network disks and notebooks leave behind."""

from __future__ import annotations

_NAMES = frozenset(
    {".DS_Store", ".localized", "Thumbs.db", "ehthumbs.db", "desktop.ini", ".directory", "Icon\r"}
)
_FOLDERS = frozenset(
    {"__MACOSX", ".ipynb_checkpoints", ".Trashes", ".Spotlight-V100", ".fseventsd", "@eaDir"}
)


def is_litter(name: str) -> bool:
    """Return whether a POSIX relative name, or a folder above it, is known litter.

    Names such as `._a.png` count: macOS writes such a twin beside `a.png` on disks of other systems.
    """
    *folders, last = name.rstrip("/").split("/")
    return last in _NAMES or last in _FOLDERS or last.startswith("._") or not _FOLDERS.isdisjoint(folders)
