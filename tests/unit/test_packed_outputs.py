"""Outputs in tar and parquet files: restored into, checked and scored from, without unpacking."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from common import RunCli
from pyarrow import parquet
from submissions import ready, submit

from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import ContestantSet
from palette_bench.benchset.sources import Request
from palette_bench.core import atomic, tar
from palette_bench.core.errors import InputError, PaletteBenchError
from palette_bench.core.journal import Shard
from palette_bench.core.png import encode
from palette_bench.scoring.score import score
from palette_bench.submission import packed_outputs
from palette_bench.submission.check import check
from palette_bench.submission.files import open_submission
from palette_bench.submission.restore import restore
from palette_bench.submission.run_status import run_status


@pytest.fixture(scope="module")
def benchset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of 12 images, 64x64."""
    out = tmp_path_factory.mktemp("twelve") / "set"
    generate("palette-mini", "inpainting/center32", out, request=Request("photos-64", limit=12))
    return out


def answer(benchset: Path, out: Path, **options: object) -> None:
    restore(ready("copy-input"), ContestantSet.open(benchset), out, batch_size=3, tars=True, **options)


def tars_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*.tar"))}


def rows(sub: Path) -> tuple[list[str], list[bytes]]:
    paths = sorted((sub / "outputs").glob("*.png"))
    return [path.stem for path in paths], [path.read_bytes() for path in paths]


def packed_as(kind: str, sub: Path) -> Path:
    """Replace the files of a submission by what another program might write instead."""
    ids, images = rows(sub)
    for path in (sub / "outputs").iterdir():
        path.unlink()
    place = sub / "outputs"
    if kind == "tar":  # GNU format, with a folder and leading ./, as `tar cf all.tar .` writes it
        with tarfile.open(place / "all.tar", "w", format=tarfile.GNU_FORMAT) as file:
            folder = tarfile.TarInfo(".")
            folder.type = tarfile.DIRTYPE
            file.addfile(folder)
            for image_id, data in zip(ids, images, strict=True):
                member = tarfile.TarInfo(f"./{image_id}.png")
                member.size = len(data)
                file.addfile(member, io.BytesIO(data))
    elif kind == "pax":  # a time with a fraction, as webdataset's writer states it
        with tarfile.open(place / "all.tar", "w", format=tarfile.PAX_FORMAT) as file:
            for image_id, data in zip(ids, images, strict=True):
                member = tarfile.TarInfo(f"{image_id}.png")
                member.size, member.mtime = len(data), 1700000000.25
                file.addfile(member, io.BytesIO(data))
    elif kind == "two tars":
        for part in range(2):
            chosen = list(zip(ids, images, strict=True))[part::2]
            data = b"".join(tar.member(f"{image_id}.png", image) for image_id, image in chosen)
            (place / f"{part}.tar").write_bytes(data + tar.END)
    else:  # a struct, as `datasets` writes images; or plain bytes
        struct = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        column = images
        if kind == "parquet of structs":
            column = pa.array([{"bytes": data, "path": None} for data in images], struct)
        parquet.write_table(pa.table({"id": ids, "image": column}), place / "all.parquet", row_group_size=5)
    return sub


@pytest.mark.parametrize("kind", ["tar", "pax", "two tars", "parquet", "parquet of structs"])
def test_packed_outputs_are_checked_and_read_as_files_are(kind: str, benchset: Path, tmp_path: Path) -> None:
    expected = check(submit(benchset, tmp_path / "loose"), benchset)
    sub = packed_as(kind, shutil.copytree(tmp_path / "loose", tmp_path / "sub"))
    report = check(sub, benchset)
    assert report.problems == expected.problems
    assert report.ok
    assert report.pixels == expected.pixels
    with open_submission(sub, 12) as found, open_submission(tmp_path / "loose", 12) as loose:
        assert found.names == loose.names
        assert [found.read(name) for name in found.names] == [loose.read(name) for name in loose.names]


