"""A page for each JSON schema of record files: what the record is, its keys, and the schema itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from website.markdown import ROOT, Pages, code, table, toctree

FOLDER = ROOT / "reports" / "schemas"


def pages() -> Pages:
    """Return the page of each schema, and their list."""
    schemas = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))
    }
    made = {f"reference/schemas/{name}.md": _page(name, schema) for name, schema in schemas.items()}
    rows = [(f"[{code(name)}]({name}.md)", _words(schema)) for name, schema in schemas.items()]
    made["reference/schemas/index.md"] = "\n".join(
        (
            "# JSON schemas\n",
            "Schemas of record files. A record of a version that is not listed is refused "
            "([PB411](../errors/PB411.md)).\n",
            table(("schema", "what the record is"), rows),
            toctree(schemas),
        )
    )
    return made


def copy(source: Path) -> None:
    """Write the schemas beside their pages, to be downloaded."""
    target = source / "reference" / "schemas"
    target.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.json"):
        shutil.copy(path, target)


def _page(name: str, schema: dict[str, Any]) -> str:
    lines = [
        f"# {name}\n",
        f"{_words(schema)}\n",
        f"[Download {name}.json]({name}.json)\n",
        keys_table(schema),
    ]
    for part, its in sorted(schema.get("$defs", {}).items()):
        if "properties" in its:
            lines += [f"## {part}\n", f"{_words(its)}\n", keys_table(its)]
    return "\n".join(lines)


def _words(schema: dict[str, Any]) -> str:
    """Return the description of a schema as one line; paragraphs of its docstring are joined."""
    return " ".join(str(schema.get("description", "")).split())


def keys_table(schema: dict[str, Any]) -> str:
    """Return the table of the keys of a schema."""
    needed = set(schema.get("required", ()))
    rows = [
        (code(key), _type(its), "yes" if key in needed else "no")
        for key, its in schema.get("properties", {}).items()
    ]
    return table(("key", "type", "required"), rows)


def _type(its: dict[str, Any]) -> str:
    """Return the type of a key in words."""
    if choices := its.get("anyOf") or its.get("oneOf"):
        return " or ".join(dict.fromkeys(map(_type, choices)))
    if "$ref" in its:
        return str(its["$ref"]).rpartition("/")[2]
    if "const" in its:
        return code(json.dumps(its["const"]))
    if "enum" in its:
        return ", ".join(code(json.dumps(value)) for value in its["enum"])
    if its.get("type") == "array":
        inner: dict[str, Any] = its.get("items") or next(iter(its.get("prefixItems", [])), {})
        return f"array of {_type(inner)}" if inner else "array"
    if isinstance(its.get("additionalProperties"), dict):
        return f"object of {_type(its['additionalProperties'])}"
    return str(its.get("type", "any"))
