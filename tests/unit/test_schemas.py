"""Published records: their schemas are current, files of the past load, files of the future are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pydantic
import pytest
from common import REPOSITORY

from palette_bench.benchset.manifest import Manifest, Selection
from palette_bench.board.record import read_proven
from palette_bench.board.schemas import PUBLISHED, schema_texts, write_schemas
from palette_bench.core.errors import RecordError
from palette_bench.core.records import Record, canonical_json
from palette_bench.core.resources import report_text
from palette_bench.scoring.scorecard import read_scorecard

GOLDEN = REPOSITORY / "tests" / "golden" / "records"
MODELS = {model.kind: model for model in PUBLISHED}
FIXTURES = sorted(GOLDEN.glob("*.json"))


def model_of(fixture: Path) -> type[Record]:
    return MODELS[fixture.name.rpartition("-")[0]]


@pytest.mark.skipif(
    tuple(map(int, pydantic.VERSION.split(".")[:2])) < (2, 13),
    reason="older pydantic words schemas otherwise",
)
def test_the_schemas_shipped_are_those_of_the_models(tmp_path: Path) -> None:
    """If this fails: python -m palette_bench.board.schemas reports/schemas, and look at the difference."""
    texts = schema_texts()
    shipped = {path.name for path in (REPOSITORY / "reports" / "schemas").iterdir()}
    assert shipped == {fixture.name for fixture in FIXTURES}  # those of earlier versions stay
    assert [name for name, text in texts.items() if report_text(f"schemas/{name}") != text] == []
    write_schemas(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == texts


def test_every_published_version_has_a_fixture() -> None:
    assert {f.name for f in FIXTURES} >= set(schema_texts())


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.stem)
def test_old_files_load_and_say_the_same_again(fixture: Path) -> None:
    record = model_of(fixture).read(fixture)
    assert record.to_json() == fixture.read_text()


def test_an_old_card_still_proves_its_digest_and_its_table() -> None:
    card, table = read_proven(GOLDEN / "scorecard-1.0.json")
    assert card.sampling.flop_per_image is None  # a key younger than the card
    assert len(table) == card.n_scored


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.stem)
def test_files_validate_against_their_schema_and_others_do_not(fixture: Path) -> None:
    schema = json.loads(report_text(f"schemas/{fixture.name}"))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    value = json.loads(fixture.read_text())
    validator.validate(value)
    assert not validator.is_valid(value | {"schema": f"palette-bench/{model_of(fixture).kind}/1.9"})
    assert not validator.is_valid(value | {"surprise": 1})
    assert not validator.is_valid({key: value[key] for key in sorted(value)[1:]})


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.stem)
@pytest.mark.parametrize("version", ["1.9", "2.0", "0.9", "1.0.1"])
def test_newer_and_unknown_versions_are_refused(fixture: Path, version: str) -> None:
    value: dict[str, Any] = json.loads(fixture.read_text())
    newer = canonical_json(value | {"schema": f"palette-bench/{model_of(fixture).kind}/{version}"})
    with pytest.raises(RecordError, match="PB411"):
        model_of(fixture).parse(newer.encode(), fixture.name)


def test_an_old_manifest_does_not_know_how_its_images_were_chosen() -> None:
    assert Manifest.read(GOLDEN / "manifest-1.0.json").selection is None
    chosen = Manifest.read(GOLDEN / "manifest-1.1.json").selection
    assert chosen == Selection(rule="ids", candidates=3)


def test_a_changed_digit_is_refused(tmp_path: Path) -> None:
    text = (GOLDEN / "scorecard-1.0.json").read_text()
    (tmp_path / "card.json").write_text(text.replace('"value": 3.1', '"value": 3.0'))
    with pytest.raises(RecordError, match="PB407"):
        read_scorecard(tmp_path / "card.json")


def test_stated_flop_are_part_of_the_digest(tmp_path: Path) -> None:
    card = read_scorecard(GOLDEN / "scorecard-1.0.json")
    told = card.model_copy(update={"sampling": card.sampling.model_copy(update={"flop_per_image": 2.5e9})})
    assert told.digest() != card.digest()
    told.signed().write(tmp_path / "card.json")
    assert read_scorecard(tmp_path / "card.json").sampling.flop_per_image == 2.5e9
