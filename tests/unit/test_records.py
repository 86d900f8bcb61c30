"""Record files: strict, versioned, every problem at once, nothing converted silently."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palette_bench.core.errors import RecordError, StorageError
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.records import Part, Record, Sha, Slug, Text, raise_errors, read_file, today


class Crew(Part):
    """A part with a key of each kind."""

    slug: Slug
    size: int


class Ship(Record):
    """A record for the tests."""

    kind: ClassVar[str] = "ship"
    name: Text
    crew: Crew
    length: float | None = None
    ports: tuple[str, ...] = ()
    content_sha256: Sha | None = None


SCHEMA = "palette-bench/ship/1.0"
SOUND: dict[str, Any] = {"schema": SCHEMA, "name": "Argo", "crew": {"slug": "argonauts", "size": 50}}


def parse(**changes: Any) -> Ship:
    return Ship.parse(json.dumps(SOUND | changes).encode(), "ship.json")


def problems_of(data: bytes, name: str = "ship.json") -> list[tuple[str, str]]:
    with pytest.raises(RecordError) as caught:
        Ship.parse(data, name)
    assert all(p.fix for p in caught.value.problems)
    return [(p.code, p.where) for p in caught.value.problems]


def problems_with(**changes: Any) -> list[tuple[str, str]]:
    return problems_of(json.dumps(SOUND | changes).encode())


TOML = b"""\
schema = "palette-bench/ship/1.0"
name = "Argo"
ports = ["Iolcus"]
[crew]
slug = "argonauts"
size = 50
"""


def test_toml_and_json_say_the_same() -> None:
    assert Ship.parse(TOML, "ship.toml") == parse(ports=["Iolcus"])


def test_a_record_survives_being_written_and_read(tmp_path: Path) -> None:
    ship = parse(length=0.1 + 0.2, ports=["Iolcus", "Lemnos"])
    ship.write(tmp_path / "ship.json")
    text = (tmp_path / "ship.json").read_text()
    assert Ship.read(tmp_path / "ship.json") == ship
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert '"length": 0.30000000000000004' in text
    assert '"content_sha256": null' in text
    assert text.endswith("}\n")


def test_the_digest_covers_everything_but_itself() -> None:
    value = json.loads(parse().to_json())
    del value["content_sha256"]
    assert parse().digest() == fingerprint(value)
    assert parse(content_sha256="0" * 64).digest() == parse().digest()
    assert parse(name="Argo II").digest() != parse().digest()


@pytest.mark.parametrize(
    "version", [None, 1, "", "palette-bench/ship/1.1", "palette-bench/ship/2.0", "palette-bench/boat/1.0"]
)
def test_another_schema_is_refused_before_anything_else_is_read(version: object) -> None:
    assert problems_with(schema=version, nonsense=1) == [("PB411", "ship.json: schema")]


@pytest.mark.parametrize(
    ("change", "code", "where"),
    [
        ({"name": 7}, "PB403", "name"),
        ({"name": None}, "PB403", "name"),
        ({"name": "x" * 201}, "PB403", "name"),
        ({"name": "line\nbreak"}, "PB403", "name"),
        ({"name": "red \x1b[31m"}, "PB403", "name"),
        ({"name": "right \u202e left"}, "PB403", "name"),
        ({"length": "12"}, "PB403", "length"),
        ({"length": True}, "PB403", "length"),
        ({"ports": "Iolcus"}, "PB403", "ports"),
        ({"ports": ["Iolcus", 2]}, "PB403", "ports.1"),
        ({"crew": {"slug": "argonauts", "size": "50"}}, "PB403", "crew.size"),
        ({"crew": {"slug": "argonauts", "size": 50.5}}, "PB403", "crew.size"),
        ({"crew": {"slug": "argonauts"}}, "PB403", "crew.size"),
        ({"crew": {"slug": "The Argonauts", "size": 50}}, "PB404", "crew.slug"),
        ({"crew": {"slug": "-a", "size": 50}}, "PB404", "crew.slug"),
        ({"crew": {"slug": "a", "size": 50}}, "PB404", "crew.slug"),
        ({"content_sha256": "A" * 64}, "PB403", "content_sha256"),
        ({"captain": "Jason"}, "PB402", "captain"),
        ({"crew": {"slug": "argonauts", "size": 50, "mood": 1}}, "PB402", "crew.mood"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(change: dict[str, Any], code: str, where: str) -> None:
    assert problems_with(**change) == [(code, f"ship.json: {where}")]


class Fleet(Record):
    """A record whose schema has grown twice."""

    kind: ClassVar[str] = "fleet"
    added: ClassVar[dict[str, int]] = {"flag": 1, "oars": 2}
    ships: int
    flag: str | None = None
    oars: int | None = None


@pytest.mark.parametrize(
    ("minor", "keys"), [(0, {}), (1, {"flag": "blue"}), (2, {"flag": None, "oars": 9}), (2, {"oars": None})]
)
def test_files_of_earlier_minor_versions_load_and_are_written_as_they_were(
    minor: int, keys: dict[str, Any]
) -> None:
    value = {"schema": f"palette-bench/fleet/1.{minor}", "ships": 3, **keys}
    fleet = Fleet.parse(json.dumps(value).encode(), "fleet.json")
    written = json.loads(fleet.to_json())
    assert {key: written[key] for key in value} == value
    assert written.keys() - value.keys() == ({"flag"} if minor == 2 and "flag" not in keys else set())
    assert Fleet.parse(fleet.to_json().encode(), "fleet.json") == fleet
    assert Fleet.schema_name() == "palette-bench/fleet/1.2"


@pytest.mark.parametrize(
    ("version", "code", "where"),
    [("1.0", "PB402", "flag"), ("1.1", "PB402", "oars"), ("1.3", "PB411", "schema")],
)
def test_a_version_never_holds_keys_of_a_later_one(version: str, code: str, where: str) -> None:
    value = {"schema": f"palette-bench/fleet/{version}", "ships": 3, "flag": "blue", "oars": 9}
    with pytest.raises(RecordError) as caught:
        Fleet.parse(json.dumps(value).encode(), "fleet.json")
    assert (code, f"fleet.json: {where}") in [(p.code, p.where) for p in caught.value.problems]


def test_all_problems_are_told_at_once() -> None:
    crew = {"slug": "NO", "sise": 50}
    assert sorted(problems_with(name=None, crew=crew, captain="Jason")) == [
        ("PB402", "ship.json: captain"),
        ("PB402", "ship.json: crew.sise"),
        ("PB403", "ship.json: crew.size"),
        ("PB403", "ship.json: name"),
        ("PB404", "ship.json: crew.slug"),
    ]


def test_an_unknown_key_is_answered_with_its_neighbour() -> None:
    with pytest.raises(RecordError, match=r"did you mean size\?"):
        parse(crew={"slug": "argonauts", "size": 50, "sise": 50})


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "ship.json"),
        (b"{", "ship.json"),
        (b"[1]", "ship.json"),
        (b"null", "ship.json"),
        (b'{"schema": "palette-bench/ship/1.0", "length": NaN}', "ship.json"),
        (b'{"schema": "palette-bench/ship/1.0", "length": 1e999}', "ship.json"),
        (b'{"schema": "palette-bench/ship/1.0", "name": "\\ud800"}', "ship.json"),
        (b'{"schema": "palette-bench/ship/1.0", "crew": ' + b"[" * 900 + b"]" * 900 + b"}", "ship.json"),
        (b"[" * 100_000, "ship.json"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "ship.json"),
        (b"\xff\xfea", "ship.json"),
        (b"a = ", "ship.toml"),
        (b"a = 1\na = 2", "ship.toml"),
        (b"a = nan", "ship.toml"),
        (b"a = 2022-07-01", "ship.toml"),
        (b"a = " + b"[" * 100_000, "ship.toml"),
        (b"\xff\xfea", "ship.toml"),
    ],
)
def test_a_file_that_is_no_table_of_finite_values_is_unreadable(data: bytes, name: str) -> None:
    assert problems_of(data, name) == [("PB401", name)]


@given(st.binary(max_size=80))
def test_any_bytes_are_refused_and_nothing_else_is_raised(data: bytes) -> None:
    for name in ("ship.json", "ship.toml"):
        with pytest.raises(RecordError):
            Ship.parse(data, name)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(["name", "crew", "length", "ports", "content_sha256", "other"]), JSON_VALUES)
def test_any_value_of_a_key_is_taken_as_it_is_or_refused(key: str, value: Any) -> None:
    try:
        ship = parse(**{key: value})
    except RecordError:
        return
    assert json.loads(ship.to_json())[key] == value


def test_terminal_commands_in_a_key_are_shown_not_obeyed() -> None:
    with pytest.raises(RecordError) as caught:
        parse(**{"\x1b[2Jgone\u202e": 1})
    assert r"ship.json: \x1b[2Jgone\u202e" in str(caught.value)


def test_records_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse().name = "Titanic"  # type: ignore[misc]


def test_an_absent_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="PB801"):
        read_file(tmp_path / "absent.json")


def test_warnings_alone_do_not_raise() -> None:
    from palette_bench.core.errors import problem

    raise_errors([problem("PB410", "training")], RecordError)
    with pytest.raises(RecordError, match=r"PB410.*\n(.*\n)*PB101"):
        raise_errors([problem("PB410", "training"), problem("PB101", "x")], RecordError)


def test_the_day_of_records_can_be_fixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1656633600")
    assert today() == "2022-07-01"
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", today())