def test_processes_read_packed_outputs_too(
    benchset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palette_bench.submission.check._FOR_PROCESSES", 1)
    sub = packed_as("parquet", submit(benchset, tmp_path / "sub"))
    assert check(sub, benchset, workers=2).pixels == check(sub, benchset).pixels


def test_a_file_written_anew_is_read_anew(benchset: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, method in ((first, "copy-input"), (second, "original")):
        restore(ready(method), ContestantSet.open(benchset), folder)
        packed_as("parquet", folder)
    after, before = (check(folder, benchset).pixels for folder in (second, first))
    for source in (second / "outputs").iterdir():
        shutil.copy(source, first / "outputs" / source.name)
    assert before != after
    assert check(first, benchset).pixels == after


def test_restore_writes_a_tar_per_shard_and_sample_that_hold_what_files_hold(
    benchset: Path, tmp_path: Path, run_cli: RunCli
) -> None:
    for shard in ("2/3", "0/3", "1/3"):
        words = ("restore", "copy-input", "--set", benchset, "-o", tmp_path / "sub", "--samples", "2")
        done = run_cli(*words, "--shards", "tar", "--shard", shard)
        assert done.returncode == 0, done.stderr
    restore(ready("copy-input"), ContestantSet.open(benchset), tmp_path / "loose", samples=2)
    assert list(tars_of(tmp_path / "sub")) == [
        *(f"outputs/{i}-of-3.tar" for i in range(3)),
        *(f"samples/1/{i}-of-3.tar" for i in range(3)),
    ]
    assert not list((tmp_path / "sub").rglob("*.png"))
    with open_submission(tmp_path / "sub", 12) as found, open_submission(tmp_path / "loose", 12) as loose:
        assert found.names == loose.names
        images = [name for name in loose.names if name.endswith(".png")]
        assert len(images) == 24
        assert [found.read(name) for name in images] == [loose.read(name) for name in images]
    status = run_status(tmp_path / "sub")[0]
    assert (status.closed, status.whole.done, status.whole.lost) == (True, 24, 0)


# --- resuming ---


def unfinished(sub: Path) -> Path:
    """Make a finished shard one that was stopped before its end: hidden, without end and card."""
    final = sub / "outputs" / "0-of-1.tar"
    data = final.read_bytes().removesuffix(tar.END)
    atomic.growing(final).write_bytes(data)
    final.unlink()
    (sub / "submission.toml").unlink()
    return atomic.growing(final)


def torn(sub: Path) -> None:
    path = unfinished(sub)
    path.write_bytes(path.read_bytes()[:-700])


def longer(sub: Path) -> None:
    """The crash came after the tar grew and before the journal did."""
    path = unfinished(sub)
    journal = sub / "journal.0-of-1.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-3]))
    path.write_bytes(path.read_bytes() + b"half a header")


def damaged(sub: Path) -> None:
    """Four images are intact, the fifth is not; the tar has its final name."""
    path = sub / "outputs" / "0-of-1.tar"
    data = bytearray(path.read_bytes())
    with path.open("rb") as file:
        data[list(tar.members(file))[4].offset + 60] ^= 1
    path.write_bytes(data)


def endless(sub: Path) -> None:
    path = sub / "outputs" / "0-of-1.tar"
    path.write_bytes(path.read_bytes().removesuffix(tar.END))


def gone(sub: Path) -> None:
    (sub / "outputs" / "0-of-1.tar").unlink()


CRASHES: dict[str, tuple[Callable[[Path], object], int]] = {  # what happened, images that are made again
    "before the end": (unfinished, 0),
    "a torn member": (torn, 1),
    "not journalled": (longer, 3),
    "a damaged image": (damaged, 8),
    "a lost end": (endless, 0),
    "a lost tar": (gone, 12),
}


@pytest.mark.parametrize("name", CRASHES)
def test_a_run_goes_on_where_its_tar_is_intact(name: str, benchset: Path, tmp_path: Path) -> None:
    crash, again = CRASHES[name]
    answer(benchset, tmp_path / "sub")
    before = tars_of(tmp_path / "sub")
    crash(tmp_path / "sub")
    counted: list[int] = []
    copy = ready("copy-input")
    whole = copy.restore

    def counting(batch):  # type: ignore[no-untyped-def]
        counted.append(len(dict.fromkeys(batch.ids)))
        return whole(batch)

    object.__setattr__(copy, "restore", counting)
    assert restore(copy, ContestantSet.open(benchset), tmp_path / "sub", batch_size=3, tars=True)
    assert sum(counted) == again
    assert tars_of(tmp_path / "sub") == before
    assert [p.name for p in (tmp_path / "sub" / "outputs").iterdir()] == ["0-of-1.tar"]
    assert check(tmp_path / "sub", benchset).ok


def test_the_card_waits_for_the_tars_of_all_shards(benchset: Path, tmp_path: Path) -> None:
    answer(benchset, tmp_path / "sub", shard=Shard(0, 2))
    answer(benchset, tmp_path / "sub", shard=Shard(1, 2))
    (tmp_path / "sub" / "submission.toml").unlink()
    tar_path = tmp_path / "sub" / "outputs" / "1-of-2.tar"
    tar_path.rename(atomic.growing(tar_path))  # it was killed between its last image and its end
    answer(benchset, tmp_path / "sub", shard=Shard(0, 2))
    assert not (tmp_path / "sub" / "submission.toml").exists()
    answer(benchset, tmp_path / "sub", shard=Shard(1, 2))
    assert check(tmp_path / "sub", benchset).ok


def test_tars_of_other_divisions_and_files_never_mix(benchset: Path, tmp_path: Path) -> None:
    answer(benchset, tmp_path / "sub", shard=Shard(0, 2))
    with pytest.raises(InputError, match="PB605"):
        answer(benchset, tmp_path / "sub", shard=Shard(0, 3))
    with pytest.raises(InputError, match="PB605"):
        restore(ready("copy-input"), ContestantSet.open(benchset), tmp_path / "sub")
    restore(ready("copy-input"), ContestantSet.open(benchset), tmp_path / "files")
    with pytest.raises(InputError, match="PB605"):
        answer(benchset, tmp_path / "files")


# --- hostile ---


def with_member(info: tarfile.TarInfo, data: bytes = b"") -> Callable[[Path], None]:
    def change(place: Path) -> None:
        with tarfile.open(place / "all.tar", "a") as file:
            file.addfile(info, io.BytesIO(data))

    return change


def named(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, "/etc/passwd"
    return info


def cut(place: Path) -> None:
    (place / "all.tar").write_bytes((place / "all.tar").read_bytes()[:10_000])


def many(place: Path) -> None:
    data = b"".join(tar.member(f"x{i}.png", b"") for i in range(100)) + tar.END
    (place / "more.tar").write_bytes(data)


TARS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a path with ..": (with_member(named("../submission.toml")), "PB102"),
    "an absolute path": (with_member(named("/etc/passwd")), "PB102"),
    "a link": (with_member(named("other.png", tarfile.SYMTYPE)), "PB105"),
    "an id twice": (with_member(named("astronaut-053.png")), "PB203"),
    "a foreign id": (with_member(named("other.png")), "PB202"),
    "another file": (with_member(named("notes.txt")), "PB106"),
    "a file beside the tar": (
        lambda place: (place / "coffee-117.png").write_bytes(encode(np.zeros((64, 64, 3), np.uint8))),
        "PB203",
    ),
    "a cut tar": (cut, "PB104"),
    "too many members": (many, "PB103"),
    "another archive": (lambda place: (place / "all.tar.gz").write_bytes(b""), "PB106"),
}


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_tar_is_refused_by_the_check(name: str, benchset: Path, tmp_path: Path) -> None:
    change, code = TARS[name]
    sub = packed_as("tar", submit(benchset, tmp_path / "sub"))
    change(sub / "outputs")
    report = check(sub, benchset)
    assert not report.ok
    assert code in {p.code for p in report.problems}, report.problems


def table(ids: list[str], images: list[bytes], **options: object) -> Callable[[Path], None]:
    return lambda place: parquet.write_table(
        pa.table({"id": ids, "image": images}), place / "more.parquet", **options
    )


def flipped(place: Path) -> None:
    data = bytearray((place / "all.parquet").read_bytes())
    data[-200] ^= 255
    (place / "all.parquet").write_bytes(data)


TABLES: dict[str, tuple[Callable[[Path], None], str]] = {
    "an id twice": (table(["astronaut-053"], [b""]), "PB203"),
    "a path with ..": (table(["../../evil"], [b""]), "PB102"),
    "other columns": (lambda place: parquet.write_table(pa.table({"id": [1]}), place / "x.parquet"), "PB103"),
    "too many rows": (table([str(i) for i in range(100)], [b""] * 100), "PB103"),
    "a group that is too large": (table(["x"], [bytes(packed_outputs._GROUP_BYTES + 1)]), "PB103"),
    "an id that is too large": (table(["x" * (2 << 20)], [b""]), "PB103"),
    "a flipped byte": (flipped, "PB104"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_parquet_file_is_refused_by_the_check(name: str, benchset: Path, tmp_path: Path) -> None:
    change, code = TABLES[name]
    sub = packed_as("parquet", submit(benchset, tmp_path / "sub"))
    change(sub / "outputs")
    report = check(sub, benchset)
    assert not report.ok
    assert code in {p.code for p in report.problems}, report.problems


def test_one_large_value_for_many_rows_is_refused_when_it_is_read(
    benchset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dictionary holds the value once, so the declared size is a twelfth of what the rows unpack to."""
    monkeypatch.setattr(packed_outputs, "_GROUP_BYTES", 1 << 20)
    sub = submit(benchset, tmp_path / "sub")
    ids, _ = rows(sub)
    shutil.rmtree(sub / "outputs")
    (sub / "outputs").mkdir()
    table(ids, [bytes(200_000)] * 12)(sub / "outputs")
    report = check(sub, benchset)
    assert {p.code for p in report.problems} == {"PB305"}
    assert report.problems[0].count == 12


def test_without_pyarrow_a_parquet_file_names_the_line_to_type(
    benchset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sub = packed_as("parquet", submit(benchset, tmp_path / "sub"))
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(PaletteBenchError, match=r"PB711[\s\S]*palette-bench\[parquet\]"):
        check(sub, benchset)


def test_a_score_is_that_of_the_files(benchset: Path, tmp_path: Path) -> None:
    submit(benchset, tmp_path / "loose")
    packed_as("tar", shutil.copytree(tmp_path / "loose", tmp_path / "sub"))
    found, expected = (
        score(tmp_path / name, benchset, tmp_path / f"{name}.json", extractors=["smoke-random"])
        for name in ("sub", "loose")
    )
    assert found.scores == expected.scores
    assert len(found.scores) > 3
