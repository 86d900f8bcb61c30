"""Three containers for the images of sets, each as the libraries that read it expect it.

    parquet     data/CONFIG.parquet: a row per image, columns `id` and one image per kind
    folder      CONFIG/KIND/ID.png, and CONFIG/metadata.jsonl with a line per image
    webdataset  data/CONFIG-00000.tar ...: members ID.KIND.png

CONFIG is the folder name of a set, KIND is input, mask or reference. Equal images give equal bytes. What is
read back comes from strangers: names, sizes and encodings are checked before anything is believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from palette_bench.core import atomic, tar
from palette_bench.core.errors import BenchSetError, StackError
from palette_bench.core.png import MAX_BYTES, PngError, read_regular
from palette_bench.core.types import ImageId

Format: TypeAlias = Literal["parquet", "folder", "webdataset"]
FORMATS: tuple[Format, ...] = get_args(Format)
DATA, METADATA = "data", "metadata.jsonl"

ROW_GROUP = 64  # images per row group: what a writer or reader of parquet holds in memory
TAR_IMAGES = 1000  # images per tar
_BATCH = 16  # rows that are decoded together
_OTHER_FORMATS = ", or take --format folder or webdataset"
_MEMBER = re.compile(r"([A-Za-z0-9_-]{1,64})\.(input|mask|reference)\.png")

Row: TypeAlias = tuple[ImageId, Mapping[str, bytes]]  # id, and kind -> bytes of the PNG


class StoredImage(NamedTuple):
    """An image file found in a container; `fault` says why its bytes are missing."""

    image_id: ImageId
    kind: str
    data: bytes
    fault: PngError | None = None


# --- writing ---


def write_images(
    folder: Path, container: Format, config: str, kinds: Sequence[str], rows: Iterable[Row]
) -> list[Path]:
    """Write the images of a set below `folder` and return the files that a dataset card names.

    Args:
        folder: folder of the dataset.
        container: one of FORMATS.
        config: name of the set in the dataset.
        kinds: the kinds that every row has.
        rows: the images in the order of the set; a few dozen are held at a time.

    Raises:
        StackError: PB711, pyarrow is not installed.
        StorageError: PB802.
    """
    write = {"parquet": _write_parquet, "folder": _write_folder, "webdataset": _write_tars}[container]
    return write(folder, config, kinds, rows)


def _write_parquet(folder: Path, config: str, kinds: Sequence[str], rows: Iterable[Row]) -> list[Path]:
    """Write one file whose schema carries the features that `datasets` reads instead of guessing.

    PNG does not compress, so pages are stored as they are; min and max of images would only take space.
    """
    arrow, parquet = require_pyarrow(_OTHER_FORMATS)
    image = arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})
    features: dict[str, Any] = {kind: {"_type": "Image"} for kind in kinds}
    info = {"info": {"features": {"id": {"dtype": "string", "_type": "Value"}, **features}}}
    columns = [("id", arrow.string()), *((kind, image) for kind in kinds)]
    schema = arrow.schema(columns, metadata={"huggingface": json.dumps(info)})
    path = folder / DATA / f"{config}.parquet"
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False, "write_statistics": ["id"]}
    with atomic.stream(path) as file, parquet.ParquetWriter(file, schema, **plain) as writer:
        for group in _groups(rows, ROW_GROUP):
            table = [
                {"id": i, **{kind: {"bytes": files[kind], "path": f"{i}.png"} for kind in kinds}}
                for i, files in group
            ]
            writer.write_table(arrow.Table.from_pylist(table, schema=schema))
    return [path]


def _write_folder(folder: Path, config: str, kinds: Sequence[str], rows: Iterable[Row]) -> list[Path]:
    """Write image files, and the table of their names that `imagefolder` reads."""
    lines = []
    for kind in kinds:
        atomic.make_folder(folder / config / kind)
    for group in _groups(rows, ROW_GROUP):
        with atomic.FileBatch() as batch:
            for image_id, files in group:
                names = {kind: f"{kind}/{image_id}.png" for kind in kinds}
                for kind, name in names.items():
                    batch.write(folder / config / name, files[kind])
                lines.append({"id": image_id, **{f"{kind}_file_name": name for kind, name in names.items()}})
    path = folder / config / METADATA
    atomic.write_text(path, "".join(f"{json.dumps(line)}\n" for line in lines))
    return [path]


def _write_tars(folder: Path, config: str, kinds: Sequence[str], rows: Iterable[Row]) -> list[Path]:
    """Write tars of TAR_IMAGES images each; members of one image are neighbours, as `webdataset` wants."""
    paths: list[Path] = []
    remaining = iter(rows)
    for first in remaining:
        paths.append(folder / DATA / f"{config}-{len(paths):05d}.tar")
        with atomic.stream(paths[-1]) as file:
            for image_id, files in chain([first], islice(remaining, TAR_IMAGES - 1)):
                file.writelines(tar.member(f"{image_id}.{kind}.png", files[kind]) for kind in kinds)
            file.write(tar.END)
    return paths


def _groups(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    remaining = iter(rows)
    return iter(lambda: list(islice(remaining, size)), [])


# --- reading ---


def read_images(folder: Path, config: str, kinds: Sequence[str], n: int) -> Iterator[StoredImage]:
    """Yield the image files of a set in whichever container holds them.

    Args:
        folder: folder of the dataset.
        config: name of the set in the dataset.
        kinds: the kinds that the set has.
        n: number of images of the set; a container with more rows is refused unread.

    Raises:
        BenchSetError: PB102-PB104, a container is hostile or damaged; PB801, there is none.
        StackError: PB711, pyarrow is not installed.
    """
    table = folder / DATA / f"{config}.parquet"
    tars = sorted((folder / DATA).glob(f"{config}-[0-9][0-9][0-9][0-9][0-9].tar"))
    if table.is_file():
        return _read_parquet(table, kinds, n)
    if tars:
        return (image for path in tars for image in _read_tar(path, n * len(kinds)))
    if (folder / config).is_dir():
        return _read_folder(folder / config, kinds)
    expected = f"{table.name}, {config}-00000.tar or the folder {config}"
    fix = "give a folder that `palette-bench export` wrote, with images"
    raise BenchSetError.of("PB801", str(folder), expected=expected, found="none of them", fix=fix)


_PLAIN = {"PLAIN", "RLE"}  # RLE are the levels, which say where a column is null


def _read_parquet(path: Path, kinds: Sequence[str], n: int) -> Iterator[StoredImage]:
    arrow, parquet = require_pyarrow(_OTHER_FORMATS)
    fix = "write it with `palette-bench export`"
    limits = {"thrift_string_size_limit": 1 << 24, "thrift_container_size_limit": 1 << 20}
    try:
        with parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20, **limits) as file:
            if found := _parquet_fault(file, kinds, n, path.stat().st_size, arrow):
                expected = "plain, uncompressed columns id and one image per kind"
                raise BenchSetError.of("PB103", path.name, expected=expected, found=found, fix=fix)
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    for kind in kinds:
                        yield StoredImage(str(row["id"]), kind, (row[kind] or {}).get("bytes") or b"")
    except (arrow.ArrowException, OSError) as error:
        found = str(error).splitlines()[0][:200]
        raise BenchSetError.of("PB104", path.name, expected="parquet", found=found, fix=fix) from error


def _parquet_fault(file: Any, kinds: Sequence[str], n: int, size: int, arrow: Any) -> str:
    """Return why a parquet file is not read, or an empty string.

    Compression and dictionaries would let a short file unpack to any size. Without them, and with no more
    bytes declared than the file has, the reader's memory is bounded by the file.
    """
    image = arrow.struct({"bytes": arrow.binary(), "path": arrow.string()})
    wanted = {"id": arrow.string(), **dict.fromkeys(kinds, image)}
    found = dict(zip(file.schema_arrow.names, file.schema_arrow.types, strict=True))
    if found != wanted:
        return f"columns {', '.join(f'{name}: {kind}' for name, kind in found.items())}"[:200]
    meta = file.metadata
    if meta.num_rows > n:
        return f"{meta.num_rows:,} rows for {n:,} images"
    declared = 0
    for group in map(meta.row_group, range(meta.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            declared += column.total_uncompressed_size
            if column.compression != "UNCOMPRESSED" or not _PLAIN.issuperset(column.encodings):
                return f"{column.path_in_schema}: {column.compression}, {', '.join(column.encodings)}"
    return f"{declared:,} bytes declared in a file of {size:,}" if declared > size else ""


def _read_folder(folder: Path, kinds: Sequence[str]) -> Iterator[StoredImage]:
    """Yield the files of a folder; its metadata are not read, because the ids already name the files."""
    for kind in kinds:
        if not (folder / kind).is_dir():
            continue
        for path in sorted((folder / kind).iterdir()):
            try:
                yield StoredImage(path.name.removesuffix(".png"), kind, read_regular(path))
            except (PngError, OSError) as error:
                fault = error if isinstance(error, PngError) else PngError("PB801", "a file", str(error))
                yield StoredImage(path.name.removesuffix(".png"), kind, b"", fault)


def _read_tar(path: Path, most: int) -> Iterator[StoredImage]:
    fix = "write it with `palette-bench export`"
    try:
        with open(path, "rb") as file:
            found = list(islice(tar.members(file), most + 1))
            if strange := [m.name for m in found if m.fault or not _MEMBER.fullmatch(m.name)]:
                expected = "regular files ID.KIND.png"
                raise BenchSetError.of("PB102", path.name, expected=expected, fix=fix, ids=strange)
            if len(found) > most:
                expected = f"at most {most:,} members"
                raise BenchSetError.of("PB103", path.name, expected=expected, found="more", fix=fix)
            for member in found:
                image_id, kind, _ = member.name.split(".")
                if member.size > MAX_BYTES:
                    fault = PngError("PB307", f"at most {MAX_BYTES:,} bytes", f"{member.size:,} bytes")
                    yield StoredImage(image_id, kind, b"", fault)
                    continue
                file.seek(member.offset)
                yield StoredImage(image_id, kind, file.read(member.size))
    except (tar.TarError, OSError) as error:
        raise BenchSetError.of(
            "PB104", path.name, expected="a whole tar", found=str(error)[:200], fix=fix
        ) from error


def require_pyarrow(instead: str = "") -> tuple[Any, Any]:
    """Return the modules pyarrow and pyarrow.parquet; `instead` ends the advice of the error.

    Raises:
        StackError: PB711, they are not installed.
    """
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError as error:
        raise StackError.of("PB711", "pyarrow", fix=f"pip install palette-bench[parquet]{instead}") from error
