"""Base classes of record files: strict, frozen and versioned pydantic models, whose faults have error codes.

TOML is parsed, written as JSON and validated as JSON. The reason: in strict mode, pydantic refuses a Python
list for a tuple, but accepts a JSON array; without strict mode, it would convert "256" to 256.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from palette_bench.core import atomic
from palette_bench.core.errors import (
    InputError,
    Problem,
    RecordError,
    StorageError,
    errors_of,
    problem,
    suggest,
)
from palette_bench.core.fingerprint import fingerprint
from palette_bench.core.text import decode_text

_BIDI = set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")


def _plain_text(text: str) -> str:
    if any(ord(c) < 32 or ord(c) == 127 or c in _BIDI for c in text):
        raise ValueError("control and bidirectional characters are not allowed")
    return text


Slug = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{1,62}$")]
Text = Annotated[str, Field(max_length=200), AfterValidator(_plain_text)]
Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Link = Annotated[
    str, Field(pattern=r"^(https:|doi:|arXiv:)\S+$", max_length=300), AfterValidator(_plain_text)
]


class Part(BaseModel):
    """A part of a record: frozen, without unknown keys, silent conversions or NaN."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True
    )


P = TypeVar("P", bound=Part)


class SparsePart(Part):
    """A part that leaves out the keys in `sparse` while they have their default.

    So parts written before such a key existed keep their bytes and digests.
    """

    sparse: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        value: dict[str, Any] = write(self)
        for key in type(self).sparse:
            if getattr(self, key) == type(self).model_fields[key].get_default(call_default_factory=True):
                value.pop(key, None)
        return value


class Record(SparsePart):
    """A record file. `kind` names its schema, which the key `schema` of the file states.

    `added` maps each key that a minor version of the schema added to that version. The value of such a key is
    null if it is unknown. Files of earlier versions, which lack these keys, can be read, and are written in
    their own version.
    """

    kind: ClassVar[str]
    added: ClassVar[Mapping[str, int]] = {}  # key -> minor version
    schema_id: str = Field(alias="schema")

    @classmethod
    def schema_name(cls) -> str:
        """Return the schema of new records of this class, e.g. palette-bench/scorecard/1.0."""
        return f"palette-bench/{cls.kind}/1.{max(cls.added.values(), default=0)}"

    @classmethod
    def _younger(cls, schema: object) -> set[str] | None:
        """Return the keys that a version of the schema lacks; None if the version is not supported."""
        minors = range(max(cls.added.values(), default=0) + 1)
        minor = next((m for m in minors if schema == f"palette-bench/{cls.kind}/1.{m}"), None)
        return None if minor is None else {key for key, since in cls.added.items() if since > minor}

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        value = super()._without_defaults(write)
        for key in self._younger(self.schema_id) or ():
            value.pop(key, None)
        return value

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and validate a record file, TOML or JSON by its suffix.

        Raises:
            RecordError: PB401-PB404, PB411; lists all problems.
            StorageError: PB801, the file cannot be read.
        """
        return cls.parse(read_file(path), path.name)

    @classmethod
    def parse(cls, data: bytes, name: str) -> Self:
        """Return the record in the bytes of a file; `name` determines the format and is shown in problems.

        Raises:
            RecordError: PB401-PB404, PB411; lists all problems.
        """
        value = _load(data, name)
        version = value.get("schema")
        younger = cls._younger(version)
        if younger is None:
            raise RecordError.of(
                "PB411",
                f"{name}: schema",
                expected=cls.schema_name(),
                found=str(version),
                fix="update palette-bench if the file is newer, else write the expected schema",
            )
        if early := sorted(younger & value.keys()):
            fix = f"write schema {cls.schema_name()}"
            raise RecordError(*(problem("PB402", f"{name}: {key}", fix=fix) for key in early))
        return validate(cls, value, name)

    def to_json(self) -> str:
        """Return the canonical JSON text: sorted keys, two-space indent, no NaN."""
        return canonical_json(self.model_dump(mode="json", by_alias=True))

    def write(self, path: Path) -> None:
        """Write the record as JSON, atomically."""
        atomic.write_text(path, self.to_json())

    def digest(self) -> str:
        """Return the SHA-256 of the record's canonical JSON without `content_sha256`."""
        value = self.model_dump(mode="json", by_alias=True)
        value.pop("content_sha256", None)
        return fingerprint(value)


def canonical_json(value: dict[str, Any]) -> str:
    """Return the text of a JSON file: sorted keys, two-space indent, no NaN, one final line feed."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_file(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        StorageError: PB801, the file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError.of(
            "PB801", str(path), found=error.strerror or str(error), fix="check the path"
        ) from error


def _load(data: bytes, name: str) -> dict[str, Any]:
    try:
        text = decode_text(data)
        value = tomllib.loads(text) if name.endswith(".toml") else json.loads(text)
        json.dumps(value, allow_nan=False)
    except (ValueError, TypeError, RecursionError) as error:
        raise RecordError.of(
            "PB401", name, found=str(error)[:200], fix="correct the syntax; numbers must be finite"
        ) from error
    if not isinstance(value, dict):
        fix = "write a table of keys at the top level"
        raise RecordError.of("PB401", name, expected="a table", found=type(value).__name__, fix=fix)
    return value


def validate(cls: type[P], value: dict[str, Any], name: str, error_type: type[InputError] = RecordError) -> P:
    """Return `value` as an instance of `cls`.

    Args:
        cls: the model.
        value: the keys and values of the part or record.
        name: name of the file or value in problems.
        error_type: class of the raised error.

    Raises:
        error_type: PB401-PB404; lists all problems.
    """
    try:
        return cls.model_validate_json(json.dumps(value))
    except ValidationError as error:
        raise error_type(*(_as_problem(e, cls, name) for e in error.errors(include_url=False))) from None


def _as_problem(error: Any, cls: type[BaseModel], name: str) -> Problem:
    if not error["loc"]:  # pydantic's JSON parser refuses half a surrogate pair, or deep nesting
        return problem(
            "PB401", name, found=str(error["msg"]), fix="write plain text, nested a few levels deep"
        )
    path = ".".join(str(step) for step in error["loc"])
    where = f"{name}: {path}"
    if error["type"] == "extra_forbidden":
        return problem("PB402", where, fix=suggest(str(error["loc"][-1]), _keys_at(cls, error["loc"][:-1])))
    if error["type"] == "missing":
        return problem("PB403", where, expected="a value", found="nothing", fix="add the key")
    found = repr(error["input"])[:80]
    if error["loc"][-1] == "slug":
        fix = "use 2 to 63 lower-case letters, digits and hyphens; do not begin with a hyphen"
        return problem("PB404", where, expected=str(error["msg"]), found=found, fix=fix)
    return problem("PB403", where, expected=str(error["msg"]), found=found, fix="write such a value")


def _keys_at(cls: Any, loc: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the model allows at `loc`, for a suggestion."""
    for step in loc:
        field = getattr(cls, "model_fields", {}).get(step)
        cls = field.annotation if field else cls
    fields = getattr(cls, "model_fields", {})
    return [f.alias or key for key, f in fields.items()]


def raise_errors(problems: list[Problem], error_type: type[InputError]) -> None:
    """Raise `error_type` with all problems, if at least one of them is an error."""
    if errors_of(problems):
        raise error_type(*problems)


def today() -> str:
    """Return the current UTC date for records, or that of SOURCE_DATE_EPOCH if set, as YYYY-MM-DD."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.date().isoformat()
