"""JSON Schemas of the published records, generated from the pydantic models that read them.

`python -m palette_bench.board.schemas FOLDER` writes them. `reports/schemas` contains those of this version.
Source: reports and studies, section 1.1.
"""

from __future__ import annotations

import sys
from pathlib import Path

from palette_bench.benchset.manifest import Manifest, PublicSet
from palette_bench.board.compare import CardPair
from palette_bench.board.leaderboard import Leaderboard
from palette_bench.board.method_page import MethodRecord
from palette_bench.board.record import Reviews
from palette_bench.core import atomic
from palette_bench.core.records import Record, canonical_json
from palette_bench.scoring.scorecard import Scorecard
from palette_bench.submission.card import SubmissionCard

PUBLISHED: tuple[type[Record], ...] = (
    *(SubmissionCard, Scorecard, Leaderboard, MethodRecord, CardPair, Reviews),
    *(Manifest, PublicSet),
)
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_texts() -> dict[str, str]:
    """Return the schema of every published record, by file name, e.g. scorecard-1.0.json."""
    texts = {}
    for model in PUBLISHED:
        schema = model.model_json_schema()
        # the property `schema` is fixed to the version that the schema describes
        schema["properties"]["schema"] = {"const": model.schema_name()}
        _, kind, version = model.schema_name().split("/")
        text = canonical_json({"$schema": _DIALECT, "$id": model.schema_name(), **schema})
        texts[f"{kind}-{version}.json"] = text
    return texts


def write_schemas(folder: Path) -> None:
    """Write every schema to a folder."""
    for name, text in schema_texts().items():
        atomic.write_text(folder / name, text)


if __name__ == "__main__":
    write_schemas(Path(sys.argv[1]))
