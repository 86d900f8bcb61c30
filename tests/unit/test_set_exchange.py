"""Sets exported and imported: the same fingerprint and bytes, refusals with a code, nothing left behind."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from common import RunCli
from hypothesis import given
from hypothesis import strategies as st

from palette_bench.benchset import containers, set_export
from palette_bench.benchset.containers import FORMATS, Format
from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import BenchSet, open_set
from palette_bench.benchset.set_export import ExportOptions, export_sets
from palette_bench.benchset.set_import import import_sets
from palette_bench.benchset.sources import Request
from palette_bench.benchset.verify import verify
from palette_bench.core import tar
from palette_bench.core.errors import PaletteBenchError, SourceError, StorageError, UsageError
from palette_bench.core.fingerprint import sha256
from palette_bench.core.png import encode
from palette_bench.tasks.protocol import PhotoSource, load

SET = "inpainting.center32"
WHOLE = {container: ExportOptions(container, references=True) for container in FORMATS}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sets of palette-mini with 12 images each."""
    out = tmp_path_factory.mktemp("sets")
    generate("palette-mini", "all", out, request=Request("photos-64", limit=12))
    return out


@pytest.fixture(scope="module")
def exported(sets: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Format, Path]:
    """A set with its references in every container; read-only: copy before changing it."""
    out = tmp_path_factory.mktemp("exported")
    for container, options in WHOLE.items():
        export_sets([sets / SET], out / container, options)
    return {container: out / container for container in FORMATS}


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def set_contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a set without journals, which only its maker has."""
    return {name: data for name, data in contents(folder).items() if not name.startswith(("journal", ".pb"))}


@pytest.mark.parametrize("container", FORMATS)
def test_a_whole_set_comes_back_byte_for_byte(container: Format, sets: Path, tmp_path: Path) -> None:
    folders = [sets / name for name in (SET, "colorization", "jpeg.qf5")]
    export_sets(folders, tmp_path / "data", WHOLE[container])
    finished = import_sets(tmp_path / "data", tmp_path / "back")
    assert {folder.name for folder in finished} == {folder.name for folder in folders}
    for folder in folders:
        assert set_contents(tmp_path / "back" / folder.name) == set_contents(folder)
        assert verify(tmp_path / "back" / folder.name) == []


@pytest.mark.parametrize("container", FORMATS)
def test_without_references_no_original_leaves_and_a_public_part_comes_back(
    container: Format, sets: Path, tmp_path: Path
) -> None:
    export_sets([sets / SET], tmp_path / "data", ExportOptions(container))
    originals = [path.read_bytes() for path in (sets / SET / "reference").iterdir()]
    written = b"".join(contents(tmp_path / "data").values())
    assert not [original for original in originals if original in written]
    assert b"reference_px" not in (tmp_path / "data" / "records" / f"{SET}.json").read_bytes()
    import_sets(tmp_path / "data", tmp_path / "back")
    wanted = {n: d for n, d in set_contents(sets / SET).items() if n.startswith(("input", "mask", "public"))}
    assert contents(tmp_path / "back") == wanted
    back = open_set(tmp_path / "back")
    assert not isinstance(back, BenchSet)
    assert back.public.set_fingerprint == BenchSet.open(sets / SET).manifest.set_fingerprint


@pytest.mark.parametrize("container", FORMATS)
def test_two_exports_have_equal_bytes(
    container: Format, sets: Path, tmp_path: Path, exported: dict[Format, Path]
) -> None:
    code = "import sys; from palette_bench.cli import run; sys.argv[0] = 'palette-bench'; run()"
    words = ["export", str(sets / SET), "--format", container, "--references", "-o", str(tmp_path / "again")]
    subprocess.run([sys.executable, "-c", code, *words], check=True, capture_output=True)
    assert contents(tmp_path / "again") == contents(exported[container])


def test_tars_hold_a_thousand_images_and_are_read_in_order(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "TAR_IMAGES", 5)
    export_sets([sets / SET], tmp_path / "data", WHOLE["webdataset"])
    paths = sorted((tmp_path / "data" / "data").iterdir())
    assert [path.name for path in paths] == [f"{SET}-0000{i}.tar" for i in range(3)]
    counts = [len(list(tar.members(io.BytesIO(path.read_bytes())))) for path in paths]
    assert counts == [15, 15, 6]
    import_sets(tmp_path / "data", tmp_path / "back")
    assert set_contents(tmp_path / "back") == set_contents(sets / SET)


@pytest.mark.parametrize("container", [*FORMATS, None])
def test_the_descriptions_are_yaml_and_say_what_was_stated(
    container: Format | None, sets: Path, tmp_path: Path
) -> None:
    authors, name = ('A. "Quote" Person', "Ünïcode: #1"), 'Holes: "small" ones \\ # 1'
    options = ExportOptions(container, license="CC-BY-4.0", authors=authors, name=name, synthetic=True)
    export_sets([sets / SET, sets / "colorization"], tmp_path / "data", options)
    read = {path.name: path.read_text() for path in (tmp_path / "data").iterdir() if path.is_file()}
    front = yaml.safe_load(read["README.md"].split("---\n")[1])
    assert (front["pretty_name"], front["license"]) == (name, "cc-by-4.0")
    configs = [SET, "colorization"]
    assert [one["config_name"] for one in front.get("configs", ())] == (configs if container else [])
    declared = yaml.safe_load(read["eval.yaml"])
    assert (declared["name"], [task["config"] for task in declared["tasks"]]) == (name, configs)
    cited = yaml.safe_load(read["CITATION.cff"])
    assert (cited["title"], tuple(author["name"] for author in cited["authors"])) == (name, authors)
    described = json.loads(read["croissant.json"])
    assert described["rai:hasSyntheticData"] is True
    for file in described["distribution"]:
        data = (tmp_path / "data" / file["contentUrl"]).read_bytes()
        assert (file["sha256"], file["contentSize"]) == (sha256(data), f"{len(data)} B")


# --- what is refused before anything is written ---


def test_images_that_may_not_be_passed_on_are_described_and_never_exported(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = load("palette-mini").sources["photos-64"]
    assert isinstance(source, PhotoSource)
    monkeypatch.setitem(
        load("palette-mini").sources, "photos-64", source.model_copy(update={"redistributable": False})
    )
    for container in FORMATS:
        options = ExportOptions(container, license="MIT", authors=("A",))
        with pytest.raises(SourceError, match="PB614") as refused:
            export_sets([sets / SET], tmp_path / "data", options)
        assert "--format none" in str(refused.value)
        assert not (tmp_path / "data").exists()
    export_sets([sets / SET], tmp_path / "data", ExportOptions(None, license="MIT", authors=("A",)))
    assert not [name for name, data in contents(tmp_path / "data").items() if b"\x89PNG" in data]
    described = json.loads((tmp_path / "data" / "croissant.json").read_text())
    assert [file["name"] for file in described["distribution"]] == [f"records/{SET}.json"]
    with pytest.raises(PaletteBenchError, match="PB801"):  # there is nothing to make a set from
        import_sets(tmp_path / "data", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_only_the_owner_of_a_folder_knows_license_and_author(sets: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    generate("palette-mini", "jpeg/qf5", own, request=Request("folder:mine", sets / "jpeg.qf5" / "reference"))
    for options in (ExportOptions("folder"), ExportOptions("folder", license="MIT")):
        with pytest.raises(UsageError, match="--author"):
            export_sets([own], tmp_path / "data", options)
    with pytest.raises(UsageError, match="SPDX"):
        export_sets([own], tmp_path / "data", ExportOptions("folder", license="my terms", authors=("A",)))
    export_sets([own], tmp_path / "data", ExportOptions("folder", license="CC-BY-4.0", authors=("A",)))
    assert "license: cc-by-4.0\n" in (tmp_path / "data" / "README.md").read_text()
    assert "CC-BY-4.0" in (tmp_path / "data" / "LICENSE.md").read_text()


def test_sets_of_two_origins_or_one_name_are_no_dataset(sets: Path, smoke_sets: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one protocol and source"):
        export_sets([sets / SET, smoke_sets / "jpeg.qf5"], tmp_path / "data", ExportOptions("folder"))
    with pytest.raises(UsageError, match="each once"):
        export_sets([sets / SET, sets / SET], tmp_path / "data", ExportOptions("folder"))


def test_folders_with_files_are_never_written_into(
    sets: Path, tmp_path: Path, exported: dict[Format, Path]
) -> None:
    (tmp_path / "there").mkdir()
    export_sets([sets / SET], tmp_path / "there", ExportOptions("folder"))  # an empty folder is fine
    before = contents(tmp_path / "there")
    with pytest.raises(StorageError, match="PB809"):
        export_sets([sets / SET], tmp_path / "there", ExportOptions("folder"))
    with pytest.raises(StorageError, match="PB809"):
        import_sets(exported["folder"], tmp_path / "there")
    assert contents(tmp_path / "there") == before


@pytest.mark.parametrize("container", FORMATS)
def test_a_damaged_set_is_not_exported(container: Format, sets: Path, tmp_path: Path) -> None:
    shutil.copytree(sets / SET, tmp_path / "set")
    victim = sorted((tmp_path / "set" / "mask").iterdir())[7]
    victim.write_bytes(encode(np.zeros((64, 64), np.uint8)))
    with pytest.raises(PaletteBenchError, match="PB602") as refused:
        export_sets([tmp_path / "set"], tmp_path / "data", WHOLE[container])
    assert victim.name in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_without_pyarrow_parquet_is_refused_and_the_rest_works(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PaletteBenchError, match="PB711"):
        export_sets([sets / SET], tmp_path / "data", WHOLE["parquet"])
    assert not list(tmp_path.iterdir())
    export_sets([sets / SET], tmp_path / "data", WHOLE["webdataset"])


# --- hostile datasets ---

Change = Callable[[Path], None]


def record_of(folder: Path) -> Path:
    return folder / "records" / f"{SET}.json"


def in_record(change: Callable[[dict], None]) -> Change:
    def changed(folder: Path) -> None:
        value = json.loads(record_of(folder).read_text())
        change(value)
        record_of(folder).write_text(json.dumps(value))

    return changed


def set_id(value: dict, image_id: str, at: int = 0) -> None:
    value["items"][at]["id"] = image_id


def twice(value: dict) -> None:
    value["items"][1] = value["items"][0]


def without_protocol(value: dict) -> None:
    value["protocol"] = "unheard-of"


def renamed(folder: Path) -> None:
    record_of(folder).rename(folder / "records" / "other.json")


RECORDS = {
    "id with ..": (in_record(lambda v: set_id(v, "../../evil")), "PB204"),
    "absolute id": (in_record(lambda v: set_id(v, "/tmp/evil")), "PB204"),
    "id twice": (in_record(twice), "PB203"),
    "ids that differ in case": (in_record(lambda v: set_id(v, v["items"][1]["id"].upper())), "PB203"),
    "another label": (in_record(lambda v: v["items"][0].update(label=3)), "PB602"),
    "another digest": (in_record(lambda v: v["items"][0].update(input_px="0" * 64)), "PB602"),
    "another count": (in_record(lambda v: v.update(n=11)), "PB602"),
    "another rule": (in_record(lambda v: v.update(protocol_fingerprint="0" * 64)), "PB601"),
    "a field that is not ASCII": (in_record(lambda v: v.update(rekey="é")), "PB602"),
    "an unknown protocol": (in_record(without_protocol), "PB609"),
    "an unknown variant": (in_record(lambda v: v.update(variant="../x")), "PB609"),
    "an unknown key": (in_record(lambda v: v.update(more=1)), "PB402"),
    "no JSON": (lambda folder: record_of(folder).write_text("{"), "PB401"),
    "another file name": (renamed, "PB602"),
    "no records": (lambda folder: shutil.rmtree(folder / "records"), "PB801"),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_contradicts_itself_is_refused_and_nothing_is_written(
    name: str, exported: dict[Format, Path], tmp_path: Path
) -> None:
    change, code = RECORDS[name]
    refused(exported["folder"], change, code, tmp_path)


def refused(original: Path, change: Change, code: str, tmp_path: Path) -> str:
    """Return what an import says of a changed copy of a dataset; it must leave nothing behind."""
    data = tmp_path / "inside" / "data"
    shutil.copytree(original, data, symlinks=True)
    change(data)
    with pytest.raises(PaletteBenchError) as error:
        import_sets(data, tmp_path / "inside" / "back")
    assert code in {p.code for p in error.value.problems}, error.value
    assert [path.name for path in (tmp_path / "inside").iterdir()] == ["data"]
    assert not (tmp_path / "evil.png").exists()
    return str(error.value)


def in_tar(*new: tuple[tarfile.TarInfo, bytes], drop: int = 0) -> Change:
    """Append members to the tar of a dataset, after the first `drop` are left out."""

    def changed(folder: Path) -> None:
        path = folder / "data" / f"{SET}-00000.tar"
        with tarfile.open(path) as file:
            kept = [(m, file.extractfile(m).read()) for m in file.getmembers()[drop:]]  # type: ignore[union-attr]
        with tarfile.open(path, "w") as file:
            for member, data in (*kept, *new):
                file.addfile(member, io.BytesIO(data))

    return changed


def info(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, **more: str) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size, found.type = size, kind
    for key, value in more.items():
        setattr(found, key, value)
    return found


def cut(folder: Path) -> None:
    path = folder / "data" / f"{SET}-00000.tar"
    path.write_bytes(path.read_bytes()[:-20_000])


def broken_header(folder: Path) -> None:
    path = folder / "data" / f"{SET}-00000.tar"
    data = bytearray(path.read_bytes())
    with path.open("rb") as file:
        data[list(tar.members(file))[4].end + 100] ^= 1
    path.write_bytes(data)


FIRST = "astronaut-053"
TARS = {
    "a name with ..": (in_tar((info("../../evil.png"), b"")), "PB102"),
    "an absolute name": (in_tar((info("/tmp/evil.png"), b"")), "PB102"),
    "a long name": (in_tar((info("a" * 150 + ".input.png"), b"")), "PB102"),
    "a link": (in_tar((info(f"{FIRST}.input.png", 0, tarfile.SYMTYPE, linkname="/etc"), b"")), "PB102"),
    "a device": (in_tar((info(f"{FIRST}.input.png", kind=tarfile.CHRTYPE), b"")), "PB102"),
    "another file": (in_tar((info("notes.txt"), b"")), "PB102"),
    "an id twice": (in_tar((info(f"{FIRST}.mask.png", 3), b"abc"), drop=1), "PB203"),
    "more members than images": (in_tar((info(f"{FIRST}.input.png", 3), b"abc")), "PB103"),
    "a foreign id": (in_tar((info("other.input.png", 3), b"abc"), drop=1), "PB202"),
    "an image missing": (in_tar(drop=1), "PB201"),
    "a huge image": (in_tar((info(f"{FIRST}.input.png", 2 << 20), bytes(2 << 20)), drop=1), "PB307"),
    "a cut file": (cut, "PB104"),
    "a broken header": (broken_header, "PB104"),
}


@pytest.mark.parametrize("name", TARS)
def test_a_hostile_tar_is_refused_and_nothing_is_written(
    name: str, exported: dict[Format, Path], tmp_path: Path
) -> None:
    change, code = TARS[name]
    refused(exported["webdataset"], change, code, tmp_path)


def rewritten(change: Callable[[list[dict]], list[dict]], **options: object) -> Change:
    """Write the rows of the parquet file again, changed, with other options of the writer."""

    def changed(folder: Path) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        path = folder / "data" / f"{SET}.parquet"
        table = parquet.read_table(path)
        plain = {"compression": "none", "use_dictionary": False} | options
        rows = pa.Table.from_pylist(change(table.to_pylist()), schema=table.schema)
        parquet.write_table(rows, path, **plain)

    return changed


def bomb(folder: Path) -> None:
    """Write a short file that unpacks to 12 images of 64 MiB."""
    rewritten(
        lambda rows: [row | {"input": {"bytes": bytes(64 << 20), "path": ""}} for row in rows],
        compression="zstd",
    )(folder)
    assert (folder / "data" / f"{SET}.parquet").stat().st_size < 1 << 20


def other_columns(folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({"id": [1, 2]}), folder / "data" / f"{SET}.parquet", compression="none")


def flipped(folder: Path) -> None:
    path = folder / "data" / f"{SET}.parquet"
    data = bytearray(path.read_bytes())
    data[-300] ^= 255
    path.write_bytes(data)


def swapped(rows: list[dict]) -> list[dict]:
    rows[0]["input"], rows[1]["input"] = rows[1]["input"], rows[0]["input"]
    return rows


def same(rows: list[dict]) -> list[dict]:
    return rows


TABLES = {
    "a bomb": (bomb, "PB103"),
    "compressed": (rewritten(same, compression="snappy"), "PB103"),
    "a dictionary": (rewritten(same, use_dictionary=True), "PB103"),
    "more rows than images": (rewritten(lambda rows: rows * 2), "PB103"),
    "other columns": (other_columns, "PB103"),
    "an id twice": (rewritten(lambda rows: [rows[1], *rows[1:]]), "PB203"),
    "a foreign id": (rewritten(lambda rows: [rows[0] | {"id": "../../evil"}, *rows[1:]]), "PB202"),
    "no id": (rewritten(lambda rows: [rows[0] | {"id": None}, *rows[1:]]), "PB202"),
    "an image missing": (rewritten(lambda rows: rows[1:]), "PB201"),
    "no bytes": (rewritten(lambda rows: [rows[0] | {"input": None}, *rows[1:]]), "PB301"),
    "two images swapped": (rewritten(swapped), "PB602"),
    "a flipped byte in the footer": (flipped, "PB104"),
    "no parquet": (lambda folder: (folder / "data" / f"{SET}.parquet").write_bytes(b"PAR1"), "PB104"),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_hostile_parquet_file_is_refused_and_nothing_is_written(
    name: str, exported: dict[Format, Path], tmp_path: Path
) -> None:
    change, code = TABLES[name]
    refused(exported["parquet"], change, code, tmp_path)


def linked(folder: Path) -> None:
    victim = folder / SET / "input" / f"{FIRST}.png"
    victim.rename(folder / "elsewhere.png")
    victim.symlink_to(folder / "elsewhere.png")


FOLDERS: dict[str, tuple[Change, str]] = {
    "a link": (linked, "PB105"),
    "a foreign file": (lambda folder: (folder / SET / "mask" / "x.png").touch(), "PB202"),
    "a missing file": (lambda folder: (folder / SET / "mask" / f"{FIRST}.png").unlink(), "PB201"),
    "a JPEG": (lambda folder: (folder / SET / "mask" / f"{FIRST}.png").write_bytes(b"\xff\xd8\xff"), "PB301"),
    "another size": (
        lambda folder: (folder / SET / "mask" / f"{FIRST}.png").write_bytes(
            encode(np.ones((9, 9), np.uint8))
        ),
        "PB302",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_hostile_folder_is_refused_and_nothing_is_written(
    name: str, exported: dict[Format, Path], tmp_path: Path
) -> None:
    change, code = FOLDERS[name]
    refused(exported["folder"], change, code, tmp_path)


def test_the_table_of_a_folder_is_for_others_and_names_no_file_here(
    exported: dict[Format, Path], tmp_path: Path
) -> None:
    shutil.copytree(exported["folder"], tmp_path / "data")
    (tmp_path / "data" / SET / "metadata.jsonl").write_text('{"input_file_name": "../../../etc/passwd"}\n')
    import_sets(tmp_path / "data", tmp_path / "back")
    assert verify(tmp_path / "back") == []


def test_the_verbs_say_what_they_made_and_what_is_next(sets: Path, tmp_path: Path, run_cli: RunCli) -> None:
    done = run_cli("export", sets / SET, "--format", "parquet", "-o", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    fingerprint = BenchSet.open(sets / SET).manifest.set_fingerprint
    assert f"{SET}          {fingerprint[:12]}  12 images" in done.stderr
    done = run_cli("import", tmp_path / "data", "-o", tmp_path / "back")
    assert (done.returncode, done.stdout.strip()) == (0, str(tmp_path / "back"))
    assert fingerprint[:12] in done.stderr


# --- tar files ---


@given(st.lists(st.tuples(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True), st.binary(max_size=1500))))
def test_tarfile_reads_what_is_written_and_the_index_finds_it(files: list[tuple[str, bytes]]) -> None:
    data = b"".join(tar.member(f"{name}.png", content) for name, content in files) + tar.END
    with tarfile.open(fileobj=io.BytesIO(data)) as file:
        read = [(m.name.removesuffix(".png"), file.extractfile(m).read()) for m in file]  # type: ignore[union-attr]
    assert read == files
    found = list(tar.members(io.BytesIO(data)))
    assert [(m.name.removesuffix(".png"), data[m.offset : m.offset + m.size]) for m in found] == files


@given(st.integers(0, 5 * 512 + 1023), st.integers(1, 255))
def test_a_changed_tar_is_refused_unless_only_content_changed(at: int, by: int) -> None:
    sound = tar.member("a.png", b"x" * 600) + tar.member("b.png", b"") + tar.END
    data = bytearray(sound)
    at %= len(data)
    data[at] ^= by
    try:
        found = [(m.name, m.size, m.fault) for m in tar.members(io.BytesIO(data))]
    except tar.TarError:
        return
    assert found == [("a.png", 600, None), ("b.png", 0, None)]
    assert 512 <= at < 3 * 512


def test_set_export_and_reader_agree_on_the_kinds() -> None:
    assert all(containers._MEMBER.fullmatch(f"id.{kind}.png") for kind in set_export.KINDS)
