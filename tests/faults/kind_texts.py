"""Records and tables: TOML, JSON, journals, CSV, lists."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from pathlib import Path
from random import Random
from typing import Any

from cards import make_card, make_table
from kind import Format
from mutations import mutated
from submissions import CARD

from palette_bench.benchset import folders, manifest, splits
from palette_bench.benchset.images import ImageLocation
from palette_bench.core.fingerprint import sha256
from palette_bench.core.journal import Journal
from palette_bench.core.resources import protocol_file
from palette_bench.scoring.scorecard import read_scorecard, read_table, write_scorecard
from palette_bench.submission.card import SubmissionCard
from palette_bench.tasks.protocol import ProtocolSpec

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
    return folders._csv_labels(path, [ImageLocation("a.png", path), ImageLocation("x/b.png", path)])


_IMAGENET_LABELS = (
    b"".join(b"%d\n" % (i % 7) for i in range(30)),
    b"".join(b"ILSVRC2012_val_%08d.JPEG %d\n" % (i, i % 7) for i in range(1, 9)),
    b"".join(b"ILSVRC2012_val_%08d.JPEG n%08d\n" % (i, i) for i in range(1, 1001)),
    b"ImageId,PredictionString\n"
    + b"".join(b"ILSVRC2012_val_%08d,n%08d 1 2 3 4 \n" % (i, i) for i in range(1, 1001)),
)


def formats_of_texts(folder: Path) -> dict[str, Format]:
    """Return the formats of text; `folder` is for writing samples."""
    card, table = _scorecard(folder)
    beside = (("card.json", card),)
    protocol = protocol_file("smoke", "protocol.toml")
    return {
        "toml-card": Format("submission.toml", (_CARD,), SubmissionCard.read, _inside_text),
        "toml-protocol": Format("protocol.toml", (protocol,), ProtocolSpec.read, _inside_text),
        "json-public": Format("public.json", (_public(),), manifest.PublicSet.read, _inside_text),
        "json-scorecard": Format("card.json", (card,), _read_card, _inside_text, True),
        "csv-gz-table": Format("card.images.csv.gz", (table,), _read_table, _inside_gzip, True, beside),
        "jsonl-journal": Format("journal.0-of-1.jsonl", (_journal(folder),), _read_journal, _inside_text),
        "csv-labels": Format("labels.csv", (_labels_csv(),), _read_labels, _inside_text),
        "txt-labels": Format("labels.txt", _IMAGENET_LABELS, splits.read_imagenet_labels, _inside_text),
    }
