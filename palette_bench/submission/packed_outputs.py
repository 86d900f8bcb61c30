"""Outputs that a submission's folder holds in tar or parquet files, read without unpacking.

A file `outputs/ANY.tar` stands for the files in it, as if they lay in outputs/: members ID.png. A file
`outputs/ANY.parquet` does so for its rows: columns `id` and `image`, bytes of a PNG or a struct that holds
them as `bytes`, as `datasets` writes it. The same holds in samples/K/. Both come from strangers, so sizes
that they declare are checked before anything is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from palette_bench.benchset.containers import require_pyarrow
from palette_bench.core import tar
from palette_bench.core.errors import SubmissionError
from palette_bench.core.png import PngError
from palette_bench.core.text import is_litter

_PACKED = re.compile(r"(outputs|samples/[1-9][0-9]{0,3})/[^/]+\.(tar|parquet)")
_SPARE = 64  # members allowed beside the images
_GROUP_BYTES = 1 << 28  # unpacked, of one row group: what a reader holds in memory
_GROUPS_KEPT = 4
_IDS_BYTES = 1 << 20  # of the ids of a file, beside 256 for each
_FIX = "write it again: a tar of ID.png, or parquet with the columns id and image"


@dataclass(frozen=True)
class _Place:
    """Where the bytes of an output lie: `at` is an offset and a size, or a row group and a row."""

    path: Path
    at: tuple[int, int]


@dataclass
class PackedOutputs:
    """The outputs in the tar and parquet files of a submission.

    Attributes:
        names: their names, as if they were files: outputs/ID.png.
        refused: name -> reason, for those that are never read.
    """

    names: list[str] = field(default_factory=list)
    refused: dict[str, PngError] = field(default_factory=dict)
    _places: dict[str, _Place] = field(default_factory=dict)
    # kept for this submission only: later, another file may have the same path
    _row_group: Callable[[Path, int], tuple[bytes, ...]] = field(
        default_factory=lambda: lru_cache(_GROUPS_KEPT)(_row_group)
    )

    def add(self, name: str, place: _Place, fault: PngError | None) -> None:
        """Add an output; the second one of a name is refused."""
        if name in self._places:
            fault = PngError("PB203", "one file per id", "several")
        else:
            self.names.append(name)
            self._places[name] = place
        if fault:
            self.refused[name] = fault

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def read(self, name: str, limit: int) -> bytes:
        """Return the bytes of an output.

        Raises:
            PngError: PB307, it is larger than `limit`; PB305, its row group is damaged or too large.
            OSError: its file cannot be read.
        """
        place = self._places[name]
        if place.path.suffix == ".parquet":
            group, row = place.at
            data = self._row_group(place.path, group)[row]
        else:
            data = _read_at(place.path, place.at[0], min(place.at[1], limit + 1))
        if len(data) > limit:
            raise PngError("PB307", f"at most {limit:,} bytes", "more")
        return data


def is_packed(name: str) -> bool:
    """Return whether a relative name in a submission is that of a file which stands for outputs."""
    return bool(_PACKED.fullmatch(name))


def open_packed(root: Path, files: Iterable[str], n_ids: int) -> PackedOutputs:
    """Return the outputs in the packed files of a submission, by their headers and ids alone.

    Args:
        root: the submission's folder.
        files: relative names of its packed files, which are regular files.
        n_ids: number of images in its set; the cap on members follows from it.

    Raises:
        SubmissionError: PB103, a file holds too much; PB104, it is damaged or of other columns; PB801.
        StackError: PB711, pyarrow is not installed.
    """
    found = PackedOutputs()
    most = n_ids + _SPARE
    for file in files:
        folder, path = file.rpartition("/")[0], root / file
        index = _parquet_index if path.suffix == ".parquet" else _tar_index
        try:
            outputs = list(islice(index(path, most), most + 1))
        except tar.TarError as error:
            raise _refused("PB104", file, "a whole tar", str(error)) from error
        except OSError as error:
            raise _refused("PB801", file, "a readable file", error.strerror or str(error)) from error
        if len(outputs) > most:
            raise _refused("PB103", file, f"at most {most:,} members", "more")
        for name, at, fault in outputs:
            found.add(f"{folder}/{name}", _Place(path, at), fault)
    return found


def _tar_index(path: Path, most: int) -> Iterator[tuple[str, tuple[int, int], PngError | None]]:
    with open(path, "rb") as file:
        for member in tar.members(file):
            if not is_litter(member.name):
                yield member.name, (member.offset, member.size), member.fault


def _parquet_index(path: Path, most: int) -> Iterator[tuple[str, tuple[int, int], PngError | None]]:
    arrow, parquet = require_pyarrow()
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            expected, found = _parquet_fault(file, most, arrow)
            if found:
                raise _refused("PB103", path.name, expected, found)
            for group in range(file.num_row_groups):
                batches = file.iter_batches(64, row_groups=[group], columns=["id"])
                ids = (image_id for batch in batches for image_id in batch.column(0).to_pylist())
                for row, image_id in enumerate(ids):
                    yield f"{image_id}.png", (group, row), None
    except arrow.ArrowException as error:
        raise _refused("PB104", path.name, "parquet", str(error).splitlines()[0][:200]) from error


def _parquet_fault(file: Any, most: int, arrow: Any) -> tuple[str, str]:
    """Return what was expected and found of the file's size and columns; nothing found if all is well."""
    columns = dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
    image = columns.get("image")
    if image is not None and arrow.types.is_struct(image) and image.get_field_index("bytes") >= 0:
        image = image.field("bytes").type
    if columns.get("id") != arrow.string() or image != arrow.binary():
        return "columns id (string) and image (binary)", ", ".join(columns)[:200]
    meta = file.metadata
    if meta.num_rows > most:
        return f"at most {most:,} rows", f"{meta.num_rows:,} rows"
    ids = 0
    for group in map(meta.row_group, range(meta.num_row_groups)):
        sizes = {
            c.path_in_schema: c.total_uncompressed_size for c in map(group.column, range(group.num_columns))
        }
        ids += sizes["id"]
        if (largest := max(sizes.values())) > _GROUP_BYTES:
            return f"row groups of at most {_GROUP_BYTES:,} bytes", f"{largest:,} bytes"
    cap = _IDS_BYTES + 256 * meta.num_rows
    return (f"at most {cap:,} bytes of ids", f"{ids:,} bytes") if ids > cap else ("", "")


def _row_group(path: Path, group: int) -> tuple[bytes, ...]:
    """Return the images of a row group, unpacked one by one: a dictionary can hold one for many rows.

    Raises:
        PngError: PB305, it is damaged, or unpacks to more than a reader may hold.
    """
    arrow, parquet = require_pyarrow()
    images, total = [], 0
    try:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            for batch in file.iter_batches(1, row_groups=[group], columns=["image"]):
                (image,) = batch.column(0).to_pylist()
                images.append((image.get("bytes") if isinstance(image, dict) else image) or b"")
                total += len(images[-1])
                if total > _GROUP_BYTES:
                    raise PngError("PB305", f"a row group of at most {_GROUP_BYTES:,} bytes", "more")
    except arrow.ArrowException as error:
        raise PngError("PB305", "an intact row group", str(error).splitlines()[0][:200]) from error
    return tuple(images)


def _read_at(path: Path, offset: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(size)


def _refused(code: str, name: str, expected: str, found: str) -> SubmissionError:
    return SubmissionError.of(code, name, expected=expected, found=found, fix=_FIX)
