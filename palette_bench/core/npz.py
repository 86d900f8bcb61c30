"""Safe reading of untrusted .npz files: headers are tested before values are read; nothing is unpickled."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[Any]]

_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# exceptions that zipfile and NumPy raise for damaged files, as found in tests with damaged files
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError, OSError, EOFError, ValueError, KeyError),
    *(RuntimeError, TypeError, IndexError, OverflowError, SyntaxError),
)


class NpzError(ValueError):
    """The file does not hold the requested arrays; the message states what it holds."""


@contextmanager
def _opened(file: Path | io.BytesIO) -> Iterator[zipfile.ZipFile]:
    """Yield the archive; damage found in the block becomes NpzError with one short line."""
    try:
        with zipfile.ZipFile(file) as archive:
            yield archive
    except NpzError:
        raise
    except _DAMAGE as error:
        said = str(error).strip("'\"").partition("\n")[0] or type(error).__name__
        raise NpzError(said[:200]) from error


def member_names(file: Path | io.BytesIO) -> list[str]:
    """Return the names of the arrays in a file.

    Raises:
        NpzError: the file is not a zip archive.
    """
    with _opened(file) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def read_npz(
    file: Path | io.BytesIO, wanted: Mapping[str, tuple[int, ...]], dtypes: tuple[str, ...]
) -> Arrays:
    """Return name -> array for the wanted names; other arrays in the file are ignored.

    Args:
        file: the .npz file.
        wanted: name -> exact shape.
        dtypes: accepted dtypes, as `dtype.str`.

    Raises:
        NpzError: the file is damaged, or an array is absent or has another shape or dtype.
    """
    with _opened(file) as archive:
        return {name: _array(archive, name, shape, dtypes) for name, shape in wanted.items()}


def read_scalar(file: Path | io.BytesIO, name: str) -> str | None:
    """Return the integer or short text under a name in the file, as text; None if the name is absent.

    Raises:
        NpzError: the file is damaged, or the value is not one integer or one short text.
    """
    with _opened(file) as archive:
        if f"{name}.npy" not in archive.namelist():
            return None
        with archive.open(f"{name}.npy") as member:
            shape, dtype = _header(member, name)
        if shape != () or dtype.kind not in "iuU" or dtype.itemsize > 1024:
            raise NpzError(f"{name} {shape} {dtype}")
        with archive.open(f"{name}.npy") as member:
            return str(np.lib.format.read_array(member, allow_pickle=False).item())


def _array(
    archive: zipfile.ZipFile, name: str, shape: tuple[int, ...], dtypes: tuple[str, ...]
) -> NDArray[Any]:
    if f"{name}.npy" not in archive.namelist():
        raise NpzError(f"no {name} among {', '.join(archive.namelist()[:8]) or 'no members'}")
    with archive.open(f"{name}.npy") as member:
        found, dtype = _header(member, name)
    if found != shape or dtype.str not in dtypes:
        raise NpzError(f"{name} {found} {dtype}")
    with archive.open(f"{name}.npy") as member:
        values: NDArray[Any] = np.lib.format.read_array(member, allow_pickle=False)
        if member.read(1):  # also proves the member's checksum
            raise NpzError(f"{name} with bytes after its values")
    return values


def _header(member: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version not in _READERS:
        raise NpzError(f"{name} in version {version} of the format")
    shape, _, dtype = _READERS[version](member)
    return shape, dtype
