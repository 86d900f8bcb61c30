"""Access to the data files of the package, `protocols/` and `reports/`, and to the user's cache folder."""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from palette_bench.core.errors import SpecError, StackError, suggest


def _package(name: str) -> Traversable:
    try:
        return files(f"palette_bench.{name}")
    except ModuleNotFoundError as error:
        raise StackError(
            f"palette_bench.{name} is not installed: the checkout alone is not the package.\n"
            "  fix       pip install -e .   (or leave the checkout's folder, if a wheel is installed)"
        ) from error


@cache
def protocol_ids() -> tuple[str, ...]:
    """Return the sorted ids of the shipped protocols."""
    folders = _package("protocols").iterdir()
    return tuple(sorted(f.name for f in folders if f.is_dir() and (f / "protocol.toml").is_file()))


def protocol_file(protocol: str, name: str) -> bytes:
    """Return the bytes of a file in a protocol's folder.

    Raises:
        SpecError: PB609, the protocol is unknown.
    """
    known = protocol_ids()
    if protocol not in known:
        raise SpecError.of(
            "PB609", "protocol", expected="a known protocol", found=protocol, fix=suggest(protocol, known)
        )
    return (_package("protocols") / protocol / name).read_bytes()


def report_text(name: str) -> str:
    """Return the text of a page template or asset, by its path inside `reports/`."""
    return _package("reports").joinpath(*name.split("/")).read_text(encoding="utf-8")


def user_cache() -> Path | None:
    """Return the user's cache folder; None for a user without a home folder.

    Source: XDG base directory specification; a relative path in XDG_CACHE_HOME counts as unset.
    """
    given = Path(os.environ.get("XDG_CACHE_HOME") or ".")
    if given.is_absolute():
        return given
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # no HOME, and the user is not in the password database
        return None
