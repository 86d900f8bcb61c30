"""The formats strangers hand us: sound samples, the package's own reader, and what a reading means.

A reader returns a meaning that compares equal for equal content, or raises what the package promises.
`sealed` formats carry checksums: what is accepted must mean the sample's own content. `inside` damages a
file below its checksums, so that mutation reaches the code behind them.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import safetensors.numpy
from PIL import Image as PillowImage

sys.path.append(
    str(Path(__file__).parents[1])
)  # run as a script, the other modules of the tests are not found

from cards import make_card, make_table
from mutations import mutated
from submissions import CARD

from palette_bench.benchset import folders, foreign_masks, manifest, pictures, splits
from palette_bench.benchset.pictures import Place
from palette_bench.core import png
from palette_bench.core.fingerprint import pixel_digest, sha256
from palette_bench.core.journal import Journal
from palette_bench.core.resources import protocol_file
from palette_bench.scoring import folders as compared
from palette_bench.scoring import statistics_files
from palette_bench.scoring.features import cache
from palette_bench.scoring.scorecard import read_scorecard, read_table, write_scorecard
from palette_bench.submission.card import SubmissionCard
from palette_bench.submission.files import open_submission
from palette_bench.tasks import preprocess
from palette_bench.tasks.protocol import ProtocolSpec

LARGEST_PICTURE = 5 * 4 * 179_000_000  # as many pixels as Pillow lets pass, decoded and converted
SIDE = 16
WIDTH = 6  # of the features in statistics files


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Attributes:
        file: the name it is read under.
        samples: sound files.
        read: returns the meaning of a file.
        inside: damages a sample below its checksums; None where there are none.
        sealed: accepted means unchanged, unless damaged `inside`.
        beside: further files its reader needs, by name.
        memory: bytes a reading may take.
    """

    file: str
    samples: tuple[bytes, ...]
    read: Callable[[Path], Any]
    inside: Callable[[bytes, Random], bytes] | None = None
    sealed: bool = False
    beside: tuple[tuple[str, bytes], ...] = ()
    memory: int = 50_000_000


def _pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


# --- PNG of a submission ------------------------------------------------------------------------


def _read_png(path: Path) -> str:
    return pixel_digest(png.decode_strict(png.read_regular(path), SIDE, SIDE, 3)[0])


def _inside_png(data: bytes, random: Random) -> bytes:
    """Damage header or rows, and write all checksums anew."""
    header, rows = data[16:29], zlib.decompress(data[data.index(b"IDAT") + 4 : -16])
    if random.random() < 0.5:
        header = mutated(header, random)
    else:
        rows = mutated(rows, random)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return png._SIGNATURE + b"".join(png._chunk(*chunk) for chunk in chunks)


# --- archives -----------------------------------------------------------------------------------


