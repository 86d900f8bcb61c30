"""The libraries that others use read every exported image, pixel by pixel, in a process without network.

Oracles: datasets, webdataset, mlcroissant and cffconvert, where they are installed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from submissions import submit

from palette_bench.benchset.containers import Format
from palette_bench.benchset.generate import generate
from palette_bench.benchset.manifest import BenchSet
from palette_bench.benchset.set_export import ExportOptions, export_sets
from palette_bench.benchset.sources import Request
from palette_bench.submission.check import check

# The digest of (id, kind) is printed by a fresh process. JSON lines, so that libraries may print, too.
HEAD = """
import io, json, socket, sys
def refuse(*_, **__):
    raise OSError("no network here")
socket.socket.connect = socket.create_connection = refuse
import numpy as np
from PIL import Image
from palette_bench.core.fingerprint import pixel_digest
def tell(image_id, kind, image):
    print(json.dumps(["px", image_id, kind, pixel_digest(np.atleast_3d(np.asarray(image)))]))
folder, config = sys.argv[1:]
"""
READERS = {
    "datasets": """
from datasets import load_dataset
rows = load_dataset(folder, config, split="test")
for row in rows:
    for kind in ("input", "mask", "reference"):
        tell(row.get("id") or row["__key__"], kind, row[kind if kind in row else f"{kind}.png"])
""",
    "webdataset": """
import glob, webdataset
for row in webdataset.WebDataset(sorted(glob.glob(f"{folder}/data/{config}-*.tar")), shardshuffle=False):
    for kind in ("input", "mask", "reference"):
        tell(row["__key__"], kind, Image.open(io.BytesIO(row[f"{kind}.png"])))
""",
    "mlcroissant": """
import mlcroissant
for row in mlcroissant.Dataset(f"{folder}/croissant.json").records(config):
    for kind in ("input", "mask", "reference"):
        image = row[f"{config}/{kind}"]
        image = Image.open(io.BytesIO(image)) if isinstance(image, bytes) else image
        tell(row[f"{config}/id"].decode(), kind, image)
""",
}
VALIDATE = """
import json, sys
import mlcroissant
dataset = mlcroissant.Dataset(sys.argv[1])
issues = dataset.metadata.ctx.issues
print(json.dumps(["issues", sorted(map(str, issues.errors)), sorted(map(str, issues.warnings))]))
"""


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> BenchSet:
    """A set of 12 images of three kinds: 36 files."""
    folder = tmp_path_factory.mktemp("twelve") / "set"
    generate("palette-mini", "inpainting/center32", folder, request=Request("photos-64", limit=12))
    return BenchSet.open(folder)


def ran(code: str, *words: object, cache: Path) -> list[list[object]]:
    """Run a program in a process of its own and return the JSON lists that it prints."""
    quiet = {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        capture_output=True,
        text=True,
        env={**os.environ, **quiet, "HOME": str(cache)},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]


def needs(library: str) -> None:
    if find_spec(library) is None:
        pytest.skip(f"needs {library}")


@pytest.mark.parametrize(
    ("library", "container"),
    [
        ("datasets", "parquet"),
        ("datasets", "folder"),
        ("datasets", "webdataset"),
        ("webdataset", "webdataset"),
        ("mlcroissant", "parquet"),
    ],
)
def test_a_library_reads_all_36_images(
    library: str, container: Format, twelve: BenchSet, tmp_path: Path
) -> None:
    needs(library)
    export_sets([twelve.folder], tmp_path / "data", ExportOptions(container, references=True))
    told = ran(HEAD + READERS[library], tmp_path / "data", "inpainting.center32", cache=tmp_path / "cache")
    found = {(image_id, kind): digest for _, image_id, kind, digest in told}
    items = twelve.manifest.items
    expected = {(i.id, "input"): i.input_px for i in items} | {(i.id, "mask"): i.mask_px for i in items}
    assert found == expected | {(i.id, "reference"): i.reference_px for i in items}
    assert len(found) == 36


@pytest.mark.parametrize("container", ["parquet", "folder", "webdataset", None])
def test_the_croissant_description_has_no_errors_and_no_warnings(
    container: Format | None, twelve: BenchSet, tmp_path: Path
) -> None:
    needs("mlcroissant")
    export_sets([twelve.folder], tmp_path / "data", ExportOptions(container))
    told = ran(VALIDATE, tmp_path / "data" / "croissant.json", cache=tmp_path / "cache")
    assert told == [["issues", [], []]]


@pytest.mark.parametrize("container", ["folder", "webdataset", None])
def test_without_parquet_the_croissant_records_are_ids_and_digests(
    container: Format | None, twelve: BenchSet, tmp_path: Path
) -> None:
    needs("mlcroissant")
    export_sets([twelve.folder], tmp_path / "data", ExportOptions(container))
    code = """
import json, sys, mlcroissant
for row in mlcroissant.Dataset(sys.argv[1]).records("inpainting.center32"):
    print(json.dumps([v.decode() if isinstance(v, bytes) else v for v in row.values()]))
"""
    told = ran(code, tmp_path / "data" / "croissant.json", cache=tmp_path / "cache")
    assert told == [[item.id, item.input_px, item.mask_px] for item in twelve.manifest.items]


def test_cffconvert_accepts_the_citation(twelve: BenchSet, tmp_path: Path) -> None:
    needs("cffconvert")
    options = ExportOptions(None, authors=("A. Person", 'O. "Ther'), url="https://example.org/set")
    export_sets([twelve.folder], tmp_path / "data", options)
    code = """
import json, sys
from cffconvert import Citation
citation = Citation(open(sys.argv[1]).read())
citation.validate()
print(json.dumps(["bibtex", citation.as_bibtex()]))
"""
    ((_, bibtex),) = ran(code, tmp_path / "data" / "CITATION.cff", cache=tmp_path / "cache")
    assert "A. Person" in str(bibtex)


WRITERS = {
    "datasets": """
import sys
from pathlib import Path
from datasets import Dataset, Image
paths = sorted(Path(sys.argv[1]).glob("*.png"))
table = {"id": [path.stem for path in paths], "image": [str(path) for path in paths]}
rows = Dataset.from_dict(table).cast_column("image", Image())
from datasets.table import embed_table_storage
rows = rows.with_format("arrow").map(embed_table_storage, batched=True).with_format(None)
rows.to_parquet(f"{sys.argv[2]}/all.parquet")
""",
    "webdataset": """
import sys
from pathlib import Path
import webdataset
with webdataset.TarWriter(f"{sys.argv[2]}/all.tar") as file:
    for path in sorted(Path(sys.argv[1]).glob("*.png")):
        file.write({"__key__": path.stem, "png": path.read_bytes()})
""",
}


@pytest.mark.parametrize("library", WRITERS)
def test_outputs_that_a_library_writes_are_checked(library: str, twelve: BenchSet, tmp_path: Path) -> None:
    needs(library)
    expected = check(submit(twelve.folder, tmp_path / "loose"), twelve.folder)
    sub = tmp_path / "sub" / "outputs"
    sub.mkdir(parents=True)
    shutil.copy(tmp_path / "loose" / "submission.toml", sub.parent)
    ran(WRITERS[library], tmp_path / "loose" / "outputs", sub, cache=tmp_path / "cache")
    report = check(sub.parent, twelve.folder)
    assert report.problems == expected.problems
    assert report.pixels == expected.pixels
    assert len(report.pixels) == 12
