"""Files of strangers: refused with a code or read rightly; never a crash, a hang, memory, or another content.

`mutate.py` damages sound files; `--count` runs it for longer than the tests here do.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formats import formats
from hypothesis import given, settings
from hypothesis import strategies as st
from kind import Format
from mutate import damaged, run
from mutations import mutated
from PIL import Image as PillowImage

from palette_bench.benchset import folders, foreign_masks, images, manifest, splits
from palette_bench.benchset.images import ImageLocation
from palette_bench.core import png
from palette_bench.core.errors import PaletteBenchError, RecordError, SourceError
from palette_bench.core.fingerprint import sha256
from palette_bench.core.journal import Journal
from palette_bench.core.npz import NpzError, member_names, read_npz
from palette_bench.scoring.scorecard import read_scorecard, read_table, table_path
from palette_bench.scoring.statistics_files import read_statistics
from palette_bench.submission.card import SubmissionCard
from palette_bench.tasks.preprocess import DecodeError, decode, decode_upright, image_size

COUNT = 200  # per format; python tests/faults/mutate.py runs 10,000
NAMES = (
    *("png", "zip", "tar", "source-image", "compared-image", "mask-image", "npz-statistics"),
    *("npz-masks", "safetensors-cache", "safetensors-pack", "safetensors-weights", "safetensors-run"),
    *("torch-weights", "toml-card", "toml-protocol", "json-public", "json-scorecard", "csv-gz-table"),
    *("jsonl-journal", "csv-labels", "txt-labels"),
)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Format]:
    return formats(tmp_path_factory.mktemp("samples"))


def test_every_format_is_damaged(table: dict[str, Format]) -> None:
    assert tuple(table) == NAMES


@pytest.mark.trust(
    "check: any byte",
    "check: hostile zip",
    "all: bad TOML",
    "restore: hostile weights",
    "generate: odd images",
)
@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_refused_or_read_rightly(
    name: str, table: dict[str, Format], tmp_path: Path
) -> None:
    tally = run(table[name], range(COUNT), tmp_path)
    assert tally.faults == []
    refused = sum(count for outcome, count in tally.outcomes.items() if outcome.startswith("PB"))
    assert refused > COUNT / 10 or name == "jsonl-journal"  # a torn journal is no error: items are redone


def test_a_seed_damages_alike_every_time(table: dict[str, Format]) -> None:
    for name in ("png", "zip", "toml-card"):
        assert damaged(table[name], 7) == damaged(table[name], 7)
    assert len({mutated(b"0123456789" * 9, random.Random(seed)) for seed in range(50)}) > 45


def test_the_long_run_prints_a_line_per_format(tmp_path: Path) -> None:
    script = Path(__file__).with_name("mutate.py")
    done = subprocess.run(
        [sys.executable, script, "--count", "3", "--format", "toml-card"],
        capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("toml-card")


# --- structure: checksums right, everything else drawn ------------------------------------------


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                [b"IHDR", b"IDAT", b"IEND", b"PLTE", b"tRNS", b"acTL", b"tEXt", b"ABCD", b"1234"]
            ),
            st.binary(max_size=20),
        ),
        max_size=6,
    )
)
@settings(max_examples=150)
@pytest.mark.trust("check: any byte")
def test_chunks_in_any_order_with_right_checksums_are_refused(chunks: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(png.PngError):
        png.decode_strict(png._SIGNATURE + b"".join(png._chunk(*chunk) for chunk in chunks), 4, 4, 3)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 255), st.integers(0, 255))
@settings(max_examples=100)
def test_only_the_header_of_the_set_is_taken(height: int, width: int, depth: int, colour: int) -> None:
    header = struct.pack(">2I5B", width, height, depth, colour, 0, 0, 0)
    data = png._assemble(header, zlib.compress(bytes(4 * 13)))
    if (height, width, depth, colour) == (4, 4, 8, 2):
        png.decode_strict(data, 4, 4, 3)
    else:
        with pytest.raises(png.PngError):
            png.decode_strict(data, 4, 4, 3)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
@settings(max_examples=100)
@pytest.mark.trust("all: bad TOML")
def test_any_json_is_refused_with_a_code(value: Any) -> None:
    for cls in (SubmissionCard, manifest.PublicSet):
        with pytest.raises(RecordError, match="PB4"):
            cls.parse(json.dumps(value).encode(), "x.json")
        if isinstance(value, dict):
            with pytest.raises(RecordError, match="PB4"):
                cls.parse(json.dumps({"schema": cls.schema_name(), **value}).encode(), "x.json")


@given(st.binary(max_size=60))
@settings(max_examples=100)
@pytest.mark.trust("check: not finite")
def test_any_array_header_is_refused(header: bytes) -> None:
    npy = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(16)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", npy)
    with pytest.raises(NpzError):
        read_npz(buffer, {"x": (2,)}, ("<f8",))


# --- what damaging files once brought to light --------------------------------------------------


def test_a_damaged_tar_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "pictures.tar"
    with tarfile.open(path, "w") as archive:
        for name in ("a.png", "b.png"):
            member = tarfile.TarInfo(name)
            member.size = 600
            archive.addfile(member, io.BytesIO(bytes(600)))
    whole = path.read_bytes()
    assert [place.name for place in images.tar_members(path)] == ["a.png", "b.png"]
    for damage in (whole[:700], whole[:1600], whole[:512].replace(b"a.png", b"c.png") + whole[512:]):
        path.write_bytes(damage)
        with pytest.raises(SourceError, match=r"PB309[\s\S]*pictures\.tar"):
            list(images.tar_members(path))


def test_pixel_bombs_are_refused_wherever_images_are_read(tmp_path: Path) -> None:
    bomb = png._assemble(struct.pack(">2I5B", 60_000, 60_000, 8, 0, 0, 0, 0), zlib.compress(bytes(9)))
    (path := tmp_path / "a.png").write_bytes(bomb)
    for reader in (image_size, decode, decode_upright):
        with pytest.raises(DecodeError, match="exceeds limit"):
            reader(bomb)
    with pytest.raises(SourceError, match="PB309"):
        foreign_masks._image_mask(path, 256, (255,))


def test_a_mask_of_another_size_is_refused_before_its_pixels_are_read(tmp_path: Path) -> None:
    large = png._assemble(struct.pack(">2I5B", 9000, 9000, 8, 0, 0, 0, 0), zlib.compress(b"no pixels"))
    (path := tmp_path / "a.png").write_bytes(large)
    with pytest.raises(SourceError, match=r"found +9000 x 9000 pixels"):
        foreign_masks._image_mask(path, 256, (255,))


@pytest.mark.trust("check: not finite")
def test_a_header_that_does_not_end_is_pb412(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (2,"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mu.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    (path := tmp_path / "s.npz").write_bytes(buffer.getvalue())
    with pytest.raises(RecordError, match="PB412"):
        read_statistics(path, 5, 2, "tf1")


def test_bytes_after_an_array_and_files_that_are_no_archive(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(values := io.BytesIO(), np.zeros(3))
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", values.getvalue() + b"more")
    with pytest.raises(NpzError, match="after its values"):
        read_npz(buffer, {"x": (3,)}, ("<f8",))
    with pytest.raises(NpzError, match="not a zip"):
        member_names(io.BytesIO(b"PK"))
    (path := tmp_path / "masks.npz").write_bytes(b"PK")
    with pytest.raises(SourceError, match="PB309"):
        foreign_masks._release_member(path, "freeform-10-20", 1)


@pytest.mark.parametrize(
    "text",
    [
        b"file,label\na.png,\xff\n",
        b'file,label\n"a.png\x00,1\n',
        b"file,label\na.png," + b"9" * 5000,
        b"file,label\n,",
    ],
)
def test_tables_of_labels_in_no_form_are_pb607(text: bytes, tmp_path: Path) -> None:
    (path := tmp_path / "labels.csv").write_bytes(text)
    with pytest.raises(SourceError, match="PB607"):
        folders._csv_labels(path, [ImageLocation("a.png", path)])


@pytest.mark.parametrize(
    "text", ["ImageId,PredictionString\nx\n", "ImageId,P\na,\n", "9" * 5000, "x " + "9" * 5000]
)
def test_lists_of_labels_in_no_form_are_pb607(text: str, tmp_path: Path) -> None:
    (path := tmp_path / "labels.txt").write_text(text)
    with pytest.raises(SourceError, match="PB607"):
        splits.read_imagenet_labels(path)


@pytest.mark.trust("generate: torn journal")
def test_a_journal_believes_no_line_it_did_not_write(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {"set": "s"})
    journal.start([{"id": "a", "drawn": 1}, {"id": "b", "drawn": 2}])
    whole = journal.path.read_text()
    for damage in (
        whole.replace('"drawn":2', '"drawn":3'),
        whole + "5\n",
        whole + '{"no": "id"}\n',
        whole[:-9],
    ):
        journal.path.write_text(damage)
        entries = Journal(tmp_path, {"set": "s"}).entries
        assert entries["a"] == {"id": "a", "drawn": 1}
        assert entries.get("b") in (None, {"id": "b", "drawn": 2})


@pytest.mark.trust("check: bombs", "report: edited")
def test_a_table_that_unpacks_to_gigabytes_is_refused_early(
    table: dict[str, Format], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from palette_bench.scoring import scorecard

    (card := tmp_path / "card.json").write_bytes(table["json-scorecard"].samples[0])
    monkeypatch.setattr(scorecard, "_LARGEST_TABLE", 1000)
    table_path(card).write_bytes(gzip.compress(bytes(100_000)))
    with pytest.raises(RecordError, match="PB408"):
        read_table(read_scorecard(card), card)


def test_a_torch_file_that_unpickles_to_nonsense_is_pb705() -> None:
    from palette_bench.runtime.tensors import parse_tensors

    for data in (b"", b"\x80", b"PK\x03\x04", b"x" * 8 + b"{" + b"x" * 50, struct.pack("<Q", 9) + b"{" * 9):
        with pytest.raises(PaletteBenchError, match="PB705"):
            parse_tensors(data, "w.pth")


def test_a_sound_image_still_means_what_it_did() -> None:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (70, 66, 3), dtype=np.uint8)
    PillowImage.fromarray(pixels).save(buffer, "PNG")
    assert sha256(decode(buffer.getvalue()).tobytes()) == sha256(pixels.tobytes())