def _zip(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("submission.toml", CARD)
        for name in ("a", "b", "c"):
            archive.writestr(f"outputs/{name}.png", png.encode(_pixels(ord(name), SIDE, SIDE, 3)))
    return buffer.getvalue()


_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def _read_zip(path: Path) -> frozenset[str]:
    """Return the digests of what can be read: a name may be damaged twice alike, a content never."""
    found, refused = set(), 0
    with open_submission(path, n_ids=12) as submission:
        for name in submission.names:
            try:
                found.add(sha256(submission.read(name)))
            except png.PngError:
                refused += 1
    if refused:
        raise png.PngError("PB305", "whole members", f"{refused} refused")
    return frozenset(found)


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in ("x/a.png", "b.jpg"):
            data = _picture("PNG", "RGB")
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _read_tar(path: Path) -> list[Any]:
    places = pictures.find_pictures(path, "", lambda name: True)
    return [(place.name, len(place.read())) for place in places]


# --- pictures of a source -----------------------------------------------------------------------


def _picture(kind: str, mode: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    PillowImage.fromarray(_pixels(3, 70, 66, 3)).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


_EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
_SOURCES = (
    _picture("JPEG", "RGB", quality=90, exif=_EXIF),
    _picture("JPEG", "CMYK", progressive=True),
    _picture("JPEG", "L", comment=b"a comment"),
    _picture("PNG", "P"),
    _picture("PNG", "RGB"),
    _picture("PNG", "1"),
)


_COMPARED = (*_SOURCES, _picture("PNG", "RGBA"), _picture("PNG", "LA"))


def _read_source(path: Path) -> str:
    data = Place(path.name, path).read()
    size = preprocess.picture_size(data)
    pixels = preprocess.decode(data)
    assert pixels.shape == (*size, 3), "decoded in another size than announced"
    preprocess.decode_upright(data)
    return pixel_digest(pixels)


def _read_compared(path: Path) -> str:
    side = compared.FolderPictures([path], alpha="drop", sixteen_bit="div257")
    side.by_size()
    return pixel_digest(side.read(0))


def _read_mask(path: Path) -> str:
    return sha256(foreign_masks._picture_mask(path, SIDE, (255,)).tobytes())


def _masks() -> tuple[bytes, ...]:
    mask = PillowImage.fromarray((_pixels(5, SIDE, SIDE) > 127).astype(np.uint8) * 255)
    buffers = {kind: io.BytesIO() for kind in ("PNG", "BMP", "TIFF")}
    for kind, buffer in buffers.items():
        mask.save(buffer, kind)
    return tuple(buffer.getvalue() for buffer in buffers.values())


# --- arrays -------------------------------------------------------------------------------------


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _statistics() -> bytes:
    spread = np.random.default_rng(1).normal(size=(20, WIDTH))
    return _npz(mu=spread.mean(axis=0), sigma=np.cov(spread, rowvar=False))


def _inside_zip(data: bytes, random: Random) -> bytes:
    """Damage the content of one member, and write the archive anew."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        names = old.namelist()
        chosen = random.choice(names)
        for name in names:
            data = old.read(name)
            new.writestr(name, mutated(data, random) if name == chosen else data)
    return buffer.getvalue()


def _read_statistics(path: Path) -> str:
    moments = statistics_files.read_statistics(path, 20, WIDTH).moments
    assert moments.covariance.shape == (WIDTH, WIDTH)
    assert np.isfinite(moments.covariance).all()
    return sha256(moments.mean.tobytes() + moments.covariance.tobytes())


def _release() -> bytes:
    names = foreign_masks._RELEASE_MEMBERS.values()
    return _npz(**{name: _pixels(i, 2 * foreign_masks._RELEASE_BYTES) for i, name in enumerate(names)})


def _read_release(path: Path) -> str:
    foreign_masks._release_member.cache_clear()
    return sha256(foreign_masks._release_member(path, "freeform-10-20", 2).tobytes())


_ARRAYS = {"pool": np.ones((3, 4), np.float32), "logits": np.zeros((3, 2), np.float32)}


def _cached() -> bytes:
    return safetensors.numpy.save(_ARRAYS, {"payload": cache._payload_digest(_ARRAYS)})


def _read_cached(path: Path) -> Any:
    """Return what the cache hands out: the arrays bit for bit, or nothing, which means computing them."""
    store = cache.ArrayCache("x")
    store._folder = path.parent
    arrays = store.load(path.stem)
    if arrays is None:
        raise png.PngError("PB808", "an intact entry", "a damaged one")
    return cache._payload_digest(arrays)


def _inside_header(data: bytes, random: Random) -> bytes:
    """Damage the JSON header of a safetensors file, and write its length anew."""
    size = int.from_bytes(data[:8], "little")
    header = mutated(data[8 : 8 + size], random)
    return struct.pack("<Q", len(header)) + header + data[8 + size :]


def _read_pack(path: Path) -> Any:
    from palette_bench.baselines.training import data as training

    found = training.open_pictures([path], "yes")
    training._mapped.cache_clear()
    return [pixel_digest(found.pixels(index)) for index in range(min(len(found), 4))]


def _read_tensors(path: Path) -> Any:
    from palette_bench.scoring.features.tensors import parse_tensors

    return sorted((name, tuple(t.shape)) for name, t in parse_tensors(path.read_bytes(), path.name).items())


def _run() -> bytes:
    about = {"recipe": "method = 1", "method": "palette", "step": "3"}
    return safetensors.numpy.save(_ARRAYS, about)


def _read_run(path: Path) -> Any:
    from palette_bench.baselines.training.run import open_run
    from palette_bench.submission.runs import _said_by

    _said_by(path)
    run = open_run(path)
    return run.method, run.step, sorted(run.tensors)


def _torch_file() -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save({"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2)}, buffer)
    return buffer.getvalue()


# --- records and tables -------------------------------------------------------------------------


_VALUE = re.compile(rb'"[^"\n]*"|\b[0-9.]+\b|true|false|null')
_LITERALS = (
    *(
        b"nan",
        b"NaN",
        b"inf",
        b"-1",
        b"0",
        b"1e999",
        b"9" * 30,
        b"9" * 5000,
        b"true",
        b"null",
        b'""',
        b"[]",
        b"{}",
    ),
    *(
        b"[" * 900 + b"]" * 900,
        b'"../../x"',
        b'"\\u0000"',
        b'"\\u202e"',
        b'"\\ud800"',
        b'"' + b"x" * 999 + b'"',
    ),
    *(b'"javascript:x"', b'"https://a b"', b"1979-05-27", b"0x10", b'"\xc3\xa9"', b"3.0", b"1.5"),
)


def _inside_text(data: bytes, random: Random) -> bytes:
    """Put another value where one stands: the syntax mostly survives."""
    place = random.choice(list(_VALUE.finditer(data)))
    return data[: place.start()] + random.choice(_LITERALS) + data[place.end() :]


_CARD = CARD.format(
    slug="a-method", protocol="smoke", source="smoke-photos", task="jpeg", variant="qf5",
    fingerprint="0" * 64, samples=1,
).encode()  # fmt: skip


def _public() -> bytes:
    items = [{"id": f"p{i}", "input_px": "1" * 64, "mask_px": None} for i in range(3)]
    head = {"schema": manifest.PublicSet.schema_name(), "protocol": "smoke", "task": "jpeg", "variant": "qf5"}
    return json.dumps({**head, "source": "s", "set_fingerprint": "0" * 64, "items": items}).encode()


def _scorecard(folder: Path) -> tuple[bytes, bytes]:
    """Return a card and its table."""
    table = make_table([f"p{i}" for i in range(5)])
    write_scorecard(make_card(table), table, folder / "card.json")
    return (folder / "card.json").read_bytes(), (folder / "card.images.csv.gz").read_bytes()


def _read_card(path: Path) -> Any:
    card = read_scorecard(path)
    assert card.digest() == card.content_sha256
    return card.to_json()


def _read_table(path: Path) -> str:
    card = path.with_name("card.json")
    return sha256(read_table(read_scorecard(card), card).to_csv().encode())


def _inside_gzip(data: bytes, random: Random) -> bytes:
    return gzip.compress(mutated(gzip.decompress(data), random))


_JOURNAL_HEADER = {"set": "s", "key": 1}
_ENTRIES = [{"id": f"p{i}", "px": "0" * 64, "drawn": {"x": i}} for i in range(3)]


def _journal(folder: Path) -> bytes:
    journal = Journal(folder, _JOURNAL_HEADER)
    journal.start(_ENTRIES)
    return journal.path.read_bytes()


def _read_journal(path: Path) -> Any:
    entries = Journal(path.parent, _JOURNAL_HEADER).entries
    assert all(entry in _ENTRIES for entry in entries.values()), "an entry nobody wrote"
    return sorted(entries)


def _labels_csv() -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["file", "label"], ["a.png", 3], ["b.png", 999]])
    return buffer.getvalue().encode()


def _read_labels(path: Path) -> Any:
    return folders._csv_labels(path, [Place("a.png", path), Place("x/b.png", path)])


_IMAGENET_LABELS = (
    b"".join(b"%d\n" % (i % 7) for i in range(30)),
    b"".join(b"ILSVRC2012_val_%08d.JPEG %d\n" % (i, i % 7) for i in range(1, 9)),
    b"".join(b"ILSVRC2012_val_%08d.JPEG n%08d\n" % (i, i) for i in range(1, 1001)),
    b"ImageId,PredictionString\n"
    + b"".join(b"ILSVRC2012_val_%08d,n%08d 1 2 3 4 \n" % (i, i) for i in range(1, 1001)),
)


def formats(folder: Path) -> dict[str, Format]:
    """Return every format by name; `folder` is for writing samples."""
    card, table = _scorecard(folder)
    beside = (("card.json", card),)
    protocol = protocol_file("smoke", "protocol.toml")
    pack = safetensors.numpy.save({"pictures": _pixels(2, 3, 8, 8, 3)})
    return {
        "png": Format("a.png", (png.encode(_pixels(1, SIDE, SIDE, 3)),), _read_png, _inside_png, True),
        "zip": Format("a.zip", tuple(map(_zip, _METHODS)), _read_zip, _inside_zip, True),
        "tar": Format("a.tar", (_tar(),), _read_tar),
        "source-picture": Format("a.jpg", _SOURCES, _read_source, memory=LARGEST_PICTURE),
        "compared-picture": Format("a.png", _COMPARED, _read_compared, memory=LARGEST_PICTURE),
        "mask-picture": Format("a.png", _masks(), _read_mask, memory=LARGEST_PICTURE),
        "npz-statistics": Format("a.npz", (_statistics(),), _read_statistics, _inside_zip),
        "npz-masks": Format("a.npz", (_release(),), _read_release, _inside_zip),
        "safetensors-cache": Format("a.safetensors", (_cached(),), _read_cached, _inside_header, True),
        "safetensors-pack": Format("a.safetensors", (pack,), _read_pack, _inside_header),
        "safetensors-weights": Format("a.safetensors", (_cached(),), _read_tensors, _inside_header),
        "safetensors-run": Format("a.safetensors", (_run(),), _read_run, _inside_header),
        "torch-weights": Format("a.pth", (_torch_file(),), _read_tensors, _inside_zip),
        "toml-card": Format("submission.toml", (_CARD,), SubmissionCard.read, _inside_text),
        "toml-protocol": Format("protocol.toml", (protocol,), ProtocolSpec.read, _inside_text),
        "json-public": Format("public.json", (_public(),), manifest.PublicSet.read, _inside_text),
        "json-scorecard": Format("card.json", (card,), _read_card, _inside_text, True),
        "csv-gz-table": Format("card.images.csv.gz", (table,), _read_table, _inside_gzip, True, beside),
        "jsonl-journal": Format("journal.0-of-1.jsonl", (_journal(folder),), _read_journal, _inside_text),
        "csv-labels": Format("labels.csv", (_labels_csv(),), _read_labels, _inside_text),
        "txt-labels": Format("labels.txt", _IMAGENET_LABELS, splits.read_imagenet_labels, _inside_text),
    }
